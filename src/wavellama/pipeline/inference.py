"""``ASRInferencePipeline``: audio in, transcripts out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from math import inf
from pathlib import Path
from types import NoneType
from typing import Final, cast

import torch
from fairseq2.data.tokenizers import Tokenizer
from torch.nn import Module

from wavellama.audio.load import AudioInput, load_audio, normalize
from wavellama.batch import Example
from wavellama.checkpoints.hub import ModelSource, check_recognises, find_model
from wavellama.errors import AudioError, BatchError, ConfigError, TranscriptionError
from wavellama.model.frames import frame_grid, room_for_audio
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.options import check_value, refuse
from wavellama.pipeline.chunked import Batching
from wavellama.pipeline.devices import check_dtype, default_device, find_device
from wavellama.pipeline.inputs import (
    ContextExample,
    Examples,
    Input,
    Langs,
    as_list,
    examples_per_input,
    langs_per_input,
)
from wavellama.pipeline.jobs import Job, in_order
from wavellama.pipeline.live import LiveSession
from wavellama.pipeline.options import DEFAULT_MODEL, TranscribeOptions
from wavellama.pipeline.plans import ClipPlan, Plan, StreamPlan
from wavellama.pipeline.recogniser import (
    SpeechModel,
    StreamRecogniser,
    check_lang,
    create_recogniser,
)
from wavellama.pipeline.scribes import ClipScribe
from wavellama.pipeline.segments import SegmentBuilder, to_transcript
from wavellama.pipeline.word_times import create_word_timer
from wavellama.transcript.calibration import Confidence
from wavellama.transcript.types import Transcript
from wavellama.units import samples_to_seconds

MAX_CLIP_SECS: Final = 40.0
"""The longest audio that the published models were trained on."""

MIN_PIECE_SECS: Final = 4.0
"""Long audio is not cut into shorter pieces, however short the audio of the training was."""


class ASRInferencePipeline:
    """Transcribes audio of any kind and length with a model and its tokenizer."""

    def __init__(
        self,
        model_card: str | Path | None = None,
        *,
        model: Module | None = None,
        tokenizer: Tokenizer | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.bfloat16,
        beam_search_config: Wav2Vec2LlamaBeamSearchConfig | None = None,
    ) -> None:
        """
        :param model_card: the card of model and tokenizer, or the output directory of a training
            run; by default that of the package, unless ``model`` or ``tokenizer`` is given.
        :param model: a loaded model; it is moved to ``device`` and cast to ``dtype``.
        :param tokenizer: a loaded tokenizer.
        :param device: where to run; by default a GPU where there is one.
        :param dtype: the type of the weights.
        :param beam_search_config: how to search; by default as the card says, else with one beam.
        :raises ConfigError: model, tokenizer or device is missing or wrong.
        """
        check_value("model_card", model_card, str, Path, NoneType)
        kinds = (Wav2Vec2LlamaBeamSearchConfig, NoneType)
        check_value("beam_search_config", beam_search_config, *kinds)
        check_dtype(dtype)
        self.device = find_device(device) if device is not None else default_device()
        source = _find_source(model_card, has_parts=model is not None or tokenizer is not None)
        if model is None:
            source = _needed(source)
            check_recognises(source.family.kls)  # before its checkpoint is downloaded
            model = source.load(device=self.device, dtype=dtype)
        check_recognises(type(model))
        self.model = cast("SpeechModel", _place(model, self.device, dtype).eval())
        self.tokenizer = tokenizer or _needed(source).load_tokenizer()
        self.beam_search_config = beam_search_config or _best_search(source)
        refuse(self.beam_search_config.find_faults(), "beam_search_config")
        self._confidence = Confidence() if source is None else source.read_confidence()
        longest, typical = _trained_secs(source)
        self._max_clip_secs = min(longest, _room_secs(self.model))
        self._piece_secs = min(max(typical, MIN_PIECE_SECS), self._max_clip_secs)

    def transcribe(
        self, inp: AudioInput | Iterable[AudioInput], *, lang: Langs = None, batch_size: int = 2
    ) -> list[str]:
        """Return the text of each input, in the order of the inputs, as the model writes it.

        Models write something of silence and noise, too; ``stream_results`` drops it.

        :param inp: one input or any iterable of them: paths, encoded bytes, binary files, or
            mappings with ``waveform`` and ``sample_rate``.
        :param lang: one language code for all inputs, or one code or None for each.
        :param batch_size: inputs that are decoded together.
        :raises TranscriptionError: some inputs are bad; it holds the texts of the others.
        :raises AudioError: the only input is bad.
        :raises UnknownLanguageError: a language code is not known.
        """
        if self._needs_examples:
            raise ConfigError("This model reads examples first; call `transcribe_with_context`.")
        return self._texts(self.inputs(as_list(inp), lang, None), batch_size)

    def transcribe_with_context(
        self,
        inp: AudioInput | Iterable[AudioInput],
        context_examples: Examples,
        *,
        batch_size: int = 1,
    ) -> list[str]:
        """Return the text of each input, after the model has read examples (ZERO_SHOT).

        :param inp: one input or any iterable of them, as for ``transcribe``.
        :param context_examples: one or more examples for all inputs, or a list of such lists, one
            per input; they are repeated in order, or cut, to as many as the model reads.
        :param batch_size: inputs that are decoded together.
        :raises BatchError: an input has no example.
        :raises AudioError: the audio of an example, or of the only input, is bad.
        :raises TranscriptionError: some inputs are bad; it holds the texts of the others.
        """
        if not self._needs_examples:
            raise ConfigError("This model reads no examples; call `transcribe`.")
        return self._texts(self.inputs(as_list(inp), None, context_examples), batch_size)

    def stream_results(
        self,
        inputs: AudioInput | Iterable[AudioInput],
        options: TranscribeOptions | None = None,
        *,
        lang: Langs = None,
        examples: Examples | None = None,
        on_progress: Callable[[float], None] = lambda secs: None,
    ) -> Iterator[Transcript]:
        """Yield the transcript of each input as soon as it is complete.

        :param inputs: one input or any iterable of them, as for ``transcribe``; of any length.
        :param options: how to transcribe; by default with the pipeline's search alone.
        :param lang: one language code for all inputs, or one code or None for each; the options
            can give one for all as well. Where the options name ``languages``, the language of an
            input is detected if none is given here.
        :param examples: what a zero-shot model reads first, as for ``transcribe_with_context``.
        :param on_progress: is told the seconds of audio that are done, silences included, bit by
            bit; for each input they add up to its duration.
        :raises TranscriptionError: some inputs are bad; raised after the last transcript.
        :raises BatchError: the model needs examples or takes none, or takes no language.
        :raises ConfigError: the model cannot do what the options ask for.
        :raises UnknownLanguageError: a language code is not known.
        """
        options = _check(options)
        checked = self.inputs(as_list(inputs), lang if lang is not None else options.lang, examples)
        checked = [replace(one, selection=options.selection) for one in checked]
        jobs = self.plan(options).run(checked, lambda job, secs: on_progress(secs))
        return _stream(in_order(jobs) if options.in_order else jobs, len(checked))

    def live(
        self,
        options: TranscribeOptions | None = None,
        *,
        examples: Sequence[ContextExample] | None = None,
    ) -> LiveSession:
        """Begin to transcribe live audio, which is fed bit by bit.

        Streaming models recognise segment by segment, all others each utterance when a silence has
        followed it.

        :param options: how to transcribe; by default with the pipeline's search.
        :param examples: what a zero-shot model reads before each utterance.
        :raises BatchError: the model needs examples or takes none, or takes no language.
        :raises ConfigError: the model cannot do what the options ask for.
        :raises UnknownLanguageError: a language code is not known.
        """
        options = _check(options)
        (input_,) = self.inputs([b""], options.lang, examples)
        return self.plan(options, is_live=True).listen(input_)

    def plan(self, options: TranscribeOptions, *, is_live: bool = False) -> Plan:
        """Return what ``stream_results`` and ``live`` work with, for those who share the model.

        It raises what they raise of options.

        :param is_live: whether the audio is still to be spoken.
        """
        options = options.with_search(self.beam_search_config)
        if is_live:
            options = replace(options, normalization=options.normalization or "causal")
        recogniser = create_recogniser(self.model, self.tokenizer, options, is_live=is_live)
        given = self.model, self.tokenizer, options
        timer = create_word_timer(*given) if options.word_timestamps else None
        builder = SegmentBuilder(self.tokenizer, options, self._confidence, timer)
        if isinstance(recogniser, StreamRecogniser):
            return StreamPlan(options, builder, ClipScribe(recogniser, builder), recogniser)
        scribe, batching = ClipScribe(recogniser, builder), Batching(max_secs=options.batch_secs)
        lengths = self._piece_secs, self._max_clip_secs
        return ClipPlan(options, builder, scribe, batching, *lengths)

    def _texts(self, inputs: Sequence[Input], batch_size: int) -> list[str]:
        """Return the texts of all inputs, clips of which are decoded ``batch_size`` at a time."""
        batching = Batching(max_rows=check_value("batch_size", batch_size, int, low=1))
        plan = self.plan(TranscribeOptions(no_speech_threshold=1.0))
        if isinstance(plan, ClipPlan):
            plan = replace(plan, batching=batching)
        jobs = in_order(plan.run(inputs, lambda job, secs: None))
        try:
            return [transcript.text for transcript in _stream(jobs, len(inputs))]
        except TranscriptionError as ex:
            if len(inputs) == 1:
                raise ex.failures[0] from None
            raise

    def inputs(
        self, audio: Sequence[AudioInput], lang: Langs, examples: Examples | None
    ) -> list[Input]:
        """Return the inputs with what goes with each, before any audio is read.

        :raises BatchError: the model needs examples or takes none, or takes no language.
        :raises UnknownLanguageError: a language code is not known.
        """
        langs = [check_lang(self.model, code) for code in langs_per_input(lang, len(audio))]
        rows = self._examples(examples, len(audio))
        places = zip(audio, langs, rows, strict=True)
        return [Input(i, *place) for i, place in enumerate(places)]

    def _examples(
        self, examples: Examples | None, count: int
    ) -> Sequence[Sequence[Example] | None]:
        """Return the examples that the model reads before each input; None where it reads none."""
        if self._needs_examples and examples is None:
            raise BatchError("This model reads examples before the audio, but none are given.")
        if examples is None:
            return [None] * count
        if not self._needs_examples:
            raise BatchError("This model reads no examples, but some are given.")
        rows = examples_per_input(examples, count)
        read = {key: self._read_examples(row) for key, row in {id(r): r for r in rows}.items()}
        return [read[id(row)] for row in rows]

    def _read_examples(self, examples: Sequence[ContextExample]) -> list[Example]:
        model = cast("Wav2Vec2LlamaModel", self.model)
        encode = self.tokenizer.create_encoder()
        with_audio = model.syntax.needs_example_audio
        read = [
            Example(
                normalize(load_audio(example.audio)) if with_audio else None,
                encode(example.text).tolist(),
            )
            for example in examples[: model.n_context_examples]
        ]
        return list(islice(cycle(read), model.n_context_examples))

    @property
    def _needs_examples(self) -> bool:
        return isinstance(self.model, Wav2Vec2LlamaModel) and self.model.syntax.needs_examples


def _stream(jobs: Iterable[Job], count: int) -> Iterator[Transcript]:
    """Yield transcripts; at the end tell of those of ``count`` inputs that have none."""
    texts: list[str | None] = [None] * count
    failures: dict[int, AudioError] = {}
    for job in jobs:
        if job.error is not None:
            failures[job.input.index] = job.error
            continue
        transcript = to_transcript(job)
        texts[transcript.index] = transcript.text
        yield transcript
    if failures:
        raise TranscriptionError(texts, dict(sorted(failures.items())))


def _check(options: TranscribeOptions | None) -> TranscribeOptions:
    check_value("options", options, TranscribeOptions, NoneType)
    return options or TranscribeOptions()


def _find_source(name: str | Path | None, has_parts: bool) -> ModelSource | None:
    """Return where the model comes from: the one of the package if nothing is given."""
    name = DEFAULT_MODEL if name is None and not has_parts else name
    return None if name is None else find_model(name)


def _best_search(source: ModelSource | None) -> Wav2Vec2LlamaBeamSearchConfig:
    return TranscribeOptions().beam if source is None else source.read_search()


def _needed(source: ModelSource | None) -> ModelSource:
    if source is None:
        raise ConfigError("Without a model card, give both `model` and `tokenizer`.")
    return source


def _trained_secs(source: ModelSource | None) -> tuple[float, float]:
    """Return the longest audio of the training, and what nine tenths of it do not exceed."""
    if source is None:
        return MAX_CLIP_SECS, MAX_CLIP_SECS
    longest = source.max_audio_secs or MAX_CLIP_SECS
    return longest, source.typical_audio_secs or longest


def _room_secs(model: SpeechModel) -> float:
    """Return the longest audio that leaves a decoder positions for the text: 100, or a quarter."""
    if not isinstance(model, Wav2Vec2LlamaModel):
        return inf
    grid = frame_grid(model.encoder_frontend.feature_extractor)
    position_secs = samples_to_seconds(grid.stride * model.encoder_stacking)
    return room_for_audio(model.max_generation_length) * position_secs


def _place(model: Module, device: torch.device, dtype: torch.dtype) -> Module:
    """Move a model, and cast its parameters; buffers such as rotary angles keep their type."""
    model.to(device)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model
