"""A run killed at any moment and started again ends with the weights of an uninterrupted one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.e2e.runs import metrics, run_cli

ARGS = (
    *("recipe", "asr", "train", "toy_train", "--no-rich", "--config", "regime.num_steps=40"),
    *("regime.validate_every_n_steps=10", "regime.checkpoint_every_n_steps=2"),
    *("augment.speeds=[0.9, 1.0, 1.1]", "augment.concat_p=0.3", "objective.token_noise_p=0.2"),
)


def train(output_dir: Path, kill_after: float | None = None) -> None:
    """Train; with ``kill_after``, SIGKILL that many seconds after the start."""
    command = [str(Path(sys.executable).with_name("wavellama")), *ARGS]
    command[command.index("--no-rich") : command.index("--no-rich")] = [
        *("--output-dir", str(output_dir))
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    if kill_after is None:
        assert process.wait(timeout=300) == 0
        return
    deadline = time.monotonic() + kill_after
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def weights(output_dir: Path) -> dict[str, torch.Tensor]:
    path = output_dir / "checkpoints" / "step_40" / "model" / "pp_00" / "tp_00" / "sdp_00.pt"
    state: dict[str, torch.Tensor] = torch.load(path)
    return state


@pytest.mark.slow
def test_kill_9_at_random_moments_changes_nothing(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    started = time.monotonic()
    train(whole)
    duration = time.monotonic() - started
    draw = random.Random(0)
    for _ in range(5):
        train(killed, kill_after=draw.uniform(0.4, 1.0) * duration)
    train(killed)
    expected, actual = weights(whole), weights(killed)
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    losses = {row["Step"]: row["NLL Loss"] for row in metrics(killed, "train")}
    assert losses == {row["Step"]: row["NLL Loss"] for row in metrics(whole, "train")}


def _listen_to_ctrl_c() -> None:
    """Undo what a shell does to commands that it runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_ctrl_c_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    """Training goes on with the step after it."""
    train = (*ARGS[:4], "--output-dir", str(tmp_path), *ARGS[4:])
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("wavellama")), *train, "regime.num_steps=100000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_listen_to_ctrl_c,
    )
    while not (steps := list(tmp_path.glob("checkpoints/step_*[0-9]"))):  # not step_2.tmp
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) != 0
    done = [row["Step"] for row in metrics(tmp_path, "train")]
    last = max(int(path.name[5:]) for path in tmp_path.glob("checkpoints/step_*[0-9]"))
    assert last >= int(steps[0].name[5:])
    assert done == list(range(1, max(done) + 1))
    assert max(done) - 3 <= last <= max(done), "a checkpoint is written every two steps"
    result = run_cli(*train, f"regime.num_steps={last + 2}")
    assert result.returncode == 0, result.stderr
    more = [row["Step"] for row in metrics(tmp_path, "train")][len(done) :]
    assert more == [last + 1, last + 2]
