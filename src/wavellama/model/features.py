"""Log-mel filter banks computed from the waveform inside the model.

Raw convolutions cost five to thirty times as much on a CPU; computing the filter banks here keeps
``embed_audio`` a function of the waveform for every architecture.

Shapes: N rows, T samples, F windows, C mel channels, S frames, E encoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import torch
from fairseq2.models.feature_extractor import SequenceFeatureExtractor
from fairseq2.models.wav2vec2 import Wav2Vec2Frontend
from fairseq2.nn import BatchLayout
from torch import Tensor
from torch.nn import GroupNorm
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from torchaudio.functional import melscale_fbanks
from typing_extensions import override

from wavellama.errors import BatchError
from wavellama.model.draws import Draws
from wavellama.model.spectral import SpectralAugment
from wavellama.units import MIN_SAMPLES, SAMPLE_RATE

WINDOW: Final = 400
"""Samples per window (25 ms)."""

HOP: Final = 160
"""Samples from one window to the next (10 ms)."""

NUM_FFT: Final = 512

FLOOR: Final = 1e-5
"""Power below which the logarithm is cut off; the waveform has unit variance."""


@final
class FilterBankExtractor(SequenceFeatureExtractor):
    """Turns waveforms into log-mel frames, ``stride`` windows stacked into one frame.

    A window counts only if it lies entirely inside its row, so that padding never leaks into a
    frame; the last frame is filled up with zeros where the windows run out.
    """

    window: Tensor
    mel: Tensor

    def __init__(self, num_channels: int, stride: int) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.stride = stride
        self.register_buffer("window", torch.empty(WINDOW), persistent=False)
        self.register_buffer("mel", torch.empty(NUM_FFT // 2 + 1, num_channels), persistent=False)
        self.draws = Draws(seed=0)
        self.augment: SpectralAugment | None = None
        """Changes the spectrum in training."""
        self.reset_non_persistent_buffers()

    def reset_non_persistent_buffers(self) -> None:
        """Compute the window and the filters, which no checkpoint holds."""
        self.window.copy_(torch.hann_window(WINDOW, periodic=False))
        with torch.device("cpu"):
            mel = melscale_fbanks(
                NUM_FFT // 2 + 1, 20.0, SAMPLE_RATE / 2, self.num_channels, SAMPLE_RATE
            )
        self.mel.copy_(mel)

    def reset_parameters(self) -> None:
        """Compute what a module without storage lacks after it got some; there are no weights."""
        self.reset_non_persistent_buffers()

    @override
    def forward(self, seqs: Tensor, seqs_layout: BatchLayout) -> tuple[Tensor, BatchLayout]:
        windows = seqs.float().unfold(1, WINDOW, HOP)  # (N, F, WINDOW)
        spectrum = torch.fft.rfft(windows * self.window.float(), n=NUM_FFT)
        power = spectrum.real.square() + spectrum.imag.square()  # (N, F, NUM_FFT / 2 + 1)
        augment = self.augment if self.training else None
        generator = self.draws.next_generator() if augment is not None else None
        if augment is not None and generator is not None:
            power = augment.warp(power, generator)
        log_mel = (power @ self.mel.float()).clamp_min(FLOOR).log()  # (N, F, C)
        num_windows = [(length - WINDOW) // HOP + 1 for length in seqs_layout.seq_lens]
        if augment is not None and generator is not None:
            log_mel = augment.mask(log_mel, num_windows, generator)
        frames = self._stack(log_mel, num_windows).type_as(seqs)
        seq_lens = [-(-count // self.stride) for count in num_windows]
        return frames, BatchLayout.of(frames, seq_lens)

    def _stack(self, log_mel: Tensor, num_windows: list[int]) -> Tensor:
        counts = torch.tensor(num_windows, device=log_mel.device)
        inside = torch.arange(log_mel.size(1), device=log_mel.device) < counts[:, None]
        log_mel = log_mel * inside[:, :, None]
        log_mel = pad(log_mel, (0, 0, 0, -log_mel.size(1) % self.stride))
        # (N, S, stride * C)
        return log_mel.reshape(log_mel.size(0), -1, self.stride * self.num_channels)

    @override
    def extra_repr(self) -> str:
        return f"num_channels={self.num_channels}, stride={self.stride}"


def extract_by_row(
    extractor: SequenceFeatureExtractor, seqs: Tensor, layout: BatchLayout
) -> tuple[Tensor, BatchLayout]:
    """Extract features so that no row depends on the padding of the batch.

    Convolutions with a group norm over time (wav2vec 2.0 ``base``) would let it in, so with them
    padded rows are read one by one.
    """
    over_time = any(isinstance(module, GroupNorm) for module in extractor.modules())
    if not over_time or not layout.padded:
        return extractor(seqs, layout)
    rows = [seqs[i : i + 1, :length] for i, length in enumerate(layout.seq_lens)]
    features = [extractor(row, BatchLayout.of(row))[0][0] for row in rows]
    padded = pad_sequence(features, batch_first=True)
    return padded, BatchLayout.of(padded, [len(row) for row in features])


def extract_features(
    frontend: Wav2Vec2Frontend, seqs: Tensor, layout: BatchLayout, dtype: torch.dtype
) -> tuple[Tensor, BatchLayout]:
    """Compute the features of waveforms, up to where a masker may act.

    :param seqs: waveforms. *Shape:* (N, T).
    :param dtype: the type of the encoder's weights.
    :returns: features (N, S, E) in ``dtype`` and their layout.
    """
    extractor = frontend.feature_extractor
    if extractor is None:
        raise ValueError("`encoder_frontend` must have a feature extractor.")
    # Convolutions read the type of their weights; filter banks are computed in float32.
    weight = next(extractor.parameters(), None)
    seqs = seqs.float() if weight is None else seqs.to(weight.dtype)
    features, layout = extract_by_row(extractor, seqs, layout)
    return frontend.post_extract_layer_norm(features.to(dtype)), layout


def stack_frames(frames: Tensor, seq_lens: list[int], factor: int) -> tuple[Tensor, list[int]]:
    """Join every ``factor`` frames; a row's short tail is filled up with zeros.

    :param frames: *Shape:* (N, S, E).
    :returns: the joined frames (N, T', E * factor) and the number of them per row.
    """
    if factor == 1:
        return frames, seq_lens
    lens = torch.tensor(seq_lens, device=frames.device)
    inside = torch.arange(frames.size(1), device=frames.device) < lens[:, None]
    frames = pad(frames * inside[:, :, None], (0, 0, 0, -frames.size(1) % factor))
    frames = frames.reshape(frames.size(0), -1, frames.size(2) * factor)
    return frames, [-(-length // factor) for length in seq_lens]


def check_seq_lens(seq_lens: Sequence[int] | Tensor) -> list[int]:
    """Return the samples per row as ints.

    :raises BatchError: a row is too short for a single frame.
    """
    lens = [int(n) for n in (seq_lens.tolist() if isinstance(seq_lens, Tensor) else seq_lens)]
    for row, length in enumerate(lens):
        if length < MIN_SAMPLES:
            raise BatchError(
                f"Row {row} has {length} samples of audio; the encoder needs {MIN_SAMPLES} (25 ms)."
            )
    return lens
