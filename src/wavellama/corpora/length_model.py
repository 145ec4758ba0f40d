"""Does the length of a recording fit its transcript?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"

MIN_ITEMS: Final = 30
"""A speaker with fewer clips gets no model, and all of them pass."""

REFITS: Final = 8
"""How often the line is fitted again without the clips that it does not explain."""

SHORTEST: Final = 0.55
"""A clip shorter than this part of the prediction lacks some of its words."""

LONGEST: Final = 1.9
"""A clip longer than this multiple of the prediction says more than its words."""

_TRUSTED: Final = 2.0
_LEAST_SECONDS: Final = 1e-3


@dataclass(frozen=True)
class LengthModel:
    """Spoken seconds as a line over the number of letters, for one speaker."""

    base: float
    """Seconds of a clip without letters."""

    per_letter: float
    """Seconds per letter."""

    def predict(self, letters: Floats) -> Floats:
        """Return the seconds that ``letters`` take; at least a millisecond."""
        return np.maximum(self.base + self.per_letter * letters, _LEAST_SECONDS)


def fit_length_model(letters: Floats, seconds: Floats) -> LengthModel:
    """Fit by least squares, again and again on the clips within a factor of 2 of the line."""
    model = _fit_line(letters, seconds)
    for _ in range(REFITS):
        ratio = seconds / model.predict(letters)
        trusted = (ratio < _TRUSTED) & (ratio > 1 / _TRUSTED)
        if trusted.sum() < 2:
            break
        model = _fit_line(letters[trusted], seconds[trusted])
    return model


def plausible_lengths(letters: Floats, seconds: Floats) -> NDArray[np.bool_]:
    """Return for each clip of one speaker whether its length fits its letters."""
    if len(letters) < MIN_ITEMS:
        return np.ones(len(letters), dtype=np.bool_)
    ratio = seconds / fit_length_model(letters, seconds).predict(letters)
    return (ratio >= SHORTEST) & (ratio <= LONGEST)


def _fit_line(letters: Floats, seconds: Floats) -> LengthModel:
    columns = np.stack([np.ones_like(letters), letters], axis=1)
    (base, per_letter), *_ = np.linalg.lstsq(columns, seconds, rcond=None)
    return LengthModel(float(base), float(per_letter))
