"""Curves, early stopping, learning rates of parts and the picture of a report, in real runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.forked import run_forked
from tests.e2e.runs import last_line, metrics, run_cli, run_on_two_processes
from tests.unit.test_tasks_plots import png_size
from wavellama.tasks.history import read_history

TRAIN = ("recipe", "asr", "train", "toy_train", "--no-rich")
OFTEN = ("regime.validate_every_n_steps=2", "regime.checkpoint_every_n_steps=2")
PATIENCE = ("early_stopping.patience=2", "early_stopping.min_delta=1000")
"""No score gains 1000, so that the run stops two validations after the first one."""

DOCS = Path(__file__).parents[2] / "docs"


def train(output_dir: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    result = run_forked(*TRAIN, "--output-dir", output_dir, "--config", *OFTEN, *overrides)
    assert result.returncode == 0, result.stderr
    return result


def steps(output_dir: Path, category: str = "train") -> list[int]:
    return [row["Step"] for row in metrics(output_dir, category)]


def test_the_curves_of_a_killed_run_are_complete(tmp_path: Path) -> None:
    """As if it had been killed before the checkpoints at steps 4 and 6 were complete."""
    train(tmp_path, "regime.num_steps=6")
    assert png_size(tmp_path / "curves.png") == (900, 960)
    for step in (4, 6):
        shutil.rmtree(tmp_path / "checkpoints" / f"step_{step}")
    before = (tmp_path / "curves.png").read_bytes()
    train(tmp_path, "regime.num_steps=7")
    assert steps(tmp_path) == [1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 7]
    history = [row["Step"] for row in read_history(tmp_path, "train", 7)]
    assert history == [1, 2, 3, 4, 5, 6, 7]
    assert [row["Step"] for row in read_history(tmp_path, "valid", 7)] == [2, 4, 6, 7]
    assert (tmp_path / "curves.png").read_bytes() != before


def test_a_run_stops_early_across_a_resume_and_only_once(tmp_path: Path) -> None:
    train(tmp_path, *PATIENCE, "regime.num_steps=4")
    stopped = train(tmp_path, *PATIENCE, "regime.num_steps=40")
    assert steps(tmp_path, "valid") == [2, 4, 6]
    reason = "has not improved by more than 1000 for 2 validation(s). It was best at step 2"
    assert reason in stopped.stderr
    assert "Stopping training at step 6" in stopped.stderr
    again = train(tmp_path, *PATIENCE, "regime.num_steps=40")
    assert reason in again.stderr
    assert "raise `early_stopping.patience`" in again.stderr
    assert steps(tmp_path)[-1] == 6


@pytest.mark.slow
def test_all_processes_stop_together(tmp_path: Path) -> None:
    for _ in ("stops", "has stopped"):
        result = run_on_two_processes(
            *(*TRAIN, "--output-dir", tmp_path, "--config", *OFTEN, *PATIENCE),
            "regime.num_steps=40",
        )
        assert result.returncode == 0, result.stderr[-3000:]
        assert steps(tmp_path, "valid") == [2, 4, 6]


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run with the learning rates of docs/training.md that cannot draw; and its log."""
    folder = tmp_path_factory.mktemp("grouped")
    example = (DOCS / "training.md").read_text("utf-8").split("```yaml\noptimizer:")[1]
    path = folder / "grouped.yaml"
    path.write_text(
        "recipe: train\n"
        "model: {family: wav2vec2_llama, arch: tiny_lid, config_overrides: {ctc_head: true}}\n"
        "dataset: {name: toy_tones}\n"
        "tokenizer: {name: toy_tokenizer}\n"
        "seq2seq_generator: {config: {nbest: 1, max_new_tokens: 5}}\n"
        "optimizer:" + example.split("```")[0]
    )
    (folder / "out" / "curves.png").mkdir(parents=True)
    result = run_cli("recipe", "run", path, "--output-dir", folder / "out", "--no-rich")
    assert result.returncode == 0, result.stderr
    return folder / "out", result.stderr


def test_parts_learn_at_rates_of_their_own(grouped: tuple[Path, str]) -> None:
    output_dir, log = grouped
    rates = [row["Learning Rate"] for row in metrics(output_dir, "train")]
    assert rates[0] == [0.0001, 0.001]
    assert all(encoder == pytest.approx(0.1 * decoder) for encoder, decoder in rates)
    taken = log.split("Optimizer Parameter Group 0: ")[1].split("\n")[0].split(", ")
    rest = log.split("Optimizer Parameter Group 1: ")[1].split("\n")[0].split(", ")
    assert {name.split(".")[0] for name in taken} == {"encoder", "encoder_frontend", "ctc_head"}
    assert {"encoder_proj", "llama_decoder"} <= {name.split(".")[0] for name in rest}


def test_a_run_that_cannot_draw_goes_on(grouped: tuple[Path, str]) -> None:
    output_dir, log = grouped
    assert "curves.png could not be drawn: IsADirectoryError" in log
    assert steps(output_dir) == [1, 2, 3, 4, 5]


def test_a_report_has_a_picture(grouped: tuple[Path, str], tmp_path: Path) -> None:
    result = run_forked(
        *("recipe", "asr", "eval", "toy_eval", "--model", grouped[0], "--output-dir", tmp_path)
    )
    assert result.returncode == 0, result.stderr
    width, height = png_size(tmp_path / "report.png")
    assert width == 800
    assert height == pytest.approx(100 * (1.5 + 2 * 0.2 + 2 * 2.6 * 0.17), abs=1)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("objective.ctc_weight=1", ("score_metric` is cer", "ctc_weight: 1", "choose ctc_cer")),
        ("regime.score_metric=ctc_cer", ("is ctc_cer", "one of nll_loss, cer, wer")),
    ],
)
def test_wrong_requests(override: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    result = run_forked(*TRAIN, "--output-dir", tmp_path, "--config", override)
    assert result.returncode == 2, result.stderr
    assert all(part in last_line(result) for part in parts), last_line(result)
    assert not (tmp_path / "metrics").exists(), "nothing has been trained"
