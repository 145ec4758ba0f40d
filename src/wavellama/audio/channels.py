"""From several channels to one; opposite phases do not cancel unheard.

Shapes: T samples, C channels.
"""

from __future__ import annotations

import logging
from typing import Final, Literal, TypeAlias, final

import numpy as np

from wavellama.errors import AudioError
from wavellama.units import SAMPLE_RATE

Channel: TypeAlias = "int | Literal['mix']"
"""The number of a channel, from 1 on, or their mean."""

CANCELLED: Final = 0.01
"""Channels whose mean has less of their power than this cancel each other out: a microphone that
was connected with its poles exchanged."""

HEARD: Final = 0.1
"""Channels whose mean has more of their power than this do not cancel each other out any more."""

MEMORY_SECS: Final = 1.0
"""Over about how much of the past powers are averaged."""

_log = logging.getLogger(__name__)


@final
class Mixer:
    """Returns one channel, or the mean of all.

    Where the mean is silent though the channels are not, the loudest of them is returned alone,
    which is logged once.
    """

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel, self._name = channel, name
        self._powers = np.zeros(0)
        self._mean_power = 0.0
        self._alone: int | None = None
        self._is_logged = False

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return samples as mono. (T, C) or (T) -> (T).

        :raises AudioError: there is no such channel.
        """
        if samples.ndim == 1:
            samples = samples[:, None]
        num_channels = samples.shape[1]
        if self._channel != "mix":
            if self._channel > num_channels:
                raise AudioError(
                    self._name,
                    f"there is no channel {self._channel}; the audio has {num_channels}.",
                )
            return samples[:, self._channel - 1]
        mean: np.ndarray = samples.mean(1)
        if num_channels == 1:
            return mean
        self._listen(samples, mean)
        return mean if self._alone is None else samples[:, self._alone]

    def _listen(self, samples: np.ndarray, mean: np.ndarray) -> None:
        """Find out whether the channels cancel each other out."""
        if len(self._powers) != samples.shape[1]:
            self._powers, self._mean_power, self._alone = np.zeros(samples.shape[1]), 0.0, None
        kept = 0.5 ** (len(samples) / (MEMORY_SECS * SAMPLE_RATE))
        self._powers = kept * self._powers + np.einsum("tc,tc->c", samples, samples)
        self._mean_power = kept * self._mean_power + float(mean @ mean)
        power = self._powers.mean()
        if self._alone is None and self._mean_power < CANCELLED * power:
            self._alone = int(self._powers.argmax())
            self._warn()
        elif self._alone is not None and self._mean_power > HEARD * power:
            self._alone = None

    def _warn(self) -> None:
        if self._is_logged:
            return
        self._is_logged = True
        _log.warning(
            "%s: the channels cancel each other out (opposite phases); channel %d is read alone"
            " where they do.",
            self._name,
            (self._alone or 0) + 1,
        )
