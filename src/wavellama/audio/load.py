"""From a file, bytes or an array to a mono 16 kHz waveform.

Shapes: T samples.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from wavellama.audio.sources import AudioInput, describe
from wavellama.audio.stream import stream_audio

__all__ = ["AudioInput", "describe", "load_audio", "normalize"]


def load_audio(source: AudioInput) -> Tensor:
    """Return the audio of ``source`` as a mono 16 kHz waveform in float32, not normalised. (T).

    Any sample rate is resampled; channels are averaged; both may change on the way. Silence stands
    in for single packets that cannot be decoded.

    :raises AudioError: the source is missing, not audio, too short (25 ms or less), holds NaN or
        infinite samples, its layout cannot be told, or more than a tenth of its packets cannot be
        decoded.
    """
    return torch.cat(list(stream_audio(source)))


def normalize(waveform: Tensor) -> Tensor:
    """Return the waveform with zero mean and unit variance over the whole clip. (T)."""
    return layer_norm(waveform, waveform.shape)
