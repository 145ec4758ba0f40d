"""Samples, seconds and milliseconds."""

from __future__ import annotations

import pytest

from wavellama.units import (
    MIN_SAMPLES,
    SAMPLE_RATE,
    ms_to_samples,
    samples_to_seconds,
    seconds_to_samples,
)


@pytest.mark.parametrize(
    ("seconds", "samples"), [(0.0, 0), (1.0, 16_000), (15.0, 240_000), (0.000_04, 1), (0.1, 1600)]
)
def test_seconds_to_samples_rounds_to_the_nearest(seconds: float, samples: int) -> None:
    assert seconds_to_samples(seconds) == samples


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 16_000, 576_000_001])
def test_samples_survive_the_way_through_seconds(samples: int) -> None:
    assert seconds_to_samples(samples_to_seconds(samples)) == samples


def test_the_shortest_audio_is_25_ms() -> None:
    assert ms_to_samples(25) == MIN_SAMPLES == 400
    assert SAMPLE_RATE == 16_000
