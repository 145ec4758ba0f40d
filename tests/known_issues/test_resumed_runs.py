"""What a run that goes on may not change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.forked import run_forked, run_forked_world
from tests.e2e.runs import metrics
from wavellama.data.toy import ToyTones, ToyTonesConfig


def test_a_run_goes_on_with_other_numbers_of_processes(tmp_path: Path) -> None:
    """It was: `trainer` checkpoint of step 1 is not found; then, a refusal."""
    command = ("recipe", "asr", "train", "toy_train", "--output-dir", tmp_path, "--no-rich")
    for num_processes, num_steps in ((1, 2), (2, 3), (1, 12)):
        result = run_forked_world(
            *(num_processes, *command, "--config", f"regime.num_steps={num_steps}"),
            *("lr_scheduler.config.cycle_len=12", "regime.checkpoint_every_n_steps=1"),
        )
        assert result.returncode == 0, result.stderr[-2000:]
        saved = tmp_path / "checkpoints" / f"step_{num_steps}"
        assert len(list(saved.glob("trainer/rank_*.pt"))) == num_processes
    rows = metrics(tmp_path, "train")
    assert [row["Step"] for row in rows] == list(range(1, 13))
    assert rows[-1]["Data Epoch"] > 1, "the first epoch is over"
    heard = sum(row["Audio Seconds"] for row in rows if row["Data Epoch"] == 1)
    utterances = ToyTones(ToyTonesConfig()).utterances("train")
    assert heard == pytest.approx(sum(utterance.duration for utterance in utterances), abs=0.01)


def test_a_run_with_more_steps_follows_the_schedule_of_that_many(tmp_path: Path) -> None:
    """It was: the schedule of the first attempt began again, with its highest rate."""
    command = ("recipe", "asr", "train", "toy_train", "--no-rich", "--config")
    for folder, num_steps in (("whole", 6), ("resumed", 3), ("resumed", 6)):
        result = run_forked(
            *(*command[:4], "--output-dir", tmp_path / folder, *command[4:]),
            *(f"regime.num_steps={num_steps}", "regime.checkpoint_every_n_steps=3"),
        )
        assert result.returncode == 0, result.stderr
    whole, resumed = (learning_rates(tmp_path / folder) for folder in ("whole", "resumed"))
    assert len(set(whole.values())) == 6, "the rate falls from step to step"
    assert resumed[3] < whole[3], "three steps of three"
    assert [resumed[step] for step in (4, 5, 6)] == [whole[step] for step in (4, 5, 6)]


def learning_rates(output_dir: Path) -> dict[int, float]:
    """Return the learning rate of each step."""
    return {row["Step"]: row["Learning Rate"] for row in metrics(output_dir, "train")}
