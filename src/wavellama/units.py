"""Units of audio and every conversion between them: nobody else divides by 16000."""

from __future__ import annotations

from typing import Final

SAMPLE_RATE: Final = 16_000
"""Samples per second of all audio inside wavellama (mono)."""

MIN_SAMPLES: Final = 400
"""The shortest audio (25 ms) from which the published encoders compute one frame."""


def seconds_to_samples(seconds: float) -> int:
    """Return the number of samples in ``seconds``, rounded to the nearest one."""
    return round(seconds * SAMPLE_RATE)


def samples_to_seconds(num_samples: int) -> float:
    """Return the duration of ``num_samples`` in seconds."""
    return num_samples / SAMPLE_RATE


def ms_to_samples(milliseconds: float) -> int:
    """Return the number of samples in ``milliseconds``, rounded to the nearest one."""
    return seconds_to_samples(milliseconds / 1000)


def seconds_to_ms(seconds: float) -> int:
    """Return ``seconds`` in milliseconds, rounded to the nearest one: what subtitles can tell."""
    return round(seconds * 1000)
