"""What a run has recorded, read back: complete, in order, and each step once."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from wavellama.tasks.history import read_history


def record(folder: Path, category: str, rows: list[tuple[int, float]]) -> None:
    """Append rows as fairseq2's recorder does."""
    (folder / "metrics").mkdir(exist_ok=True)
    with (folder / "metrics" / f"{category}.jsonl").open("a") as file:
        file.writelines(json.dumps({"Step": step, "CER": value}) + "\n" for step, value in rows)


def read(folder: Path, last_step: int = 1000) -> list[tuple[int, float]]:
    return [(row["Step"], row["CER"]) for row in read_history(folder, "train", last_step)]


def test_a_run_without_records_has_no_history(tmp_path: Path) -> None:
    assert read_history(tmp_path, "train", 10) == []


def test_a_resumed_run_goes_on(tmp_path: Path) -> None:
    record(tmp_path, "train", [(1, 0.1), (2, 0.2)])
    record(tmp_path, "train", [(3, 0.3)])
    assert read(tmp_path) == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_repeated_steps_count_once(tmp_path: Path) -> None:
    """Killed at step 5, resumed at 2, killed at 4, resumed at 3."""
    for rows in ([1, 2, 3, 4, 5], [3, 4], [4, 5, 6]):
        record(tmp_path, "train", [(step, len(rows)) for step in rows])
    assert read(tmp_path) == [(1, 5), (2, 5), (3, 2), (4, 3), (5, 3), (6, 3)]


def test_steps_that_a_resumed_run_does_not_record_again_are_gone(tmp_path: Path) -> None:
    """Every step was recorded before, every second one is now."""
    record(tmp_path, "train", [(step, 1.0) for step in (1, 2, 3, 4, 5)])
    record(tmp_path, "train", [(4, 2.0)])
    assert read(tmp_path) == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]


def test_what_lies_ahead_is_of_another_attempt(tmp_path: Path) -> None:
    record(tmp_path, "train", [(10, 1.0), (20, 2.0)])
    assert read(tmp_path, last_step=15) == [(10, 1.0)]


def test_a_line_that_was_cut_off_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path, "train", [(1, 1.0)])
    with (tmp_path / "metrics" / "train.jsonl").open("a") as file:
        file.write('{"Step": 2, "CE')
    record(tmp_path, "train", [(2, 2.0), (3, 3.0)])
    with caplog.at_level(logging.WARNING, logger="fairseq2"):
        assert read(tmp_path) == [(1, 1.0), (3, 3.0)]
    assert "train.jsonl, line 2, is left out" in caplog.text
