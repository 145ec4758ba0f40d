"""What a CTC model hears in each frame of audio of any length.

Shapes: T samples, S frames, V vocabulary, U columns of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

import torch
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrModel
from fairseq2.nn import BatchLayout
from torch import Tensor
from torch.nn import Module

from wavellama.errors import AlignmentError, ConfigError
from wavellama.model.frames import frame_grid
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.modules import eval_mode
from wavellama.units import seconds_to_samples

CtcModel: TypeAlias = Wav2Vec2LlamaModel | Wav2Vec2AsrModel

WINDOW_SECS: Final = 30.0
"""The most audio that the encoder reads at once."""

MARGIN_SECS: Final = 1.0
"""What is dropped of a window where it meets another one: there the encoder lacks context."""


class Window(NamedTuple):
    """A stretch of frames: what the encoder computes, and what is kept of it."""

    begin: int
    end: int
    keep_begin: int
    keep_end: int


class Emissions(NamedTuple):
    """What was heard in each frame, in float32 on the CPU."""

    log_probs: Tensor
    """The log-probabilities of the tokens asked for. *Shape:* (S, U)."""

    best: Tensor
    """The log-probability of the likeliest of all tokens. *Shape:* (S)."""


class CtcEmitter:
    """Computes the log-probabilities of a CTC model, window by window."""

    def __init__(
        self, model: Module, *, window_secs: float = WINDOW_SECS, margin_secs: float = MARGIN_SECS
    ) -> None:
        """:raises ConfigError: the model has no CTC output, or margins leave nothing of windows."""
        self._model = check_model(model)
        self.grid = frame_grid(self._model.encoder_frontend.feature_extractor)
        self._margin = seconds_to_samples(margin_secs) // self.grid.stride
        self._window = seconds_to_samples(window_secs) // self.grid.stride
        if self._window <= 2 * self._margin:
            raise ConfigError(
                f"Windows of {window_secs:g} s leave nothing between margins of {margin_secs:g} s."
            )

    def compute(self, waveform: Tensor, tokens: Sequence[int]) -> Emissions:
        """Return what is heard of some tokens in every frame.

        Memory grows with the number of these tokens, not with the vocabulary.

        :param waveform: normalised. *Shape:* (T).
        :param tokens: U tokens.
        :raises AlignmentError: the audio is too short, or the model's output is not a number.
        """
        num_frames = self.grid.num_frames(len(waveform))
        if num_frames == 0:
            raise AlignmentError(
                f"The audio has {len(waveform)} samples, but a single frame takes"
                f" {self.grid.shortest} (16 kHz)."
            )
        device = next(self._model.parameters()).device
        index = torch.tensor(tokens, device=device)
        parts: list[Emissions] = []
        with torch.inference_mode(), eval_mode(self._model):
            for window in cut_windows(num_frames, self._window, self._margin):
                first, last = self.grid.samples_of(window.begin, window.end)
                samples = waveform[first : last if window.end < num_frames else None]
                logits = compute_logits(self._model, samples[None].to(device))  # (S, V)
                kept = logits[window.keep_begin - window.begin : window.keep_end - window.begin]
                log_probs = torch.log_softmax(kept.float(), -1)
                parts.append(Emissions(log_probs[:, index].cpu(), log_probs.amax(-1).cpu()))
        emissions = Emissions(*map(torch.cat, zip(*parts, strict=True)))
        if bool(torch.isnan(emissions.best).any()):
            raise AlignmentError("The model's output is not a number, so nothing can be aligned.")
        return emissions


def cut_windows(num_frames: int, window: int, margin: int) -> Iterator[Window]:
    """Cut frames into windows; the parts to keep follow each other without gaps."""
    num_windows = 1 if num_frames <= window else -(-num_frames // (window - 2 * margin))
    length = -(-num_frames // num_windows)
    for keep_begin in range(0, num_frames, length):
        keep_end = min(num_frames, keep_begin + length)
        begin, end = max(0, keep_begin - margin), min(num_frames, keep_end + margin)
        yield Window(begin, end, keep_begin, keep_end)


def check_model(model: Module) -> CtcModel:
    """Return a model that is a CTC model or has a CTC head; any other one is a ConfigError."""
    if not isinstance(model, Wav2Vec2LlamaModel | Wav2Vec2AsrModel):
        raise ConfigError(
            f"A {type(model).__name__} cannot align; need a wav2vec2_llama model with a CTC head,"
            " or a wav2vec2_asr model."
        )
    if isinstance(model, Wav2Vec2LlamaModel) and model.ctc_head is None:
        raise ConfigError(
            "The model has no CTC head, by which words are aligned; use a CTC model, or train one"
            " with `ctc_head: true`."
        )
    return model


def vocab_size(model: CtcModel) -> int:
    """Return the number of tokens that the model tells apart, the blank included."""
    if isinstance(model, Wav2Vec2LlamaModel):
        return model.target_vocab_info.size
    return model.final_proj.output_dim


def compute_logits(model: CtcModel, audio: Tensor) -> Tensor:
    """Return what the model says of one clip. (1, T) -> (S, V)."""
    if isinstance(model, Wav2Vec2LlamaModel):
        frames, _ = model.encode_audio(audio, [audio.size(1)])
        return model.ctc_logits(frames)[0]
    dtype = next(model.parameters()).dtype
    logits: Tensor = model(audio.to(dtype), BatchLayout.of(audio))[0]
    return logits[0]
