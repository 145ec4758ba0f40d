"""Front ends that compute mel spectra from the waveform inside the model.

Raw convolutions cost five to thirty times as much on a CPU; computing the spectra here keeps
``embed_audio`` a function of the waveform for every architecture.

Shapes: N rows, T samples, F windows, B bins of the spectrum, C mel channels, S frames, E width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Final, final

import torch
from fairseq2.models.feature_extractor import SequenceFeatureExtractor
from fairseq2.nn import BatchLayout
from torch import Tensor
from torch.nn import Conv1d
from torch.nn.functional import gelu, pad
from torchaudio.functional import melscale_fbanks
from typing_extensions import override

from wavellama.model.draws import Draws
from wavellama.model.spectral import SpectralAugment
from wavellama.units import SAMPLE_RATE

WINDOW: Final = 400
"""Samples per window (25 ms)."""

HOP: Final = 160
"""Samples from one window to the next (10 ms)."""

NUM_FFT: Final = 512

FLOOR: Final = 1e-5
"""Power below which the logarithm is cut off; the waveform has unit variance."""

_WHISPER_FLOOR: Final = 1e-10
_WHISPER_RANGE: Final = 8.0
"""How far the log10 of a channel may lie below the loudest one of its row."""


class MelExtractor(SequenceFeatureExtractor):
    """Computes mel spectra, which training may warp and mask."""

    window: Tensor
    mel: Tensor

    def __init__(self, num_channels: int, num_fft: int) -> None:
        super().__init__()
        self.num_channels, self.num_fft = num_channels, num_fft
        self.register_buffer("window", torch.empty(WINDOW), persistent=False)
        self.register_buffer("mel", torch.empty(num_fft // 2 + 1, num_channels), persistent=False)
        self.draws = Draws(seed=0)
        self.augment: SpectralAugment | None = None
        """Changes the spectrum in training."""
        self.reset_non_persistent_buffers()

    @abstractmethod
    def reset_non_persistent_buffers(self) -> None:
        """Compute the window and the filters, which no checkpoint holds."""

    def reset_parameters(self) -> None:
        """Compute what this module lacks after it got storage; it has no weights of its own."""
        self.reset_non_persistent_buffers()

    @abstractmethod
    def log_mel(self, power: Tensor, num_windows: Sequence[int]) -> Tensor:
        """Return the logarithm (N, F, C) of the mel spectra of power spectra (N, F, B)."""

    def spectra(self, windows: Tensor, num_windows: Sequence[int]) -> Tensor:
        """Return log-mel spectra, zero where they belong to no row.

        :param windows: stretches of the waveforms. *Shape:* (N, F, WINDOW).
        :param num_windows: how many of them belong to each row.
        :returns: *Shape:* (N, F, C).
        """
        spectrum = torch.fft.rfft(windows * self.window.float(), n=self.num_fft)
        power = spectrum.real.square() + spectrum.imag.square()  # (N, F, B)
        augment = self.augment if self.training else None
        generator = self.draws.next_generator() if augment is not None else None
        if augment is None or generator is None:
            log_mel = self.log_mel(power, num_windows)
        else:
            log_mel = self.log_mel(augment.warp(power, generator), num_windows)
            log_mel = augment.mask(log_mel, list(num_windows), generator)
        return log_mel * _inside(log_mel, num_windows)[:, :, None]

    @override
    def extra_repr(self) -> str:
        return f"num_channels={self.num_channels}"


@final
class FilterBankExtractor(MelExtractor):
    """Turns waveforms into log-mel frames, ``stride`` windows stacked into one frame.

    A window counts only if it lies entirely inside its row, so that padding never leaks into a
    frame; the last frame is filled up with zeros where the windows run out.
    """

    def __init__(self, num_channels: int, stride: int) -> None:
        self.stride = stride
        super().__init__(num_channels, NUM_FFT)

    @override
    def reset_non_persistent_buffers(self) -> None:
        self.window.copy_(torch.hann_window(WINDOW, periodic=False))
        with torch.device("cpu"):
            mel = melscale_fbanks(
                self.num_fft // 2 + 1, 20.0, SAMPLE_RATE / 2, self.num_channels, SAMPLE_RATE
            )
        self.mel.copy_(mel)

    @override
    def log_mel(self, power: Tensor, num_windows: Sequence[int]) -> Tensor:
        return (power @ self.mel.float()).clamp_min(FLOOR).log()

    @override
    def forward(self, seqs: Tensor, seqs_layout: BatchLayout) -> tuple[Tensor, BatchLayout]:
        num_windows = [(length - WINDOW) // HOP + 1 for length in seqs_layout.seq_lens]
        log_mel = self.spectra(seqs.float().unfold(1, WINDOW, HOP), num_windows)  # (N, F, C)
        log_mel = pad(log_mel, (0, 0, 0, -log_mel.size(1) % self.stride))
        # (N, S, stride * C)
        frames = log_mel.reshape(log_mel.size(0), -1, self.stride * self.num_channels)
        seq_lens = [-(-count // self.stride) for count in num_windows]
        return frames.type_as(seqs), BatchLayout.of(frames, seq_lens)

    @override
    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, stride={self.stride}"


@final
class LogMelExtractor(MelExtractor):
    """Whisper's front end: log-mel windows and two convolutions, to frames of 20 ms.

    Beyond its end a row is silent, whatever the batch holds there. Source: the published code of
    Whisper, whose windows of 30 seconds end in silence, too.
    """

    def __init__(self, num_channels: int, width: int, gain: float) -> None:
        """
        :param width: the channels of the convolutions (E).
        :param gain: what to multiply waveforms with: theirs have unit variance here, but the
            loudness of recordings where the weights were trained.
        """
        self.gain = gain
        super().__init__(num_channels, WINDOW)
        self.conv1 = Conv1d(num_channels, width, 3, padding=1)
        self.conv2 = Conv1d(width, width, 3, stride=2, padding=1)

    @override
    def reset_non_persistent_buffers(self) -> None:
        self.window.copy_(torch.hann_window(WINDOW))
        with torch.device("cpu"):
            mel = melscale_fbanks(
                *(self.num_fft // 2 + 1, 0.0, SAMPLE_RATE / 2, self.num_channels, SAMPLE_RATE),
                norm="slaney",
                mel_scale="slaney",
            )
        self.mel.copy_(mel)

    @override
    def log_mel(self, power: Tensor, num_windows: Sequence[int]) -> Tensor:
        log_mel = (power @ self.mel.float()).clamp_min(_WHISPER_FLOOR).log10()
        outside = ~_inside(log_mel, num_windows)[:, :, None]
        loudest = log_mel.masked_fill(outside, -torch.inf).amax((1, 2), keepdim=True)
        return (torch.maximum(log_mel, loudest - _WHISPER_RANGE) + 4.0) / 4.0

    @override
    def forward(self, seqs: Tensor, seqs_layout: BatchLayout) -> tuple[Tensor, BatchLayout]:
        lens = seqs_layout.seq_lens
        seqs = seqs.float() * _inside(seqs, lens) * self.gain
        around = WINDOW // 2
        seqs = torch.cat([seqs[:, 1 : around + 1].flip(1), pad(seqs, (0, around))], dim=1)
        num_windows = [length // HOP for length in lens]
        windows = seqs.unfold(1, WINDOW, HOP)[:, : max(num_windows)]
        log_mel = self.spectra(windows, num_windows).to(self.conv1.weight.dtype)  # (N, F, C)
        hidden = gelu(self.conv1(log_mel.transpose(1, 2)))  # (N, E, F)
        hidden = hidden * _inside(log_mel, num_windows)[:, None]
        frames = gelu(self.conv2(hidden)).transpose(1, 2)  # (N, S, E)
        return frames, BatchLayout.of(frames, [-(-count // 2) for count in num_windows])


def _inside(seqs: Tensor, lens: Sequence[int]) -> Tensor:
    """Return which positions belong to the rows of ``seqs``. (N, F)."""
    counts = torch.tensor(list(lens), device=seqs.device)
    return torch.arange(seqs.size(1), device=seqs.device) < counts[:, None]
