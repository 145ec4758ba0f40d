"""What a run that goes on may not change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.forked import run_forked
from tests.e2e.runs import last_line, metrics
from wavellama.errors import ConfigError
from wavellama.tasks.setup import check_processes


def test_a_run_goes_on_with_as_many_processes(tmp_path: Path) -> None:
    """It was: `trainer` checkpoint of step 1 is not found."""
    command = (
        *("recipe", "asr", "train", "toy_train", "--output-dir", tmp_path, "--no-rich"),
        *("--config", "regime.checkpoint_every_n_steps=1"),
    )
    result = run_forked(*command, "regime.num_steps=1")
    assert result.returncode == 0, result.stderr
    check_processes(tmp_path, 1)
    with pytest.raises(ConfigError, match=r"on 1 process\(es\), .* cannot go on with 2"):
        check_processes(tmp_path, 2)
    (state,) = tmp_path.glob("checkpoints/step_1/data_reader/dp_00.pt")
    shutil.copy(state, state.with_name("dp_01.pt"))
    result = run_forked(*command, "regime.num_steps=2")
    assert result.returncode != 0
    assert "on 2 process(es)" in last_line(result)
    assert f"model.path={tmp_path / 'checkpoints' / 'step_1' / 'model'}" in last_line(result)
    assert not list(tmp_path.glob("checkpoints/step_2"))


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
