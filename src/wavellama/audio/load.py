"""From a file, bytes or an array to a mono 16 kHz waveform.

Shapes: T samples, C channels.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from fractions import Fraction
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

MIN_RATE: Final = 1_000
MAX_RATE: Final = 768_000
"""The sample rates that are believed."""

MAX_RATIO: Final = 1_000
"""The largest number in the ratio of sample rates; resampling costs grow with it."""

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
    if sample_rate != SAMPLE_RATE and waveform.numel() > 0:
        waveform = _resample(waveform, sample_rate)
    if waveform.numel() <= MIN_SAMPLES:
        ms = waveform.numel() * 1000 / SAMPLE_RATE
        raise AudioError(name, f"the audio is {ms:.1f} ms long, but must be longer than 25 ms.")
    return waveform


def normalize(waveform: Tensor) -> Tensor:
    """Return the waveform with zero mean and unit variance over the whole clip. (T)."""
    return layer_norm(waveform, waveform.shape)


def describe(source: object) -> str:
    """Return how messages call ``source``."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, Mapping):
        return "audio given as an array"
    return "audio given as bytes"


def _resample(waveform: Tensor, sample_rate: int) -> Tensor:
    """Resample to 16 kHz; an odd rate is rounded to a ratio of small numbers (within 0.01 %)."""
    ratio = Fraction(SAMPLE_RATE, sample_rate).limit_denominator(MAX_RATIO)
    resampled: Tensor = torchaudio.functional.resample(waveform, ratio.denominator, ratio.numerator)
    return resampled


def _check_rate(sample_rate: object, name: str) -> int:
    valid = isinstance(sample_rate, int | np.integer) and not isinstance(sample_rate, bool)
    if not valid or not MIN_RATE <= int(str(sample_rate)) <= MAX_RATE:
        raise AudioError(
            name,
            f"the sample rate must be a whole number from {MIN_RATE} to {MAX_RATE},"
            f" but is {sample_rate!r}.",
        )
    return int(str(sample_rate))


def _decode(source: object, name: str) -> tuple[Tensor, int]:
    """Decode the first audio stream of a container. Returns (T) and its sample rate."""
    file = _open_source(source, name)
    try:
        with av.open(file) as container:
            return _read_stream(container, name)
    except (av.error.FFmpegError, OSError, ValueError) as ex:
        raise AudioError(name, f"the audio cannot be decoded ({ex}).") from ex


def _open_source(source: object, name: str) -> str | BytesIO:
    """Return what PyAV can open: a path or encoded bytes."""
    if isinstance(source, str | Path):
        if not os.path.isfile(source):  # unlike Path.is_file, never raises for odd names
            raise AudioError(name, "there is no such file.")
        return str(source)
    if isinstance(source, np.ndarray) and source.dtype in (np.int8, np.uint8):
        return BytesIO(source.tobytes())
    if isinstance(source, bytes | bytearray):
        return BytesIO(source)
    kind = f"array of {source.dtype}" if isinstance(source, np.ndarray) else type(source).__name__
    raise AudioError(
        name,
        f"a bare {kind} is no audio; give a path, encoded bytes, or"
        ' {"waveform": array, "sample_rate": rate}.',
    )


def _read_stream(container: av.container.InputContainer, name: str) -> tuple[Tensor, int]:
    if not container.streams.audio:
        raise AudioError(name, "the file has no audio stream.")
    # Packed, since PyAV crashes on planar frames of eight channels or more.
    resampler = av.AudioResampler(format="flt")
    blocks: list[np.ndarray] = []
    sample_rate = 0
    for frame in container.decode(audio=0):
        if sample_rate not in (0, frame.sample_rate):
            raise AudioError(name, "the sample rate changes within the file.")
        sample_rate = frame.sample_rate
        for packed in resampler.resample(frame):
            blocks.append(packed.to_ndarray().reshape(-1, packed.layout.nb_channels).mean(1))
    if not blocks:
        raise AudioError(name, "the file holds no audio samples.")
    return torch.from_numpy(np.concatenate(blocks)).float(), _check_rate(sample_rate, name)


def _read_mapping(source: Mapping[str, object], name: str) -> tuple[Tensor, int]:
    """Read ``{"waveform", "sample_rate"}``. Returns (T), a copy, and the sample rate."""
    if "waveform" not in source or "sample_rate" not in source:
        keys = sorted(map(str, source))
        raise AudioError(name, f"needs `waveform` and `sample_rate`, but has {keys}.")
    sample_rate = _check_rate(source["sample_rate"], name)
    waveform = source["waveform"]
    if isinstance(waveform, Tensor):
        waveform = waveform.detach().cpu()
        waveform = waveform.float() if waveform.dtype == torch.bfloat16 else waveform
    samples = np.asarray(waveform)
    if samples.dtype.kind not in "fiu":
        raise AudioError(name, f"the waveform must hold numbers, but holds {samples.dtype}.")
    return _to_mono(torch.tensor(_to_float(samples)), name), sample_rate


def _to_float(samples: np.ndarray) -> np.ndarray:
    """Return float samples; integers are scaled by their range, unsigned ones centred first."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    full_scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    centre = full_scale if samples.dtype.kind == "u" else 0.0
    scaled: np.ndarray = (samples.astype(np.float64) - centre) / full_scale
    return scaled.astype(np.float32)


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
