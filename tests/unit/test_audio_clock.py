"""The clock puts samples where their time stamps say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavellama.audio.clock import (
    MAX_BROADCAST_HOLE_SECS,
    MAX_HOLE_SECS,
    SILENCE_SAMPLES,
    TOLERANCE_SECS,
    Clock,
)

RATE = 16_000
FRAME = 1_600
"""Samples of a frame: a tenth of a second."""


def play(
    *times: float | None, zero: float = 0.0, is_broadcast: bool = False, rate: int = RATE
) -> np.ndarray:
    """Return what a clock makes of frames of 0.1 s; the samples of frame i are i + 1."""
    clock = Clock(zero, is_broadcast)
    pieces = [
        piece
        for number, time in enumerate(times, 1)
        for piece in clock.place(np.full(rate // 10, number), rate, time)
    ]
    assert all(len(samples) <= SILENCE_SAMPLES for samples, _ in pieces)
    assert clock.position == pytest.approx(sum(len(one) / rate for one, rate in pieces), abs=1e-6)
    return np.concatenate([samples for samples, _ in pieces])


def tenths(heard: np.ndarray) -> list[int]:
    """Return what is heard in the middle of each tenth of a second."""
    return [int(sample) for sample in heard[FRAME // 2 :: FRAME]]


def test_frames_that_follow_on() -> None:
    assert tenths(play(0, 0.1, 0.2)) == tenths(play(None, None, None)) == [1, 2, 3]
    assert tenths(play(7, 7.1, 7.2, zero=7)) == [1, 2, 3]


def test_holes_are_silent() -> None:
    assert tenths(play(0.2, 0.3, 0.8, None, 1.0)) == [0, 0, 1, 2, 0, 0, 0, 0, 3, 4, 5]


def test_what_lies_before_zero_is_left_out() -> None:
    assert tenths(play(0.8, 0.9, 1.0, zero=0.9)) == [2, 3]
    assert len(play(0.95, 1.05, zero=1.0)) == FRAME * 3 // 2


def test_of_what_overlaps_the_first_stays() -> None:
    assert tenths(play(0, 0.1, 0.2, 0.0, 0.1, 0.2, 0.3)) == [1, 2, 3, 7]


@pytest.mark.parametrize("step", [0.2, 5.0, MAX_BROADCAST_HOLE_SECS - 0.01])
def test_a_broadcast_has_holes(step: float) -> None:
    assert len(play(0, 0.1 + step, is_broadcast=True)) == 2 * FRAME + round(step * RATE)


@pytest.mark.parametrize("step", [-0.15, -5.0, MAX_BROADCAST_HOLE_SECS + 0.01, 1e6, -1e6])
def test_a_broadcast_whose_clock_is_set_anew_follows_on(step: float) -> None:
    times = (0.1 + step, 0.2 + step, 0.5 + step)
    assert tenths(play(0, *times, is_broadcast=True)) == [1, 2, 3, 0, 0, 4]


@pytest.mark.parametrize("step", [MAX_HOLE_SECS + 1, -MAX_HOLE_SECS - 1])
def test_steps_beyond_all_measure_follow_on(step: float) -> None:
    assert tenths(play(0, 0.1 + step, 0.2, 0.5)) == [1, 2, 3, 0, 0, 4]
    assert tenths(play(step, step + 0.1)) == [1, 2]


@given(st.lists(st.floats(-TOLERANCE_SECS * 0.49, TOLERANCE_SECS * 0.49), max_size=30))
def test_jitter_adds_and_takes_nothing(jitter: list[float]) -> None:
    times = [0.1 * (number + 1) + late for number, late in enumerate(jitter)]
    heard = play(0.0, *times)
    assert np.array_equal(heard, np.repeat(np.arange(len(times) + 1) + 1, FRAME))


@given(
    st.lists(st.floats(-0.3, 2.0), min_size=1, max_size=12),
    st.sampled_from([8_000, 16_000, 44_100, 48_000]),
)
def test_frames_lie_where_their_time_stamps_say(steps: list[float], rate: int) -> None:
    """Each is heard at its time, unless others are, and no more than the tolerance away."""
    clock, time, covered, heard = Clock(0.0, is_broadcast=False), 0.0, 0.0, 0.0
    for step in steps:
        time = max(time + step, 0.0)
        begins = []
        for samples, piece_rate in clock.place(np.ones(rate // 10), rate, time):
            if samples.any():
                begins.append(heard)
            heard += len(samples) / piece_rate
        assert begins or time + 0.1 <= covered + TOLERANCE_SECS + 0.001
        assert all(abs(begin - max(time, covered)) <= TOLERANCE_SECS + 0.001 for begin in begins)
        covered = heard
        time += 0.1


def test_after_damage_time_stamps_count_exactly() -> None:
    clock = Clock(0.0, is_broadcast=False)
    list(clock.place(np.ones(FRAME), RATE, 0.0))
    clock.expect_hole()
    silence, samples = clock.place(np.ones(FRAME), RATE, 0.15)
    assert (len(silence[0]), len(samples[0])) == (800, FRAME)
    assert len(list(clock.place(np.ones(FRAME), RATE, 0.3))) == 1


def test_what_is_left_out_is_counted() -> None:
    clock = Clock(1.0, is_broadcast=False)
    for time in (0.9, 1.0, 1.1, 1.0, 1.1, 1.2):
        list(clock.place(np.ones(FRAME), RATE, time))
    assert clock.dropped_secs == pytest.approx(0.2)
