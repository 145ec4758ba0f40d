"""When each word of a clip is spoken: by a CTC model, else by the decoder's attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, final

from fairseq2.data.tokenizers import Tokenizer

from wavellama.alignment.aligner import Aligner
from wavellama.checkpoints.hub import check_recognises, find_model
from wavellama.decoding.attention_times import attention_times
from wavellama.decoding.examples import ExampleReader
from wavellama.errors import AlignmentError
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.pipeline.jobs import Clip
from wavellama.pipeline.options import TranscribeOptions
from wavellama.pipeline.recogniser import SpeechModel, to_batch
from wavellama.transcript.types import Segment
from wavellama.units import samples_to_seconds

Times: TypeAlias = "list[tuple[float, float]]"
"""Begin and end of each word, in seconds from the beginning of the clip."""


class WordTimer(Protocol):
    """Finds the times of words; they follow each other and lie within the clip."""

    def find(self, clip: Clip, segment: Segment, spans: Sequence[slice]) -> Times:
        """Return when each word of the segment's text is spoken.

        :param spans: the tokens of each word.
        """
        ...


def create_word_timer(
    model: SpeechModel, tokenizer: Tokenizer, options: TranscribeOptions
) -> WordTimer:
    """Return the best timer there is for a model.

    :raises ConfigError: the model that is to align cannot, or is not known.
    """
    if options.aligner is not None:
        device = next(model.parameters()).device
        source = find_model(options.aligner)
        check_recognises(source.family.kls)
        return CtcWordTimer(Aligner(source.load(device=device).eval(), source.load_tokenizer()))
    if isinstance(model, Wav2Vec2LlamaModel) and model.ctc_head is None:
        return AttentionWordTimer(model)
    return CtcWordTimer(Aligner(model, tokenizer))


@final
class CtcWordTimer:
    """Aligns the text with the audio by CTC."""

    def __init__(self, aligner: Aligner) -> None:
        self._aligner = aligner

    def find(self, clip: Clip, segment: Segment, spans: Sequence[slice]) -> Times:
        """Return when each word of the segment's text is spoken.

        A text that cannot be aligned (more tokens than the audio has frames, no character that the
        aligner knows) gets times in equal parts: something was hallucinated, or it is not speech.
        """
        try:
            words = self._aligner.align_waveform(
                clip.chunk.waveform, segment.text, segment.language
            )
        except AlignmentError:
            return _equal_parts(len(spans), samples_to_seconds(clip.num_samples))
        return [(word.start, word.end) for word in words]


@final
class AttentionWordTimer:
    """Takes the audio that the decoder looks at while it writes a word."""

    def __init__(self, model: Wav2Vec2LlamaModel) -> None:
        self._model, self._examples = model, ExampleReader(model)

    def find(self, clip: Clip, segment: Segment, spans: Sequence[slice]) -> Times:
        """Return when each word of the segment's text is spoken."""
        examples = clip.input.examples
        prefix = None if examples is None else self._examples.read(examples)
        batch = to_batch([clip], self._model)
        times = attention_times(self._model, batch, list(segment.tokens), prefix)
        return [(times[span.start][0], times[span.stop - 1][1]) for span in spans]


def _equal_parts(count: int, duration: float) -> Times:
    return [(i * duration / count, (i + 1) * duration / count) for i in range(count)]
