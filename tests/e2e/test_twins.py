"""Every family of recipes has a tiny twin: the life of a model through the real program."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jiwer
import pytest
import torch

from tests.e2e.forked import run_forked
from tests.e2e.runs import metrics, run_module, weights
from wavellama.data.toy import ToyTones, ToyTonesConfig
from wavellama.tasks.registry import shipped_recipes

SPOKEN: Final = {str(u.audio): u.text for u in ToyTones(ToyTonesConfig()).utterances("test")}
"""What is said in the split that the twins are evaluated on."""

TONES: Final = ("del:dataset.path", "dataset.name=toy_tones", "dataset.max_audio_secs=2")
"""Overrides with which the recipes for a data set of one's own read the tones."""

SHORT: Final = "seq2seq_generator.config.max_new_tokens=30"

MORE: Final = ("--config", "regime.num_steps=20")


@dataclass(frozen=True)
class Twin:
    """A training recipe, and the recipes that use its model."""

    name: str

    family: str
    """What the names of the latter begin with."""

    loss: str = "NLL Loss"

    overrides: tuple[str, ...] = ()
    """What these need for the tones."""

    def train(self, folder: Path, *more: str) -> Path:
        """Train below ``folder``, or go on where the last call ended; returns the run."""
        self._start("train", self.name, *more, cwd=folder)
        return folder / "runs" / self.name

    def use(self, verb: str, run: Path, folder: Path) -> Path:
        """Evaluate or transcribe with a run; returns the output directory."""
        overrides = ("--config", *self.overrides) if self.overrides else ()
        self._start(verb, f"{self.family}_{verb}", "--model", str(run), *overrides, cwd=folder)
        return folder / "runs" / f"{self.family}_{verb}"

    def _start(self, verb: str, recipe: str, *more: str, cwd: Path) -> None:
        result = run_module("recipe", "asr", verb, recipe, "--no-rich", *more, cwd=cwd)
        assert result.returncode == 0, result.stderr[-3000:]


TWINS: Final = (
    Twin("toy_train", "toy"),
    Twin("toy_ctc", "ctc", "CTC Loss", (*TONES, "dataset.batch_audio_secs=8")),
    Twin("toy_streaming", "streaming", overrides=(*TONES, "dataset.batch_audio_secs=8", SHORT)),
    Twin("toy_zero_shot", "zero_shot", overrides=(*TONES, "dataset.batch_audio_secs=24", SHORT)),
)


def test_every_twin_is_here() -> None:
    shipped = {name for name, path in shipped_recipes().items() if path.parent.name == "train"}
    assert {twin.name for twin in TWINS} == {name for name in shipped if name.startswith("toy_")}


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_a_twin_trains_resumes_evaluates_and_transcribes(twin: Twin, tmp_path: Path) -> None:
    run = twin.train(tmp_path)
    assert_trained(twin, run, num_steps=5)
    twin.train(tmp_path, *MORE)
    assert_trained(twin, run, num_steps=20)
    hypotheses = assert_evaluated(twin, twin.use("eval", run, tmp_path))
    assert assert_transcribed(twin.use("transcribe", run, tmp_path)) == hypotheses


def assert_trained(twin: Twin, run: Path, num_steps: int) -> None:
    """Check that the run took each step once, and that it validated and saved every fifth."""
    steps, validations = metrics(run, "train"), metrics(run, "valid")
    every_fifth = list(range(5, num_steps + 1, 5))
    assert [row["Step"] for row in steps] == list(range(1, num_steps + 1))
    assert [row["Step"] for row in validations] == every_fifth
    assert all(math.isfinite(number) for number in numbers_in([*steps, *validations]))
    assert steps[-1][twin.loss] < steps[0][twin.loss]
    assert validations[-1][twin.loss] <= validations[0][twin.loss]
    rates = [name for name in validations[0] if "Error Rate" in name]
    assert len(rates) == 2
    checkpoints = {path.name for path in (run / "checkpoints").glob("step_*")}
    assert checkpoints == {f"step_{step}" for step in every_fifth}
    assert len(weights(run, num_steps)) > 50


def assert_evaluated(twin: Twin, output_dir: Path) -> list[dict[str, Any]]:
    """Check the report against the hypotheses; returns these."""
    (row,) = metrics(output_dir, "eval")
    assert math.isfinite(row[twin.loss])
    hypotheses = read_json_lines(output_dir / "hypotheses.jsonl")
    assert {row["audio"]: row["reference"] for row in hypotheses} == SPOKEN
    assert len(hypotheses) == len(SPOKEN)
    report = json.loads((output_dir / "report.json").read_text("utf-8"))
    assert set(report) == {"raw", "normalized"}
    for rates in report.values():
        assert_rates(rates)
    said, heard = ([row[name] for row in hypotheses] for name in ("reference", "hypothesis"))
    assert report["raw"]["overall"]["cer"] == pytest.approx(jiwer.cer(said, heard))
    assert report["raw"]["overall"]["wer"] == pytest.approx(jiwer.wer(said, heard))
    assert "| eng_Latn | 8 |" in (output_dir / "report.md").read_text("utf-8")
    return hypotheses


def assert_rates(rates: dict[str, Any]) -> None:
    """Check one half of a report: whose rates there are, and that they can be true."""
    assert set(rates) == {"overall", "macro", "languages"}
    assert all(math.isfinite(number) for number in numbers_in(rates))
    counts = {lang: scores["num_utterances"] for lang, scores in rates["languages"].items()}
    assert counts == {"eng_Latn": 8, "ita_Latn": 8}
    assert rates["overall"]["num_utterances"] == len(SPOKEN)
    low, high = rates["overall"]["cer_ci95"]
    assert low <= rates["overall"]["cer"] <= high


def assert_transcribed(output_dir: Path) -> list[dict[str, Any]]:
    """Check that each input has one transcript, as JSON and as text; returns these."""
    transcripts = read_json_lines(output_dir / "transcripts.jsonl")
    assert sorted(row["audio"] for row in transcripts) == sorted(SPOKEN)
    lines = (output_dir / "transcripts.txt").read_text("utf-8").splitlines()
    assert lines == [f"{row['audio']}\t{row['hypothesis']}" for row in transcripts]
    return transcripts


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def numbers_in(value: object) -> Iterator[float]:
    """Yield all numbers in nested lists and mappings."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, int | float):
        yield float(value)


@pytest.mark.parametrize(
    ("source", "target", "overrides"),
    [
        ("toy_ctc", "toy_train", ["freeze.encoder_steps=1000"]),  # as in llm_from_encoder
        ("toy_train", "toy_ctc", ["optimizer.config.lr=0"]),  # a CTC model trains its encoder
    ],
    ids=["llm_from_encoder", "ctc_from_encoder"],
)
def test_a_new_model_takes_the_encoder_of_another_run(
    source: str, target: str, overrides: list[str], tmp_path: Path
) -> None:
    """The new run leaves its encoder as it was at the start, so that it can be compared."""
    train = ("recipe", "asr", "train")
    one_step = ("--no-rich", "--config", "regime.num_steps=1", "regime.validate_every_n_steps=1")
    first = run_forked(*train, source, *one_step, "common.seed=5", cwd=tmp_path)
    assert first.returncode == 0, first.stderr[-3000:]
    name = f"runs/{source}" if target == "toy_ctc" else "checkpoint_step_1"
    taken = [f"encoder_from={name}"]
    if target != "toy_ctc":  # a card that the configuration brings
        folder = tmp_path / "runs" / source / "checkpoints"
        taken.append(f"common.assets.prev_checkpoint_dir={folder}")
    second = run_module(*train, target, *one_step, *taken, *overrides, cwd=tmp_path)
    assert second.returncode == 0, second.stderr[-3000:]
    assert f"Encoder copied from {name}" in second.stderr

    theirs, ours = (weights(tmp_path / "runs" / name, 1) for name in (source, target))
    encoder = encoder_names(ours)
    assert encoder == encoder_names(theirs)
    assert {name.split(".")[0] for name in encoder} == {"encoder_frontend", "encoder"}
    assert [name for name in encoder if not torch.equal(ours[name], theirs[name])] == []
    assert ours["final_proj.weight"].shape != theirs["final_proj.weight"].shape


def encoder_names(state_dict: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in state_dict if name.startswith(("encoder.", "encoder_frontend."))}
