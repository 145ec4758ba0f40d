"""Early stopping: when it stops, what it says, and that it needs no memory of its own."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
from fairseq2.metrics import format_as_float
from fairseq2.metrics.recorders import MetricDescriptor

from tests.unit.test_tasks_history import record
from wavellama.tasks.stopping import EarlyStoppingSection, PatienceStopper

ERROR_RATE = MetricDescriptor("cer", "CER", 200, format_as_float)
ACCURACY = MetricDescriptor("accuracy", "CER", 200, format_as_float, higher_better=True)


def stops_at(
    folder: Path,
    rates: list[float],
    section: EarlyStoppingSection,
    metric: MetricDescriptor = ERROR_RATE,
) -> int | None:
    """Validate every 10 steps, in a process of its own each time; return where the run stops."""
    sign = 1.0 if metric.higher_better else -1.0
    for number, rate in enumerate(rates, start=1):
        record(folder, "valid", [(10 * number, rate)])  # recorded before the stopper is asked
        stopper = PatienceStopper(section, folder, metric)
        assert not stopper.has_stopped(10 * (number - 1))
        if stopper.should_stop(10 * number, sign * rate):
            assert stopper.has_stopped(10 * number)
            return 10 * number
    return None


@pytest.mark.parametrize(
    ("rates", "patience", "min_delta", "expected"),
    [
        ([50, 40, 30, 20, 10], 1, 0.0, None),
        ([50, 40, 41, 42, 10], 2, 0.0, 40),
        ([50, 40, 41, 39, 42, 43], 2, 0.0, 60),
        ([50, 50, 50], 2, 0.0, 30),
        ([50, 49, 48, 47], 3, 5.0, 40),
        ([50, 48, 44, 43], 2, 5.0, None),
        ([math.nan, 50, math.nan, math.nan], 2, 0.0, 40),
        ([math.nan, math.nan], 2, 0.0, 20),
        ([50], 1, 0.0, None),
    ],
)
def test_when_it_stops(
    tmp_path: Path, rates: list[float], patience: int, min_delta: float, expected: int | None
) -> None:
    section = EarlyStoppingSection(patience=patience, min_delta=min_delta)
    assert stops_at(tmp_path, rates, section) == expected


def test_higher_can_be_better(tmp_path: Path) -> None:
    section = EarlyStoppingSection(patience=2)
    assert stops_at(tmp_path, [10, 20, 15, 18, 30], section, ACCURACY) == 40


def test_repeated_validations_count_once(tmp_path: Path) -> None:
    """Killed after the validation at step 30, resumed at step 20."""
    record(tmp_path, "valid", [(10, 50.0), (20, 51.0), (30, 52.0), (30, 52.0)])
    stopper = PatienceStopper(EarlyStoppingSection(patience=3), tmp_path, ERROR_RATE)
    assert not stopper.should_stop(30, -52.0)
    assert stopper.should_stop(40, -50.0)


def test_it_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="fairseq2"):
        stops_at(tmp_path, [50.5, 40.25, 42], EarlyStoppingSection(patience=1, min_delta=0.5))
    assert (
        "CER has not improved by more than 0.5 for 1 validation(s). It was best at step 20 (40.25),"
        " and is 42 at step 30."
    ) in caplog.text
