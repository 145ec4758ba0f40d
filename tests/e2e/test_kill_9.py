"""A run on real speech, killed at ten random moments, ends as if nobody had killed it.

Some moments lie in the start-up, some in the steps, some in the writing of a checkpoint. All that
is random in training is switched on: a resumed run has to repeat every draw.
"""

from __future__ import annotations

import json
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import torch

from tests.e2e.forked import run_forked
from tests.e2e.runs import metrics, start_cli, weights
from tests.e2e.test_transcribe import MINI

NUM_STEPS: Final = 60

RECIPE: Final = f"""
recipe: train
model:
  family: wav2vec2_llama
  arch: transformer_4m
  config_overrides:
    wav2vec2_asr_config:
      target_vocab_size: 72
      encoder_config: {{model_dim: 32, ffn_inner_dim: 64, num_encoder_layers: 2, dropout_p: 0.1,
                        attn_dropout_p: 0.1, layer_drop_p: 0.2}}
    llama_config: {{model_dim: 32, vocab_size: 72, num_layers: 1, ffn_inner_dim: 64}}
dataset: {{path: DATA, max_audio_secs: 1.6, batch_audio_secs: 16}}
tokenizer: {{name: mini_tokenizer}}
objective: {{ctc_weight: 0.3, token_noise_p: 0.2}}
augment:
  speeds: [0.9, 1.0, 1.1]
  concat_p: 0.5
  spectral: {{max_warp: 0.1, num_freq_masks: 2, num_time_masks: 2}}
masker:
  name: standard
  config: {{temporal_mask_span_len: 3, max_temporal_mask_prob: 0.3, spatial_mask_span_len: 4}}
seq2seq_generator: {{name: wav2vec2_llama_beam, config: {{nbest: 1, max_new_tokens: 5}}}}
regime:
  num_steps: {NUM_STEPS}
  validate_every_n_steps: 20
  checkpoint_every_n_steps: 2
  publish_metrics_every_n_steps: 1
  keep_last_n_checkpoints: 2
"""


@dataclass(frozen=True)
class Moment:
    """A moment of a run: so many seconds after its start, a step, or the start of a checkpoint."""

    event: str
    step_nr: int
    delay: float


class Run:
    """A started run and what can be seen of it from outside."""

    def __init__(self, recipe: Path, output_dir: Path) -> None:
        self._metrics = output_dir / "metrics" / "train.jsonl"
        self._checkpoints = output_dir / "checkpoints"
        self._num_old_rows = len(self._rows())
        self._started_at = time.time()
        self._log = output_dir.with_suffix(".log")
        args = ("recipe", "asr", "train", recipe, "--output-dir", output_dir, "--no-rich")
        self._process = start_cli(*args, log=self._log)

    def step_nr(self) -> int:
        """Return the last step that this process has recorded."""
        new_rows = self._rows()[self._num_old_rows :]
        return int(json.loads(new_rows[-1])["Step"]) if new_rows else 0

    def checkpoint_nr(self) -> int:
        """Return the step of the checkpoint that this process is writing."""
        folders = self._checkpoints.glob("step_*.tmp")
        return max((int(f.stem[5:]) for f in folders if self._is_new(f)), default=0)

    def wait_for(self, moment: Moment) -> None:
        """Wait for a moment, which must come before the run has ended."""
        while not self._has_begun(moment):
            assert self._process.poll() is None, self._last_words()
            assert time.time() < self._started_at + 300, self._last_words()
            time.sleep(0.002)
        if moment.event != "start":
            time.sleep(moment.delay)

    def kill(self) -> None:
        """Send SIGKILL, which must still meet the run."""
        self._process.send_signal(signal.SIGKILL)
        assert self._process.wait() == -signal.SIGKILL, self._last_words()

    def finish(self) -> None:
        """Wait for the end, which must be a good one."""
        assert self._process.wait(timeout=300) == 0, self._last_words()

    def _last_words(self) -> str:
        return self._log.read_text()[-2000:]

    def _has_begun(self, moment: Moment) -> bool:
        if moment.event == "start":  # also where this start is faster than the first one was
            return time.time() >= self._started_at + moment.delay or self.step_nr() > 0
        step_nr = self.step_nr() if moment.event == "step" else self.checkpoint_nr()
        return step_nr >= moment.step_nr

    def _rows(self) -> list[str]:
        text = self._metrics.read_text() if self._metrics.exists() else ""
        return text.rpartition("\n")[0].splitlines()  # the last line may be half written

    def _is_new(self, folder: Path) -> bool:
        try:
            return folder.stat().st_mtime >= self._started_at
        except FileNotFoundError:  # it has been completed and renamed
            return False


def draw_moments(draw: random.Random, start_secs: float) -> list[Moment]:
    """Return ten moments in random order of their kinds; those within the steps go forward."""
    events = ["start"] * 3 + ["step"] * 4 + ["checkpoint"] * 3
    draw.shuffle(events)
    step_nrs = sorted(draw.sample(range(2, NUM_STEPS - 10), len(events)))
    longest = {"start": start_secs, "step": 0.1, "checkpoint": 0.04}
    return [
        Moment(event, step_nr, draw.uniform(0.0, longest[event]))
        for event, step_nr in zip(events, step_nrs, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["manifest", "parquet"])
def test_ten_kills_change_nothing(form: str, tmp_path: Path) -> None:
    recipe, whole, killed = tmp_path / "recipe.yaml", tmp_path / "whole", tmp_path / "killed"
    recipe.write_text(RECIPE.replace("DATA", str(MINI if form == "manifest" else pack(tmp_path))))
    began = time.monotonic()
    run = Run(recipe, whole)
    run.wait_for(Moment("step", 1, delay=0.0))
    start_secs = time.monotonic() - began
    run.finish()

    for moment in draw_moments(random.Random(0), start_secs):
        victim = Run(recipe, killed)
        victim.wait_for(moment)
        victim.kill()
    Run(recipe, killed).finish()

    assert_same_weights(weights(whole, NUM_STEPS), weights(killed, NUM_STEPS))
    assert_same_steps(whole, killed)


def pack(folder: Path) -> Path:
    """Return a folder with the same data in parquet files."""
    packed = folder / "packed"
    result = run_forked("data", "pack", MINI, "--out", packed)
    assert result.returncode == 0, result.stderr
    return packed


def assert_same_weights(expected: dict[str, torch.Tensor], actual: dict[str, torch.Tensor]) -> None:
    """Compare bit by bit."""
    assert expected.keys() == actual.keys()
    assert [name for name in expected if not torch.equal(expected[name], actual[name])] == []


def assert_same_steps(whole: Path, killed: Path) -> None:
    """Compare what was recorded at each step, also by processes that were killed after it."""
    names = ("Data Epoch", "CTC Loss", "NLL Loss", "Gradient Norm", "Learning Rate")
    expected = {row["Step"]: [row[name] for name in names] for row in metrics(whole, "train")}
    rows = metrics(killed, "train")
    assert len(rows) > NUM_STEPS, "no step was repeated"
    assert {row["Step"] for row in rows} == expected.keys() == set(range(1, NUM_STEPS + 1))
    wrong = [row for row in rows if [row[name] for name in names] != expected[row["Step"]]]
    assert wrong == []
