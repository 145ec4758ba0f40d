"""Normalisation of audio whose end is not known yet.

Shapes: T samples.
"""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor

EPSILON: Final = 1e-5
"""Added to the variance, as layer norm does over whole clips."""


@final
class CausalNormalizer:
    """Gives each segment zero mean and unit variance by the statistics of all audio up to its end.

    How the audio arrived, sample by sample or at once, makes no difference to a segment.
    """

    def __init__(self) -> None:
        self._count = 0
        self._sum = self._sum_of_squares = 0.0

    def __call__(self, segment: Tensor) -> Tensor:
        """Take the next segment into account, and return it normalised. (T) -> (T), float32."""
        samples = segment.to(torch.float64)
        self._count += len(samples)
        self._sum += float(samples.sum())
        self._sum_of_squares += float(samples.square().sum())
        mean = self._sum / self._count
        variance = max(self._sum_of_squares / self._count - mean**2, 0.0)
        return samples.sub(mean).div((variance + EPSILON) ** 0.5).float()
