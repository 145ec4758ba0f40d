"""Changes of the waveform in training.

Shapes: T samples.
"""

from __future__ import annotations

import torchaudio.functional
from torch import Tensor

from wavellama.units import SAMPLE_RATE


def change_speed(waveform: Tensor, speed: float) -> Tensor:
    """Play the waveform ``speed`` times as fast, which moves its pitch, too. (T) -> (T / speed).

    The factor is rounded to whole percents, for which resampling is cheap.
    """
    rate = SAMPLE_RATE * round(100 * speed) // 100
    resampled: Tensor = torchaudio.functional.resample(waveform, rate, SAMPLE_RATE)
    return resampled
