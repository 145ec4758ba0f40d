"""``ASRInferencePipeline``: audio in, text out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

import torch
from fairseq2.data.tokenizers import Tokenizer
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrModel
from torch import Tensor
from torch.nn import Module
from torch.nn.utils.rnn import pad_sequence

from wavellama.audio.load import AudioInput, describe, load_audio, normalize
from wavellama.batch import AsrBatch
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
        if batch_size < 1:
            raise ConfigError(f"`batch_size` must be at least 1, but is {batch_size}.")
        inputs = cast("list[AudioInput]", list(inp) if isinstance(inp, list | tuple) else [inp])
        langs = self._check_langs(lang, len(inputs))
        texts: dict[int, str] = {}
        failures: dict[int, AudioError] = {}
        for begin in range(0, len(inputs), batch_size):
            places = range(begin, min(begin + batch_size, len(inputs)))
            waveforms = _load(places, inputs, failures)
            texts |= self._transcribe_batch(waveforms, langs, inputs, failures)
        if failures and len(inputs) == 1:
            raise failures[0]
        if failures:
            raise TranscriptionError([texts.get(i) for i in range(len(inputs))], failures)
        return [texts[i] for i in range(len(inputs))]

    def _transcribe_batch(
        self,
        waveforms: dict[int, Tensor],
        langs: list[str | None],
        inputs: Sequence[AudioInput],
        failures: dict[int, AudioError],
    ) -> dict[int, str]:
        """Return the text of each place; a clip that is too long becomes a failure of its own."""
        places = list(waveforms)
        try:
            chosen = [langs[place] for place in places]
            texts = self._transcribe_waveforms(list(waveforms.values()), chosen)
            return dict(zip(places, texts, strict=True))
        except ContextTooLongError as ex:
            if len(places) == 1:
                failures[places[0]] = AudioError(describe(inputs[places[0]]), str(ex))
                return {}
        by_place: dict[int, str] = {}
        for place, waveform in waveforms.items():
            by_place |= self._transcribe_batch({place: waveform}, langs, inputs, failures)
        return by_place

    def _transcribe_waveforms(self, waveforms: list[Tensor], langs: list[str | None]) -> list[str]:
        if not waveforms:
            return []
        audio = pad_sequence(waveforms, batch_first=True).to(self.device)  # (N, T)
        tokens = self._recognise(audio, [len(waveform) for waveform in waveforms], langs)
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

    def _choose_recogniser(
        self,
    ) -> Callable[[Tensor, list[int], list[str | None]], list[list[int]]]:
        """Return the function from audio and languages to tokens that fits the model."""
        model = self.model
        if isinstance(model, Wav2Vec2LlamaModel):
            return lambda audio, lens, langs: best_tokens(
                generate(model, AsrBatch(audio, lens, [], langs), self.beam_search_config)
            )
        if isinstance(model, Wav2Vec2AsrModel):
            return lambda audio, lens, langs: ctc_generate(model, audio, lens)
        raise ConfigError(
            f"A {type(model).__name__} cannot transcribe; need a wav2vec2_llama or wav2vec2_asr"
            " model."
        )


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
