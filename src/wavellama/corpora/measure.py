"""Level and spoken time of a recording. Shapes: T samples."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wavellama.units import ms_to_samples, samples_to_seconds

Samples: TypeAlias = "NDArray[np.float32]"

WINDOW: Final = ms_to_samples(20)
"""Samples over which the level is taken."""

DYNAMIC_DB: Final = 35.0
"""A window this far below the loudest one is a pause."""

_FLOOR: Final = 1e-10


def level_db(samples: Samples) -> float:
    """Return the level of a waveform (T) in dB relative to full scale; -100 for silence."""
    return float(10 * np.log10(np.square(samples, dtype=np.float64).mean() + _FLOOR))


def active_seconds(samples: Samples) -> float:
    """Return how many seconds of a waveform (T) are not pauses."""
    whole = len(samples) // WINDOW * WINDOW
    if not whole:
        return samples_to_seconds(len(samples))
    power = np.square(samples[:whole], dtype=np.float64).reshape(-1, WINDOW).mean(1) + _FLOOR
    loud = power > power.max() * 10 ** (-DYNAMIC_DB / 10)
    return samples_to_seconds(int(loud.sum()) * WINDOW)
