"""Training with moments of 8 bits, where bitsandbytes is installed."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest
import torch

from tests.e2e.forked import run_forked
from tests.e2e.runs import last_line, metrics, weights

RECIPE: Final = """
recipe: train
model: {family: wav2vec2_llama, arch: tiny_lid}
dataset: {name: toy_tones, max_audio_secs: 2, batch_audio_secs: 8}
tokenizer: {name: toy_tokenizer}
optimizer:
  name: adamw_8bit
  _set_: {config: {lr: 0.002, betas: [0.9, 0.98]}}
seq2seq_generator: {name: wav2vec2_llama_beam, config: {nbest: 1, max_new_tokens: 5}}
regime: {num_steps: 4, validate_every_n_steps: 2, checkpoint_every_n_steps: 2,
         publish_metrics_every_n_steps: 1}
"""


def _train(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    (folder / "recipe.yaml").write_text(RECIPE)
    return run_forked("recipe", "run", "recipe.yaml", "--output-dir", name, "--no-rich", cwd=folder)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_without_the_package_it_is_named(tmp_path: Path) -> None:
    result = _train(tmp_path, "run")
    assert result.returncode == 2
    assert last_line(result).endswith("pip install 'wavellama[adamw-8bit]'.")


@pytest.mark.slow
def test_a_run_goes_on_bit_by_bit_from_bytes(tmp_path: Path) -> None:
    reason = "not installed: pip install 'wavellama[adamw-8bit]'"
    pytest.importorskip("bitsandbytes", reason=reason)
    result = _train(tmp_path, "run")
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
    result = _train(tmp_path, "again")
    assert result.returncode == 0, result.stderr[-3000:]
    expected, actual = (weights(tmp_path / run, 4) for run in ("run", "again"))
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def _tensors(state: object) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list) else ()
    return [tensor for value in values for tensor in _tensors(value)]
