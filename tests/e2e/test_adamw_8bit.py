"""Training with moments of 8 bits, where bitsandbytes is installed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

import pytest
import torch
from fairseq2.runtime.dependency import DependencyContainer
from torch.nn import Linear, Module

from tests.e2e.forked import run_forked
from tests.e2e.runs import metrics, weights
from wavellama.errors import ConfigError
from wavellama.model.adamw_8bit import AdamW8BitConfig, create_adamw_8bit

TRAIN: Final = ("recipe", "asr", "train", "toy_train", "--no-rich", "--output-dir")
CONFIG: Final = (
    *("--config", "del:optimizer.config", "optimizer.name=adamw_8bit", "optimizer.config.lr=0.002"),
    *("regime.num_steps=4", "regime.validate_every_n_steps=2", "dataset.max_audio_secs=2"),
    *("regime.checkpoint_every_n_steps=2", "regime.publish_metrics_every_n_steps=1"),
)


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    container = DependencyContainer()
    container.register_instance(Module, Linear(1, 1))
    with pytest.raises(ConfigError, match=r"pip install 'wavellama\[adamw-8bit\]'"):
        create_adamw_8bit(container, AdamW8BitConfig())


@pytest.mark.slow
def test_a_run_goes_on_bit_by_bit_from_bytes(tmp_path: Path) -> None:
    reason = "not installed: pip install 'wavellama[adamw-8bit]'"
    pytest.importorskip("bitsandbytes", reason=reason)
    result = run_forked(*TRAIN, tmp_path / "run", *CONFIG)
    assert result.returncode == 0, result.stderr[-3000:]
    losses = [row["NLL Loss"] for row in metrics(tmp_path / "run", "train")]
    assert losses[-1] < losses[0]
    kept = tmp_path / "run/checkpoints/step_4"
    states = [torch.load(path, weights_only=False) for path in kept.glob("optimizer/**/*.pt")]
    moments = [m for state in states for m in _tensors(state) if m.numel() >= 4096]
    assert moments
    assert {moment.dtype for moment in moments} == {torch.uint8}

    shutil.copytree(tmp_path / "run", tmp_path / "again")
    shutil.rmtree(tmp_path / "again/checkpoints/step_4")
    result = run_forked(*TRAIN, tmp_path / "again", *CONFIG)
    assert result.returncode == 0, result.stderr[-3000:]
    expected, actual = (weights(tmp_path / run, 4) for run in ("run", "again"))
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def _tensors(state: object) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list) else ()
    return [tensor for value in values for tensor in _tensors(value)]
