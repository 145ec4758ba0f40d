"""What a run that goes on may not change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.forked import run_forked
from tests.e2e.runs import last_line
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
