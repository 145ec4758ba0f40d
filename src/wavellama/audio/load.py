"""From a file, bytes or an array to a mono 16 kHz waveform.

Shapes: T samples, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Final, TypeAlias

import av
import numpy as np
import torch
import torchaudio.functional
from torch import Tensor
from torch.nn.functional import layer_norm

from wavellama.errors import AudioError
from wavellama.units import MIN_SAMPLES, SAMPLE_RATE

AudioInput: TypeAlias = "str | Path | bytes | bytearray | np.ndarray | Mapping[str, object]"
"""A path, encoded bytes (also as an array of int8 or uint8), or a mapping with ``waveform`` (array
or tensor) and ``sample_rate``."""

MAX_CHANNELS: Final = 8
"""The most channels that an array may have on its shorter axis."""


def load_audio(source: AudioInput) -> Tensor:
    """Return the audio of ``source`` as a mono 16 kHz waveform in float32, not normalised. (T).

    Any sample rate is resampled; channels are averaged.

    :raises AudioError: the source is missing, not audio, too short (25 ms or less), holds NaN or
        infinite samples, or its layout cannot be told.
    """
    name = describe(source)
    if isinstance(source, Mapping):
        waveform, sample_rate = _read_mapping(source, name)
    else:
        waveform, sample_rate = _decode(source, name)
    if not bool(torch.isfinite(waveform).all()):
        raise AudioError(name, "the audio holds NaN or infinite samples.")
    if sample_rate != SAMPLE_RATE:
        waveform = torchaudio.functional.resample(waveform, sample_rate, SAMPLE_RATE)
    if waveform.numel() <= MIN_SAMPLES:
        ms = waveform.numel() * 1000 / SAMPLE_RATE
        raise AudioError(name, f"the audio is {ms:.1f} ms long, but must be longer than 25 ms.")
    return waveform


def normalize(waveform: Tensor) -> Tensor:
    """Return the waveform with zero mean and unit variance over the whole clip. (T)."""
    return layer_norm(waveform, waveform.shape)


def describe(source: AudioInput) -> str:
    """Return how messages call ``source``."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, Mapping):
        return "audio given as an array"
    return "audio given as bytes"


def _decode(source: str | Path | bytes | bytearray | np.ndarray, name: str) -> tuple[Tensor, int]:
    """Decode the first audio stream of a container. Returns (T) and its sample rate."""
    if isinstance(source, np.ndarray):
        if source.dtype not in (np.int8, np.uint8):
            raise AudioError(
                name,
                f"a bare array of {source.dtype} has no sample rate; give"
                ' {"waveform": array, "sample_rate": rate} instead.',
            )
        source = source.tobytes()
    if isinstance(source, str | Path) and not Path(source).is_file():
        raise AudioError(name, "there is no such file.")
    file = str(source) if isinstance(source, str | Path) else BytesIO(bytes(source))
    try:
        with av.open(file) as container:
            return _read_stream(container, name)
    except (av.error.FFmpegError, OSError, ValueError) as ex:
        raise AudioError(name, f"the audio cannot be decoded ({ex}).") from ex


def _read_stream(container: av.container.InputContainer, name: str) -> tuple[Tensor, int]:
    if not container.streams.audio:
        raise AudioError(name, "the file has no audio stream.")
    resampler = av.AudioResampler(format="fltp")
    blocks: list[np.ndarray] = []
    sample_rate = 0
    for frame in container.decode(audio=0):
        if sample_rate not in (0, frame.sample_rate):
            raise AudioError(name, "the sample rate changes within the file.")
        sample_rate = frame.sample_rate
        blocks.extend(out.to_ndarray().mean(0) for out in resampler.resample(frame))
    if not blocks:
        raise AudioError(name, "the file holds no audio samples.")
    return torch.from_numpy(np.concatenate(blocks)).float(), sample_rate


def _read_mapping(source: Mapping[str, object], name: str) -> tuple[Tensor, int]:
    """Read ``{"waveform", "sample_rate"}``. Returns (T) and the sample rate."""
    if "waveform" not in source or "sample_rate" not in source:
        raise AudioError(name, f"needs `waveform` and `sample_rate`, but has {sorted(source)}.")
    sample_rate = source["sample_rate"]
    if not isinstance(sample_rate, int | np.integer) or sample_rate < 1:
        raise AudioError(name, f"`sample_rate` must be a positive integer, but is {sample_rate!r}.")
    waveform = torch.as_tensor(source["waveform"])
    if waveform.is_complex():
        raise AudioError(name, "the array holds complex numbers.")
    if not waveform.is_floating_point():
        waveform = waveform.double() / torch.iinfo(waveform.dtype).max
    return _to_mono(waveform.float(), name), int(sample_rate)


def _to_mono(waveform: Tensor, name: str) -> Tensor:
    """Average the channels of (T), (C, T) or (T, C). Returns (T)."""
    if waveform.ndim == 1:
        return waveform
    channel_axes = [axis for axis, size in enumerate(waveform.shape) if size <= MAX_CHANNELS]
    if waveform.ndim != 2 or len(channel_axes) != 1:
        raise AudioError(
            name,
            f"an array of shape {tuple(waveform.shape)} is neither (samples), (channels, samples)"
            f" nor (samples, channels) with at most {MAX_CHANNELS} channels.",
        )
    return waveform.mean(channel_axes[0])
