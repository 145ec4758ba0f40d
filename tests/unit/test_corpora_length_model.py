"""The length model, and the measures that feed it."""

from __future__ import annotations

import numpy as np
import pytest

from wavellama.corpora.length_model import MIN_ITEMS, fit_length_model, plausible_lengths
from wavellama.corpora.measure import active_seconds, level_db
from wavellama.units import SAMPLE_RATE

LETTERS = np.arange(2.0, 62.0)
SECONDS = 0.3 + 0.06 * LETTERS


def test_the_line_is_found_in_spite_of_misfits() -> None:
    seconds = SECONDS.copy()
    seconds[::6] *= 5
    model = fit_length_model(LETTERS, seconds)
    assert (model.base, model.per_letter) == pytest.approx((0.3, 0.06))


@pytest.mark.parametrize(("factor", "good"), [(0.54, False), (0.56, True), (1.89, True)])
def test_the_limits(factor: float, good: bool) -> None:
    seconds = SECONDS.copy()
    # Far from the trusted half, a single row hardly moves the line of 59 exact ones.
    seconds[30] *= factor
    fits = plausible_lengths(LETTERS, seconds)
    assert bool(fits[30]) is good
    assert np.delete(fits, 30).all()


def test_twice_as_long_is_too_long() -> None:
    seconds = SECONDS.copy()
    seconds[30] *= 2.05
    assert not plausible_lengths(LETTERS, seconds)[30]


def test_a_speaker_with_few_clips_is_not_judged() -> None:
    few = MIN_ITEMS - 1
    seconds = SECONDS[:few].copy()
    seconds[0] = 60
    assert plausible_lengths(LETTERS[:few], seconds).all()
    assert plausible_lengths(LETTERS[:0], seconds[:0]).shape == (0,)


def test_a_falling_line_predicts_no_negative_length() -> None:
    model = fit_length_model(LETTERS, np.full_like(LETTERS, 1.0) - 0.01 * LETTERS)
    assert model.predict(np.array([1000.0]))[0] > 0


def _tone(secs: float, amplitude: float) -> np.ndarray:
    times = np.arange(int(secs * SAMPLE_RATE)) / SAMPLE_RATE
    return (amplitude * np.sin(2 * np.pi * 440 * times)).astype(np.float32)


def test_level() -> None:
    assert level_db(_tone(1, 1.0)) == pytest.approx(-3.01, abs=0.01)
    assert level_db(_tone(1, 0.001)) == pytest.approx(-63.01, abs=0.01)
    assert level_db(np.zeros(100, np.float32)) == pytest.approx(-100)


def test_pauses_are_not_active() -> None:
    speech = np.concatenate([_tone(0.5, 0.001), _tone(1, 0.5), np.zeros(8000, np.float32)])
    assert active_seconds(speech) == pytest.approx(1.0, abs=0.021)
    assert active_seconds(_tone(1, 0.001)) == pytest.approx(1.0)
    assert active_seconds(_tone(0.01, 0.5)) == pytest.approx(0.01)
