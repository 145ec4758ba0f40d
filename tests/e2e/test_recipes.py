"""The recipes on the synthetic data set; test_twins.py has the whole life of each kind of model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.forked import run_forked
from tests.e2e.runs import last_line, metrics, run_cli, run_on_two_processes
from wavellama.tasks.registry import shipped_recipes


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five steps, and where it went."""
    folder = tmp_path_factory.mktemp("toy")
    result = run_cli("recipe", "asr", "train", "toy_train", cwd=folder, program="fairseq2")
    assert result.returncode == 0, result.stderr
    return folder / "runs" / "toy_train"


def test_no_environment_variable_reaches_the_logs(trained: Path) -> None:
    logs = "".join(path.read_text() for path in (trained / "logs").glob("*.log"))
    assert "Random number generator seed" in logs
    assert "OMP_NUM_THREADS" not in logs


@pytest.mark.parametrize("how", ["name", "path"])
def test_training_starts_from_a_trained_model(trained: Path, tmp_path: Path, how: str) -> None:
    """Finetune a checkpoint by name or by path."""
    checkpoints = trained / "checkpoints"
    start = {
        "name": ["del:model.family", "del:model.arch", "model.name=checkpoint_step_5"],
        "path": [f"model.path={checkpoints / 'step_5' / 'model'}"],
    }[how]
    result = run_forked(
        *("recipe", "asr", "train", "toy_train", "--output-dir", tmp_path, "--no-rich", "--config"),
        *(f"common.assets.prev_checkpoint_dir={checkpoints}", "regime.num_steps=1", *start),
        "del:masker",
    )
    assert result.returncode == 0, result.stderr
    first, last = metrics(trained, "train")[0], metrics(trained, "train")[-1]
    loss = metrics(tmp_path, "train")[0]["NLL Loss"]
    assert abs(loss - last["NLL Loss"]) < abs(loss - first["NLL Loss"])


def test_languages_are_mixed_in_training(tmp_path: Path) -> None:
    command = ("recipe", "asr", "train", "toy_train", "--output-dir", tmp_path, "--no-rich")
    result = run_forked(*command, "--config", "dataset.beta_language=0", "regime.num_steps=1")
    assert result.returncode == 0, result.stderr
    assert "(none) ita_Latn: 50.00% of its rows (by the formula 50.00%)" in result.stderr
    result = run_forked(*command, "--config", "dataset.beta_corpus=0.5")
    assert result.returncode == 1
    assert last_line(result).startswith("error: `beta_corpus` mixes the data by their corpus, but")


def test_a_ctc_head_is_trained_validated_and_evaluated(tmp_path: Path) -> None:
    out = tmp_path / "ctc"
    result = run_forked(
        *("recipe", "asr", "train", "toy_train", "--output-dir", out, "--no-rich", "--config"),
        *("model.config_overrides.ctc_head=true", "objective.ctc_weight=0.5"),
        *("freeze.encoder_steps=2", "regime.score_metric=ctc_cer"),
    )
    assert result.returncode == 0, result.stderr
    assert {"CTC Loss", "NLL Loss"} <= set(metrics(out, "train")[0])
    assert {"CTC Character Error Rate", "Character Error Rate (CER)"} <= set(
        metrics(out, "valid")[0]
    )
    evaluation = run_forked(
        "recipe", "asr", "eval", "toy_eval", "--model", out, "--output-dir", tmp_path / "eval"
    )
    assert evaluation.returncode == 0, evaluation.stderr
    assert "# CTC head" in evaluation.stdout
    head = json.loads((tmp_path / "eval" / "report_ctc.json").read_text())
    decoder = json.loads((tmp_path / "eval" / "report.json").read_text())
    assert head.keys() == decoder.keys()
    assert head != decoder


def test_dump_config_prints_what_a_run_would_use() -> None:
    result = run_cli(
        "recipe", "asr", "train", "toy_train", "--dump-config", "--config", "regime.num_steps=3"
    )
    assert result.returncode == 0, result.stderr
    assert "recipe: train" in result.stdout
    assert "num_steps: 3" in result.stdout


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_is_valid_and_says_how_to_start_it(name: str) -> None:
    result = run_forked("recipe", "run", name, "--dump-config")
    assert result.returncode == 0, result.stderr
    header = shipped_recipes()[name].read_text().split("recipe:")[0]
    assert f" {name}" in header.split("Start it with:")[1]


@pytest.mark.parametrize("verb", ["eval", "transcribe"])
def test_a_folder_without_checkpoints_is_no_model(verb: str, tmp_path: Path) -> None:
    result = run_cli("recipe", "asr", verb, f"toy_{verb}", "--model", tmp_path)
    assert result.returncode == 2
    assert "holds no training run" in last_line(result)


def test_two_processes_train_together(tmp_path: Path) -> None:
    """DDP over two processes through ``python -m wavellama`` under torchrun."""
    result = run_on_two_processes(
        *("recipe", "asr", "train", "toy_train", "--output-dir", tmp_path, "--no-rich", "--config"),
        *("regime.num_steps=3", "regime.validate_every_n_steps=3"),
        # A head that the objective leaves out gets no gradients, which DDP has to be told.
        *("regime.checkpoint_every_n_steps=3", "model.config_overrides.ctc_head=true"),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert [row["Step"] for row in metrics(tmp_path, "train")] == [1, 2, 3]
