"""Speech of tones with known times, and a model that hears them perfectly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from fairseq2.data.tokenizers import Tokenizer, load_tokenizer
from torch import Tensor
from torch.nn import Module

from tests.fakes import tiny_model
from wavellama import Wav2Vec2LlamaModel
from wavellama.alignment import emissions
from wavellama.model.frames import FrameGrid, frame_grid
from wavellama.units import SAMPLE_RATE, seconds_to_samples

LETTERS = "abcdefghijklmnopqrstuvwxyz"

TOKENIZER = "toy_tokenizer"

CONVOLUTIONS: dict[str, Any] = {"ctc_head": True}
"""Overrides of ``tiny``: frames of 20 ms."""

FILTER_BANKS: dict[str, Any] = {
    "ctc_head": True,
    "wav2vec2_asr_config": {
        "encoder_config": {
            "feature_dim": 32,
            "use_fbank": True,
            "num_fbank_channels": 8,
            "fbank_stride": 4,
        }
    },
}
"""Overrides of ``tiny``: frames of 40 ms."""

LOG_MEL: dict[str, Any] = {
    "ctc_head": True,
    "wav2vec2_asr_config": {
        "encoder_config": {
            "use_log_mel": True,
            "num_fbank_channels": 8,
            "pos_encoder_type": "sinusoidal",
        }
    },
}
"""Overrides of ``tiny``: Whisper's front end and positions, frames of 20 ms."""


@dataclass(frozen=True)
class SpokenWord:
    """A word and when its tones sound."""

    text: str
    start: float
    letter_secs: float = 0.12

    @property
    def end(self) -> float:
        """Return when its last tone ends."""
        return self.start + len(self.text) * self.letter_secs


def speak(words: Sequence[SpokenWord], duration: float) -> Tensor:
    """Return a waveform with the tones of the words and silence between them. (T)."""
    waveform = torch.zeros(seconds_to_samples(duration))
    for word in words:
        for i, letter in enumerate(word.text):
            begin = seconds_to_samples(word.start + i * word.letter_secs)
            end = seconds_to_samples(word.start + (i + 1) * word.letter_secs)
            times = torch.arange(end - begin) / SAMPLE_RATE
            waveform[begin:end] = torch.sin(2 * torch.pi * pitch(letter) * times)
    return waveform


def pitch(letter: str) -> float:
    """Return the frequency of a letter in Hz."""
    return 400.0 + 150.0 * LETTERS.index(letter)


def hearing_model(monkeypatch: pytest.MonkeyPatch, front_end: dict[str, Any]) -> Wav2Vec2LlamaModel:
    """Return a model whose CTC head is replaced by one that recognises tones.

    What it says about a frame depends on the samples that the frame stands for, and on no others.
    """
    model = tiny_model(front_end, dtype=torch.float32)
    monkeypatch.setattr(emissions, "compute_logits", _hear)
    return model


def _hear(model: Module, audio: Tensor) -> Tensor:
    """(1, T) -> (S, V)."""
    assert isinstance(model, Wav2Vec2LlamaModel)
    tokens = letter_tokens(load_tokenizer(TOKENIZER))
    grid = frame_grid(model.encoder_frontend.feature_extractor)
    own = _own_samples(audio[0], grid)  # (S, stride)
    times = torch.arange(grid.stride) / SAMPLE_RATE
    pitches = torch.tensor([pitch(letter) for letter in LETTERS])
    waves = torch.exp(2j * torch.pi * pitches[:, None] * times)  # (letters, stride)
    heard = (own.to(waves.dtype) @ waves.T).abs().argmax(1)
    logits = torch.zeros(len(own), model.target_vocab_info.size)
    loud = own.square().mean(1) > audio.square().mean() / 10
    for frame, (letter, is_loud) in enumerate(zip(heard.tolist(), loud.tolist(), strict=True)):
        logits[frame, tokens[letter] if is_loud else 0] = 12.0
    return logits


def _own_samples(waveform: Tensor, grid: FrameGrid) -> Tensor:
    """Return the samples that each frame stands for. (S, stride)."""
    num_frames = grid.num_frames(len(waveform))
    waveform = torch.nn.functional.pad(waveform, (0, grid.field))
    begin = (grid.field - grid.stride) // 2
    return waveform[begin:].unfold(0, grid.stride, grid.stride)[:num_frames]


def letter_tokens(tokenizer: Tokenizer) -> list[int]:
    """Return the token of each letter."""
    encode = tokenizer.create_raw_encoder()
    return [int(encode(letter)[-1]) for letter in LETTERS]
