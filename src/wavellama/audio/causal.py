"""Normalisation of audio that is not held as a whole.

Shapes: T samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

import torch
from torch import Tensor
from typing_extensions import override

EPSILON: Final = 1e-5
"""Added to the variance, as layer norm does over whole clips."""


class Normalizer:
    """Gives audio zero mean and unit variance by the statistics of the audio that was added."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = self._sum_of_squares = 0.0

    def add(self, samples: Tensor) -> None:
        """Take more audio into account. (T)."""
        samples = samples.to(torch.float64)
        self._count += len(samples)
        self._sum += float(samples.sum())
        self._sum_of_squares += float(samples.square().sum())

    def __call__(self, samples: Tensor) -> Tensor:
        """Return samples normalised. (T) -> (T), float32."""
        mean = self._sum / self._count
        variance = max(self._sum_of_squares / self._count - mean**2, 0.0)
        return samples.to(torch.float64).sub(mean).div((variance + EPSILON) ** 0.5).float()


@final
class CausalNormalizer(Normalizer):
    """Gives each segment zero mean and unit variance by the statistics of all audio up to its end.

    How the audio arrived, sample by sample or at once, makes no difference to a segment.
    """

    @override
    def __call__(self, segment: Tensor) -> Tensor:
        self.add(segment)
        return super().__call__(segment)


def clip_normalizer(blocks: Iterable[Tensor]) -> Normalizer:
    """Return the normaliser of a whole clip, which is read once for it. *Shape of each:* (T)."""
    normalizer = Normalizer()
    for block in blocks:
        normalizer.add(block)
    return normalizer
