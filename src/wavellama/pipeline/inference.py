"""``ASRInferencePipeline``: audio in, text out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import NamedTuple, TypeAlias, cast

import torch
from fairseq2.data.tokenizers import Tokenizer
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrModel
from torch import Tensor
from torch.nn import Module
from torch.nn.utils.rnn import pad_sequence

from wavellama.audio.load import AudioInput, describe, load_audio, normalize
from wavellama.batch import AsrBatch, Example
from wavellama.decoding.ctc import ctc_generate
from wavellama.decoding.generate import best_tokens, generate
from wavellama.errors import (
    AudioError,
    BatchError,
    ConfigError,
    ContextTooLongError,
    TranscriptionError,
)
from wavellama.model.config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.model.hub import load_model, load_model_tokenizer
from wavellama.model.model import Wav2Vec2LlamaModel


@dataclass(frozen=True)
class ContextExample:
    """An example that a zero-shot model reads before the audio: what was said, and its text."""

    audio: AudioInput
    text: str


Examples: TypeAlias = "Sequence[ContextExample] | Sequence[Sequence[ContextExample]]"
"""The same examples for all inputs, or those of each input."""

Langs: TypeAlias = "str | Sequence[str | None] | None"


class ASRInferencePipeline:
    """Transcribes audio of any common kind with a model and its tokenizer."""

    def __init__(
        self,
        model_card: str | None,
        *,
        model: Module | None = None,
        tokenizer: Tokenizer | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.bfloat16,
        beam_search_config: Wav2Vec2LlamaBeamSearchConfig | None = None,
    ) -> None:
        """
        :param model_card: the card of model and tokenizer, or the output directory of a training
            run; needed unless both are given.
        :param model: a loaded model; it is moved to ``device`` and cast to ``dtype``.
        :param tokenizer: a loaded tokenizer.
        :param device: where to run; by default a GPU where there is one.
        :param dtype: the type of the weights.
        :param beam_search_config: how to search; by default with one beam.
        :raises ConfigError: model or tokenizer is missing, or the model is of another kind.
        """
        if model_card is None and (model is None or tokenizer is None):
            raise ConfigError("Without a model card, give both `model` and `tokenizer`.")
        self.device = torch.device(device) if device is not None else default_device()
        if model is None:
            model = load_model(str(model_card), device=self.device, dtype=dtype)
        self.model = _place(model, self.device, dtype).eval()
        self.tokenizer = tokenizer or load_model_tokenizer(str(model_card))
        self.beam_search_config = beam_search_config or Wav2Vec2LlamaBeamSearchConfig(nbest=1)
        self._decode = self.tokenizer.create_decoder()
        self._recognise = self._choose_recogniser()

    def transcribe(
        self, inp: AudioInput | Sequence[AudioInput], *, lang: Langs = None, batch_size: int = 2
    ) -> list[str]:
        """Return the text of each input, in the order of the inputs.

        :param inp: one input or a list of them: paths, encoded bytes, or mappings with
            ``waveform`` and ``sample_rate``.
        :param lang: one language code for all inputs, or one code or None for each.
        :param batch_size: inputs that are decoded together.
        :raises TranscriptionError: some inputs are bad; it holds the texts of the others.
        :raises AudioError: the only input is bad.
        :raises UnknownLanguageError: a language code is not known.
        """
        if self._needs_examples:
            raise ConfigError("This model reads examples first; call `transcribe_with_context`.")
        inputs = _as_list(inp)
        langs = self._check_langs(lang, len(inputs))
        return self._transcribe(inputs, batch_size, [_Side(lang=lang) for lang in langs])

    def transcribe_with_context(
        self,
        inp: AudioInput | Sequence[AudioInput],
        context_examples: Examples,
        *,
        batch_size: int = 1,
    ) -> list[str]:
        """Return the text of each input, after the model has read examples (ZERO_SHOT).

        :param inp: one input or a list of them, as for ``transcribe``.
        :param context_examples: one or more examples for all inputs, or a list of such lists, one
            per input; they are repeated in order, or cut, to as many as the model reads.
        :param batch_size: inputs that are decoded together.
        :raises BatchError: an input has no example.
        :raises AudioError: the audio of an example, or of the only input, is bad.
        :raises TranscriptionError: some inputs are bad; it holds the texts of the others.
        """
        if not self._needs_examples:
            raise ConfigError("This model reads no examples; call `transcribe`.")
        inputs = _as_list(inp)
        rows = _per_input(context_examples, len(inputs))
        sides = [_Side(examples=self._read_examples(row)) for row in rows]
        return self._transcribe(inputs, batch_size, sides)

    def _read_examples(self, examples: Sequence[ContextExample]) -> list[Example]:
        """Return as many examples as the model reads."""
        model = cast("Wav2Vec2LlamaModel", self.model)
        encode = self.tokenizer.create_encoder()
        with_audio = model.syntax.needs_example_audio
        chosen = list(islice(cycle(examples), model.n_context_examples))
        read: dict[int, Example] = {}
        for example in chosen:
            if id(example) not in read:
                audio = normalize(load_audio(example.audio)) if with_audio else None
                read[id(example)] = Example(audio, encode(example.text).tolist())
        return [read[id(example)] for example in chosen]

    def _transcribe(
        self, inputs: list[AudioInput], batch_size: int, sides: Sequence[_Side]
    ) -> list[str]:
        """Transcribe inputs, batch by batch; bad ones are reported when all others are done."""
        if batch_size < 1:
            raise ConfigError(f"`batch_size` must be at least 1, but is {batch_size}.")
        texts: dict[int, str] = {}
        failures: dict[int, AudioError] = {}
        for begin in range(0, len(inputs), batch_size):
            places = range(begin, min(begin + batch_size, len(inputs)))
            waveforms = _load(places, inputs, failures)
            texts |= self._transcribe_batch(waveforms, sides, inputs, failures)
        if failures and len(inputs) == 1:
            raise failures[0]
        if failures:
            raise TranscriptionError([texts.get(i) for i in range(len(inputs))], failures)
        return [texts[i] for i in range(len(inputs))]

    def _transcribe_batch(
        self,
        waveforms: dict[int, Tensor],
        sides: Sequence[_Side],
        inputs: Sequence[AudioInput],
        failures: dict[int, AudioError],
    ) -> dict[int, str]:
        """Return the text of each place; a clip that is too long becomes a failure of its own."""
        places = list(waveforms)
        try:
            chosen = [sides[place] for place in places]
            texts = self._transcribe_waveforms(list(waveforms.values()), chosen)
            return dict(zip(places, texts, strict=True))
        except ContextTooLongError as ex:
            if len(places) == 1:
                failures[places[0]] = AudioError(describe(inputs[places[0]]), str(ex))
                return {}
        by_place: dict[int, str] = {}
        for place, waveform in waveforms.items():
            by_place |= self._transcribe_batch({place: waveform}, sides, inputs, failures)
        return by_place

    def _transcribe_waveforms(self, waveforms: list[Tensor], sides: list[_Side]) -> list[str]:
        if not waveforms:
            return []
        audio = pad_sequence(waveforms, batch_first=True).to(self.device)  # (N, T)
        tokens = self._recognise(audio, [len(waveform) for waveform in waveforms], sides)
        return [self._decode(torch.tensor(row, dtype=torch.int64)) if row else "" for row in tokens]

    def _check_langs(self, lang: Langs, count: int) -> list[str | None]:
        """Return one language per input, before any audio is read."""
        langs = [lang] * count if lang is None or isinstance(lang, str) else list(lang)
        if len(langs) != count:
            raise BatchError(f"`lang` has {len(langs)} entries for {count} inputs.")
        for code in langs:
            if code is not None:
                self._check_lang(code)
        return langs

    def _check_lang(self, code: str) -> None:
        model = self.model
        if not isinstance(model, Wav2Vec2LlamaModel) or not model.syntax.needs_language:
            raise BatchError(f"This model takes no language, but `lang` gives {code!r}.")
        model.lang_mapping.row(code)

    @property
    def _needs_examples(self) -> bool:
        return isinstance(self.model, Wav2Vec2LlamaModel) and self.model.syntax.needs_examples

    def _choose_recogniser(self) -> Callable[[Tensor, list[int], list[_Side]], list[list[int]]]:
        """Return the function from audio and what goes with it to tokens that fits the model."""
        model = self.model
        if isinstance(model, Wav2Vec2LlamaModel):
            return lambda audio, lens, sides: best_tokens(
                generate(model, _to_batch(audio, lens, sides), self.beam_search_config)
            )
        if isinstance(model, Wav2Vec2AsrModel):
            return lambda audio, lens, sides: ctc_generate(model, audio, lens)
        raise ConfigError(
            f"A {type(model).__name__} cannot transcribe; need a wav2vec2_llama or wav2vec2_asr"
            " model."
        )


class _Side(NamedTuple):
    """What goes with the audio of one input."""

    lang: str | None = None
    examples: list[Example] | None = None


def _to_batch(audio: Tensor, lens: list[int], sides: list[_Side]) -> AsrBatch:
    examples = [side.examples for side in sides if side.examples is not None]
    langs = [side.lang for side in sides]
    return AsrBatch(audio, lens, [], langs, examples if len(examples) == len(sides) else None)


def _as_list(inp: AudioInput | Sequence[AudioInput]) -> list[AudioInput]:
    return cast("list[AudioInput]", list(inp) if isinstance(inp, list | tuple) else [inp])


def _per_input(examples: Examples, count: int) -> list[Sequence[ContextExample]]:
    """Return the examples of each input.

    :raises BatchError: an input has none, or there are lists for another number of inputs.
    """
    if examples and all(isinstance(example, ContextExample) for example in examples):
        return [cast("Sequence[ContextExample]", examples)] * count
    rows = cast("Sequence[Sequence[ContextExample]]", examples)
    if len(rows) != count:
        raise BatchError(f"`context_examples` has {len(rows)} entries for {count} inputs.")
    if not all(rows):
        raise BatchError("Each input needs one context example or more.")
    return list(rows)


def default_device() -> torch.device:
    """Return a GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _place(model: Module, device: torch.device, dtype: torch.dtype) -> Module:
    """Move a model, and cast its parameters; buffers such as rotary angles keep their type."""
    model.to(device)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def _load(
    places: Sequence[int], inputs: Sequence[AudioInput], failures: dict[int, AudioError]
) -> dict[int, Tensor]:
    """Return the normalised waveforms of the good inputs; bad ones go to ``failures``."""
    waveforms: dict[int, Tensor] = {}
    for place in places:
        try:
            waveforms[place] = normalize(load_audio(inputs[place]))
        except AudioError as ex:
            failures[place] = ex
    return waveforms
