"""When each word of a clip is spoken: by a CTC model, else by the decoder's attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from fairseq2.data.tokenizers import Tokenizer

from wavellama.alignment.aligner import Aligner
from wavellama.checkpoints.hub import check_recognises, find_model
from wavellama.decoding.attention_times import attention_times
from wavellama.decoding.examples import ExampleReader
from wavellama.errors import AlignmentError
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.pipeline.jobs import Clip, to_batch
from wavellama.pipeline.options import TranscribeOptions
from wavellama.pipeline.recogniser import SpeechModel
from wavellama.transcript.types import Segment
from wavellama.units import samples_to_seconds

Times: TypeAlias = "list[tuple[float, float]]"
"""Begin and end of each word, in seconds from the beginning of the clip."""


WordTimer: TypeAlias = Callable[[Clip, Segment, Sequence[slice]], Times]
"""Returns when each word of a segment's text is spoken, of which it is given the tokens.

Words follow each other, and lie within the clip.
"""


def create_word_timer(
    model: SpeechModel, tokenizer: Tokenizer, options: TranscribeOptions
) -> WordTimer:
    """Return the best timer there is for a model.

    :raises ConfigError: the model that is to align cannot, or is not known.
    """
    if options.aligner is not None:
        source = find_model(options.aligner)
        check_recognises(source.family.kls)
        aligner = source.load(device=next(model.parameters()).device).eval()
        return partial(_aligned_times, Aligner(aligner, source.load_tokenizer()))
    if isinstance(model, Wav2Vec2LlamaModel) and model.ctc_head is None:
        return partial(_attended_times, model, ExampleReader(model))
    return partial(_aligned_times, Aligner(model, tokenizer))


def _aligned_times(aligner: Aligner, clip: Clip, segment: Segment, spans: Sequence[slice]) -> Times:
    """Align the text with the audio by CTC.

    A text that cannot be aligned (more tokens than the audio has frames, no character that the
    aligner knows) gets times in equal parts: something was hallucinated, or it is not speech.
    """
    try:
        words = aligner.align(clip.chunk.waveform, segment.text, segment.language)
    except AlignmentError:
        secs, count = samples_to_seconds(clip.num_samples), len(spans)
        return [(i * secs / count, (i + 1) * secs / count) for i in range(count)]
    return [(word.start, word.end) for word in words]


def _attended_times(
    model: Wav2Vec2LlamaModel,
    reader: ExampleReader,
    clip: Clip,
    segment: Segment,
    spans: Sequence[slice],
) -> Times:
    """Take the audio that the decoder looks at while it writes a word."""
    examples = clip.input.examples
    prefix = None if examples is None else reader.read(examples)
    times = attention_times(model, to_batch([clip], model), list(segment.tokens), prefix)
    return [(times[span.start][0], times[span.stop - 1][1]) for span in spans]
