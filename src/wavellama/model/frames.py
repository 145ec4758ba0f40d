"""Which samples a frame of the encoder stands for: exact conversions, derived from the front end.

A frame is computed from a stretch of samples, its receptive field. It stands for the ``stride``
samples around the middle of that field, so frames follow each other without gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fairseq2.models.feature_extractor import SequenceFeatureExtractor
from fairseq2.models.wav2vec2.feature_extractor import Wav2Vec2FeatureExtractor

from wavellama.errors import ConfigError
from wavellama.model.encoder_config import EncoderConfig
from wavellama.model.mel import HOP, WINDOW, FilterBankExtractor, LogMelExtractor
from wavellama.units import SAMPLE_RATE

TEXT_POSITIONS: Final = 100
"""The positions that are left for the text."""


@dataclass(frozen=True)
class FrameGrid:
    """Where the frames of a front end lie in the audio; all in samples."""

    stride: int
    """From the beginning of one frame's field to the next."""

    field: int
    """The receptive field of a frame."""

    shortest: int
    """The shortest audio that gives a frame: less than ``field`` where the last frame may be
    filled up with zeros."""

    begin: int = 0
    """Where the field of the first frame begins; below 0 where it reaches out of the audio."""

    def num_frames(self, num_samples: int) -> int:
        """Return how many frames the front end computes from ``num_samples``."""
        return max(0, (num_samples - self.shortest) // self.stride + 1)

    def samples_of(self, begin: int, end: int) -> tuple[int, int]:
        """Return the samples from which the frames ``begin`` to ``end`` (excluded) are computed."""
        first, last = self.begin + begin * self.stride, self.begin + (end - 1) * self.stride
        return max(first, 0), last + self.field

    def seconds(self, frame: float) -> float:
        """Return when a frame begins; the fraction of a frame lies within it."""
        margin = self.begin + (self.field - self.stride) / 2
        return (frame * self.stride + margin) / SAMPLE_RATE


_AROUND: Final = 2 * HOP + WINDOW // 2
"""Two convolutions over three windows, the second by steps."""

_LOG_MEL_GRID: Final = FrameGrid(2 * HOP, 2 * _AROUND, HOP, -_AROUND)


def frame_grid(extractor: SequenceFeatureExtractor | None) -> FrameGrid:
    """Return the grid of a model's front end; one that reads no waveforms is a ConfigError."""
    if isinstance(extractor, FilterBankExtractor):
        return _filter_bank_grid(extractor.stride)
    if isinstance(extractor, LogMelExtractor):
        return _LOG_MEL_GRID
    if isinstance(extractor, Wav2Vec2FeatureExtractor):
        return _convolution_grid(extractor.layer_descs)
    raise ConfigError(
        f"The times of a {type(extractor).__name__}'s frames are not known; alignment needs a model"
        " that reads waveforms."
    )


def encoder_grid(config: EncoderConfig) -> FrameGrid:
    """Return the grid of the front end that a configuration describes."""
    if config.use_log_mel:
        return _LOG_MEL_GRID
    if config.use_fbank:
        return _filter_bank_grid(config.fbank_stride)
    return _convolution_grid(config.feature_extractor_layer_descs)


def _filter_bank_grid(stride: int) -> FrameGrid:
    """Return the grid of frames that are ``stride`` windows each."""
    return FrameGrid(stride * HOP, (stride - 1) * HOP + WINDOW, WINDOW)


def _convolution_grid(layer_descs: Sequence[tuple[int, int, int]]) -> FrameGrid:
    """Return the grid of layers of (outputs, kernel size, stride)."""
    stride, field = 1, 1
    for _, kernel_size, layer_stride in layer_descs:
        field += (kernel_size - 1) * stride
        stride *= layer_stride
    return FrameGrid(stride, field, field)


def room_for_audio(limit: int) -> int:
    """Return how many of a decoder's positions may stand before a text, which keeps the others:
    ``TEXT_POSITIONS``, or a quarter of a short decoder's.
    """
    return limit - min(TEXT_POSITIONS, limit // 4)


def room_for_prompt(limit: int) -> int:
    """Return how many positions the prompt of a segment may take, with all of its context."""
    return room_for_audio(limit) - 2  # which no search fills
