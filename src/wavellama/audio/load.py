"""From a file, bytes or an array to a mono 16 kHz waveform.

Shapes: T samples.
"""

from __future__ import annotations

import numpy as np
import torch
import torchaudio.functional
from torch import Tensor
from torch.nn.functional import layer_norm

from wavellama.audio.sources import AudioInput, describe
from wavellama.audio.stream import stream_audio
from wavellama.audio.tracks import EVERYTHING, Selection
from wavellama.units import SAMPLE_RATE

__all__ = ["AudioInput", "Selection", "describe", "load_audio", "normalize"]


def load_audio(source: AudioInput, selection: Selection = EVERYTHING) -> Tensor:
    """Return all that ``stream_audio`` yields as one waveform: mono, 16 kHz, not normalised. (T).

    Silence, such as holes, takes no memory until it is written to.

    :raises AudioError: as ``stream_audio`` does.
    """
    blocks: list[tuple[int, Tensor]] = []
    num_samples = 0
    for block in stream_audio(source, selection=selection):
        if bool(block.any()):
            blocks.append((num_samples, block))
        num_samples += len(block)
    waveform = torch.from_numpy(np.zeros(num_samples, np.float32))  # pages of zeros are not there
    for begin, block in blocks:
        waveform[begin : begin + len(block)] = block
    return waveform


def normalize(waveform: Tensor) -> Tensor:
    """Return the waveform with zero mean and unit variance over the whole clip. (T)."""
    return layer_norm(waveform, waveform.shape)


def change_speed(waveform: Tensor, speed: float) -> Tensor:
    """Play the waveform ``speed`` times as fast, which moves its pitch, too. (T) -> (T / speed).

    The factor is rounded to whole percents, for which resampling is cheap.
    """
    rate = SAMPLE_RATE * round(100 * speed) // 100
    resampled: Tensor = torchaudio.functional.resample(waveform, rate, SAMPLE_RATE)
    return resampled
