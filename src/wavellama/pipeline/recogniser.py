"""From clips to hypotheses, by the kind of the model.

Shapes: N clips, T samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, cast, final

import torch
from fairseq2.data.tokenizers import Tokenizer
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrModel
from torch import Tensor

from wavellama.batch import AsrBatch
from wavellama.checkpoints.hub import load_model
from wavellama.decoding.biasing import Bias
from wavellama.decoding.ctc import ctc_generate, ctc_hypotheses
from wavellama.decoding.examples import ExampleReader
from wavellama.decoding.generate import generate, start
from wavellama.decoding.prompt_search import without_control
from wavellama.decoding.streaming import StreamState, decode_segments, start_stream
from wavellama.errors import NAN_FOUND, BatchError, ConfigError, DecodingError
from wavellama.model.config import Wav2Vec2LlamaStreamingConfig
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.outputs import SharedPrefix
from wavellama.pipeline.biasing import create_bias
from wavellama.pipeline.checks import check_options
from wavellama.pipeline.jobs import Clip, StreamClip, pad_clips, to_batch
from wavellama.pipeline.languages import find_languages
from wavellama.pipeline.options import Normalization, TranscribeOptions
from wavellama.search.beam import BeamRun
from wavellama.search.greedy import GreedyRun
from wavellama.search.running import SearchRun
from wavellama.search.types import Hypothesis

SpeechModel: TypeAlias = Wav2Vec2LlamaModel | Wav2Vec2AsrModel


class Recognition(NamedTuple):
    """What was recognised in one clip."""

    hypotheses: list[Hypothesis]
    """Best first."""

    language: str | None = None
    language_probability: float | None = None


ClipT = TypeVar("ClipT", bound=Clip)


class Recogniser(Protocol[ClipT]):
    """Recognises clips; what it says of one does not depend on the others."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the model's weights."""
        ...

    def recognise(self, clips: list[ClipT]) -> list[Recognition]:
        """Return what was said in each clip.

        :raises ContextTooLongError: a clip leaves no room to emit a token.
        :raises DecodingError: the model produced NaN.
        """
        ...


def create_recogniser(
    model: SpeechModel, tokenizer: Tokenizer, options: TranscribeOptions, *, is_live: bool = False
) -> Recogniser[Clip] | StreamRecogniser:
    """Return the recogniser that fits the model.

    :param is_live: whether the audio is still to be spoken.
    :raises ConfigError: the model cannot do what the options ask for.
    :raises BatchError: a language is given, but the model takes none.
    :raises UnknownLanguageError: a language's code is not in the model's table.
    """
    for code in (options.lang, *options.languages):
        check_lang(model, code)
    check_options(model, options, is_live=is_live)
    if isinstance(model, Wav2Vec2AsrModel):
        return CtcRecogniser(model)
    bias = create_bias(tokenizer, options)
    if model.syntax.is_streaming:
        return StreamRecogniser(model, options, bias)
    return LlamaRecogniser(model, options, bias, _load_draft_model(model, options))


def check_lang(model: SpeechModel, code: str | None) -> str | None:
    """Return the model's own code for a language, if one is given: ``jpn_Jpan`` for ``ja``.

    :raises BatchError: it takes none.
    :raises UnknownLanguageError: the code is not in its table.
    """
    if code is None:
        return None
    if not isinstance(model, Wav2Vec2LlamaModel) or not model.syntax.needs_language:
        raise BatchError(f"This model takes no language, but `lang` gives {code!r}.")
    return model.lang_mapping.resolve(code)


@final
class LlamaRecogniser:
    """Searches with the decoder; detects the language first where several may be spoken."""

    def __init__(
        self,
        model: Wav2Vec2LlamaModel,
        options: TranscribeOptions,
        bias: Bias,
        draft_model: Wav2Vec2AsrModel | None = None,
    ) -> None:
        """:param draft_model: a CTC model that drafts the texts."""
        self._model, self._options, self._bias = model, options, bias
        self.dtype, self._draft_model = model.encoder_proj.weight.dtype, draft_model
        self._examples = ExampleReader(model)

    def recognise(self, clips: list[Clip]) -> list[Recognition]:
        """Return what was said in each clip."""
        told = self._tell(clips)
        results: dict[int, list[Hypothesis]] = {}
        for places in self._groups(clips, told):
            results |= zip(places, self._generate(clips, told, places), strict=True)
        return [one._replace(hypotheses=results[place]) for place, one in enumerate(told)]

    def start(self, clips: Sequence[Clip]) -> RecognitionRun | None:
        """Return the recognition before its first step, which others may join; None with drafts,
        for which there is ``recognise`` alone.

        :raises ContextTooLongError: a clip leaves no room to emit a token.
        :raises DecodingError: the decoder produced NaN.
        """
        config = self._options.beam
        if self._draft_model is not None or config.ctc_draft:
            return None
        told = self._tell(clips)
        runs = []
        for places in self._groups(clips, told):
            batch, prefix = self._read(clips, told, places)
            run = start(self._model, batch, config, self._bias, prefix)
            runs.append(RecognitionRun(self._model, run, [(clips[i], told[i]) for i in places]))
        for other in runs[1:]:
            runs[0].join(other)
        return runs[0]

    def _tell(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Return what the model is told of each clip: recognitions without hypotheses."""
        told = [Recognition([], clip.input.lang) for clip in clips]
        unknown = [place for place, one in enumerate(told) if one.language is None]
        rows = find_languages(self._model, [clips[place] for place in unknown], self._options)
        for place, row in zip(unknown, rows, strict=True):
            if row is not None:
                told[place] = Recognition([], row.best, row.probabilities[row.best])
        return told

    def _groups(self, clips: Sequence[Clip], told: Sequence[Recognition]) -> list[list[int]]:
        """Return which clips are recognised together: all, or those after equal examples."""
        groups: dict[tuple[int, str | None], list[int]] = {}
        for place, (clip, one) in enumerate(zip(clips, told, strict=True)):
            given = (id(clip.input.examples), one.language)
            key = given if self._model.syntax.needs_examples else (0, None)
            groups.setdefault(key, []).append(place)
        return list(groups.values())

    def _generate(
        self, clips: Sequence[Clip], told: Sequence[Recognition], places: Sequence[int]
    ) -> list[list[Hypothesis]]:
        """Return the hypotheses of some of the clips."""
        batch, prefix = self._read(clips, told, places)
        drafts = None
        if self._draft_model is not None:
            drafts = ctc_generate(self._draft_model, batch.audio, batch.audio_lens)
        model, search = self._model, self._options.beam
        return generate(model, batch, search, bias=self._bias, prefix=prefix, drafts=drafts)

    def _read(
        self, clips: Sequence[Clip], told: Sequence[Recognition], places: Sequence[int]
    ) -> tuple[AsrBatch, SharedPrefix | None]:
        """Return some of the clips, and their examples, which are read once for all of them."""
        batch = to_batch([clips[place] for place in places], self._model)
        batch = replace(batch, langs=[told[place].language for place in places])
        if not self._model.syntax.needs_examples:
            return batch, None
        examples = clips[places[0]].input.examples or ()
        return batch, self._examples.read(examples, told[places[0]].language)


@final
class RecognitionRun:
    """Clips that are being recognised; between two steps others may join, and any leave."""

    def __init__(
        self,
        model: Wav2Vec2LlamaModel,
        run: BeamRun | GreedyRun,
        rows: Sequence[tuple[Clip, Recognition]],
    ) -> None:
        """:param rows: the clips, and what is known of them."""
        self._model, self._run = model, cast("SearchRun[Any]", run)
        self._rows = dict(enumerate(rows))

    @property
    def clips(self) -> list[Clip]:
        """The clips that are not done yet."""
        return [clip for clip, _ in self._rows.values()]

    @torch.no_grad()
    def step(self) -> list[tuple[Clip, Recognition]]:
        """Let the texts grow by a token at least; return the clips whose texts have ended.

        :raises DecodingError: the decoder produced NaN.
        """
        ended = []
        for number, hypotheses in self._run.step().items():
            clip, told = self._rows.pop(number)
            found = without_control(self._model, hypotheses)
            ended.append((clip, told._replace(hypotheses=found)))
        return ended

    def join(self, other: RecognitionRun) -> None:
        """Take over the clips of another recognition, with the same model and options."""
        begun = self._run.num_begun
        self._run.join(other._run)
        self._rows |= {begun + number: row for number, row in other._rows.items()}

    def leave(self, clips: Sequence[Clip]) -> None:
        """Forget some of the clips before they are done."""
        gone = set(map(id, clips))
        numbers = {number for number, (clip, _) in self._rows.items() if id(clip) in gone}
        self._run.leave(numbers)
        for number in numbers:
            del self._rows[number]

    def give_up(self) -> list[Clip]:
        """Forget the clips that are not done yet, and return them."""
        clips = self.clips
        self._rows.clear()
        return clips


@final
class CtcRecogniser:
    """Takes the likeliest path of a CTC model."""

    def __init__(self, model: Wav2Vec2AsrModel) -> None:
        self._model, self.dtype = model, next(model.parameters()).dtype

    def recognise(self, clips: list[Clip]) -> list[Recognition]:
        """Return what was said in each clip."""
        audio, lens = pad_clips(clips, self._model)
        paths = ctc_hypotheses(self._model, audio, lens)
        if any(math.isnan(path.score) for path in paths):
            raise DecodingError(NAN_FOUND)
        return [Recognition([path]) for path in paths]


@final
class StreamRecogniser:
    """Searches with a streaming model, one segment of each stream at a time."""

    def __init__(self, model: Wav2Vec2LlamaModel, options: TranscribeOptions, bias: Bias) -> None:
        self._model, self._options, self._bias = model, options, bias
        self.dtype = model.encoder_proj.weight.dtype

    @property
    def config(self) -> Wav2Vec2LlamaStreamingConfig:
        """How the model cuts its audio."""
        return self._model.streaming_config

    @property
    def normalization(self) -> Normalization:
        """Whether whole inputs are normalised, or each segment by what came before it."""
        return self._options.normalization or "clip"

    def start(self, lang: str | None, normalize: Callable[[Tensor], Tensor]) -> StreamState:
        """Begin a stream; ``normalize`` makes of a segment's samples what the encoder reads."""
        return start_stream(self._model, lang, normalize)

    def recognise(self, clips: list[StreamClip]) -> list[Recognition]:
        """Return what was said in each stream's next segment, and move the streams on.

        After an error it can be done again.
        """
        results = decode_segments(
            self._model,
            [clip.state for clip in clips],
            [clip.audio for clip in clips],
            [clip.is_last for clip in clips],
            self._options.beam,
            self._bias,
        )
        return list(map(Recognition, results, [clip.input.lang for clip in clips]))


def _load_draft_model(
    model: Wav2Vec2LlamaModel, options: TranscribeOptions
) -> Wav2Vec2AsrModel | None:
    """Load the CTC model that drafts texts, if one is asked for."""
    if options.draft_model is None:
        return None
    weight = model.encoder_proj.weight
    other = load_model(
        options.draft_model, device=weight.device, dtype=weight.dtype, kind=Wav2Vec2AsrModel
    ).eval()
    if not isinstance(other, Wav2Vec2AsrModel):
        raise ConfigError(
            f"{options.draft_model} is a {type(other).__name__}; a draft takes a CTC model."
        )
    sizes = other.final_proj.output_dim, model.target_vocab_info.size
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"{options.draft_model} has a vocabulary of {sizes[0]} tokens, but the model has"
            f" {sizes[1]}: it cannot draft texts."
        )
    return other
