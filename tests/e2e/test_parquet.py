"""Training from parquet files: ``data pack``, ``data check``, and the losses of the manifest."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.e2e.damage import write_good
from tests.e2e.forked import run_forked
from tests.e2e.runs import metrics
from wavellama.data.manifest import write_manifest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set as a manifest, and the same packed."""
    folder = tmp_path_factory.mktemp("parquet")
    (folder / "data/audio").mkdir(parents=True)
    rows = write_good(folder / "data/audio", 12, random.Random(2))
    rows.sort(key=lambda row: row.lang or "")  # as their folders will be
    for split, some in {"train": rows, "dev": rows[:3]}.items():
        write_manifest(folder / f"data/{split}.jsonl", some)
    result = run_forked("data", "pack", folder / "data", "--out", folder / "packed")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{folder / 'packed'}: 15 utterances, 0.0")
    return folder


def test_what_is_packed_is_good(folder: Path) -> None:
    result = run_forked("data", "check", folder / "packed")

    assert result.returncode == 0, result.stderr
    assert "15 of 15 rows are good" in result.stdout


def test_the_losses_are_those_of_the_manifest(folder: Path) -> None:
    losses = []
    for name in ("data", "packed"):
        out = folder / f"run_{name}"
        result = run_forked(
            *("recipe", "asr", "train", "toy_train", "--output-dir", out, "--no-rich", "--config"),
            *("del:dataset.name", f"dataset.path={folder / name}", "regime.num_steps=4"),
            *("dataset.max_audio_secs=6", "dataset.batch_audio_secs=6"),
            *("regime.validate_every_n_steps=4", "regime.checkpoint_every_n_steps=4"),
            env={"HOME": str(folder)},
        )
        assert result.returncode == 0, result.stderr[-3000:]
        rows = [*metrics(out, "train"), *metrics(out, "valid")]
        losses.append([(row["Step"], row["NLL Loss"]) for row in rows])

    assert len(losses[0]) >= 2
    assert losses[0] == losses[1]


def test_a_data_set_that_is_none_is_told(tmp_path: Path) -> None:
    result = run_forked("data", "pack", tmp_path, "--out", tmp_path / "packed")

    assert result.returncode == 1
    assert "holds no manifest" in result.stderr
    assert not (tmp_path / "packed").exists()
