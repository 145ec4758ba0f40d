"""Audio that is given as an array: what it holds, and its samples as floats.

Shapes: T samples, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from torch import Tensor

from wavellama.audio.clock import Samples
from wavellama.errors import AudioError

MIN_RATE: Final = 1_000
MAX_RATE: Final = 768_000
"""The sample rates that are believed."""

MAX_CHANNELS: Final = 8
"""The most channels that an array may have on its shorter axis."""

WAVEFORM_KEYS: Final = ("waveform", "array")
RATE_KEYS: Final = ("sample_rate", "sampling_rate")
"""What the values of a mapping are called, here and by Hugging Face."""


def read_array(source: Mapping[str, object], name: str) -> tuple[Samples, int]:
    """Read ``{"waveform", "sample_rate"}``. Returns (T) or (T, C), of any type, and the rate.

    :raises AudioError: a key is missing, or its value no audio.
    """
    sample_rate = check_rate(_value(source, RATE_KEYS, name), name)
    samples = _to_array(_value(source, WAVEFORM_KEYS, name), name)
    if samples.dtype.kind not in "fiu":
        raise AudioError(name, f"the waveform must hold numbers, but holds {samples.dtype}.")
    return _time_first(samples, name), sample_rate


def _value(source: Mapping[str, object], keys: tuple[str, ...], name: str) -> object:
    """Return the value of the first of ``keys`` that there is."""
    for key in keys:
        if key in source:
            return source[key]
    raise AudioError(
        name,
        "needs `waveform` and `sample_rate` (or `array` and `sampling_rate`), but has"
        f" {sorted(map(str, source))}.",
    )


def _to_array(waveform: object, name: str) -> Samples:
    try:
        if isinstance(waveform, Tensor):
            waveform = waveform.detach().cpu()
            # numpy does not know all of torch's types of floats
            waveform = waveform.float() if waveform.is_floating_point() else waveform
        return np.asarray(waveform)
    except (TypeError, ValueError, RuntimeError) as ex:
        raise AudioError(name, f"the waveform cannot be read as an array ({ex}).") from ex


def narrow(samples: Samples) -> Samples:
    """Return int64 as the smallest of int16, int32 and int64 that holds all samples."""
    if samples.dtype.kind != "i" or samples.dtype.itemsize < 8 or not samples.size:
        return samples
    lowest = min(samples.min(), -1 - samples.max())
    dtype = np.promote_types(np.min_scalar_type(lowest), np.int16)
    return samples.astype(dtype, copy=False)


def check_rate(sample_rate: object, name: str) -> int:
    """Return a sample rate that can be believed, such as 22050.0; others are an AudioError."""
    if (
        isinstance(sample_rate, int | float | np.integer | np.floating)
        and MIN_RATE <= sample_rate <= MAX_RATE
        and sample_rate == int(sample_rate)
    ):
        return int(sample_rate)
    raise AudioError(
        name,
        f"the sample rate must be a whole number from {MIN_RATE} to {MAX_RATE},"
        f" but is {sample_rate!r}.",
    )


def _time_first(samples: Samples, name: str) -> Samples:
    """Return a view of (T), (C, T) or (T, C) as (T) or (T, C)."""
    if samples.ndim == 1:
        return samples
    channel_axes = [axis for axis, size in enumerate(samples.shape) if size <= MAX_CHANNELS]
    if samples.ndim != 2 or len(channel_axes) != 1:
        raise AudioError(
            name,
            f"an array of shape {samples.shape} is neither (samples), (channels, samples)"
            f" nor (samples, channels) with at most {MAX_CHANNELS} channels.",
        )
    return samples if channel_axes == [1] else samples.T


def to_float(samples: Samples) -> Samples:
    """Return a copy as floats; integers are scaled by their range, unsigned ones centred first."""
    if samples.dtype.kind == "f":
        return np.array(samples, np.float32, order="C")
    full_scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    centre = full_scale if samples.dtype.kind == "u" else 0.0
    scaled: Samples = (samples.astype(np.float64) - centre) / full_scale
    return np.array(scaled, np.float32, order="C")
