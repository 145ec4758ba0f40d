"""Two processes train as one that accumulates two batches: with DDP, with FSDP2, and in turn.

All processes share one order of batches, so a step is about the same utterances in each case, and
nothing may care how they are grouped, or by how many processes the run was begun.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import torch
from torch import Tensor

from tests.e2e.forked import run_forked_world
from tests.e2e.runs import metrics, weights

NUM_STEPS: Final = 9
"""An epoch, and more."""

TOLERANCE: Final = 5e-6
"""Of a weight; DDP and FSDP2 are then within 1e-5 of each other, too."""

RECIPE: Final = f"""
recipe: train
model:
  family: wav2vec2_llama
  arch: transformer_4m
  config_overrides:
    lang_embeddings_p: 1.0
    wav2vec2_asr_config:
      target_vocab_size: 72
      encoder_config: {{model_dim: 32, ffn_inner_dim: 64, num_encoder_layers: 2, dropout_p: 0.0,
                        ffn_inner_dropout_p: 0.0}}
    llama_config: {{model_dim: 32, vocab_size: 72, ffn_inner_dim: 64, dropout_p: 0.0}}
dataset: {{name: mini_speech, max_audio_secs: 0.9, batch_audio_secs: 20}}
tokenizer: {{name: mini_tokenizer}}
augment: {{speeds: [0.9, 1.0, 1.1], concat_p: 0.3}}
objective: {{ctc_weight: 0.3}}
trainer: {{max_grad_norm: 1.0}}
lr_scheduler: {{config: {{cycle_len: {NUM_STEPS}}}}}
seq2seq_generator: {{name: wav2vec2_llama_beam, config: {{nbest: 1, max_new_tokens: 5}}}}
regime:
  num_steps: {NUM_STEPS}
  validate_every_n_steps: 3
  checkpoint_every_n_steps: 3
  publish_metrics_every_n_steps: 1
"""

ONE: Final = ("trainer.grad_accumulation.num_batches=2",)
DDP: Final = ("trainer.data_parallelism=ddp",)
LAYERS: Final = ("trainer.data_parallelism=fsdp", "trainer.fsdp.granularity=layer")
STACKS: Final = ("trainer.data_parallelism=fsdp", "trainer.fsdp.granularity=stack")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe, and a run of one process."""
    folder = tmp_path_factory.mktemp("parallel")
    (folder / "recipe.yaml").write_text(RECIPE)
    train(folder, folder / "one", ONE, NUM_STEPS)
    return folder


def train(folder: Path, output_dir: Path, overrides: tuple[str, ...], num_steps: int) -> None:
    """Begin a run, or go on with it, up to a step: on one process or on two."""
    result = run_forked_world(
        *(
            1 if overrides == ONE else 2,
            "recipe",
            "asr",
            "train",
            "recipe.yaml",
            "--output-dir",
            output_dir,
            "--no-rich",
        ),
        *("--config", *overrides, f"regime.num_steps={num_steps}"),
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.parametrize("overrides", [DDP, LAYERS, STACKS], ids=["ddp", "layer", "stack"])
def test_two_processes_are_one_that_accumulates(
    folder: Path, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    train(folder, tmp_path, overrides, NUM_STEPS)
    assert_same_steps(folder / "one", tmp_path)
    expected = weights(folder / "one", NUM_STEPS)
    assert largest_difference(expected, weights(tmp_path, NUM_STEPS)) < TOLERANCE
    # In two thirds of the run the weights move much further than that.
    assert largest_difference(expected, weights(folder / "one", 3)) > 200 * TOLERANCE


@pytest.mark.parametrize(
    "worlds",
    [(ONE, DDP, ONE), (DDP, ONE, LAYERS), (LAYERS, ONE, DDP), (STACKS, DDP, LAYERS)],
    ids=["one_ddp_one", "ddp_one_fsdp", "fsdp_one_ddp", "fsdp_ddp_fsdp"],
)
def test_a_run_goes_on_in_any_world(
    folder: Path, tmp_path: Path, worlds: tuple[tuple[str, ...], ...]
) -> None:
    """Each world takes three steps; the whole is the run of one process."""
    for i, overrides in enumerate(worlds, start=1):
        train(folder, tmp_path, overrides, NUM_STEPS * i // len(worlds))
    assert_same_steps(folder / "one", tmp_path)
    expected = weights(folder / "one", NUM_STEPS)
    assert largest_difference(expected, weights(tmp_path, NUM_STEPS)) < TOLERANCE


def assert_same_steps(one: Path, two: Path) -> None:
    """Compare what each step was about: the same audio, the same losses."""
    expected, actual = metrics(one, "train"), metrics(two, "train")
    assert len(actual) == len(expected) == NUM_STEPS
    assert {row["Data Epoch"] for row in expected} == {1, 2}
    for name in ("Audio Seconds", "CTC Loss", "NLL Loss", "Gradient Norm"):
        figures = [row[name] for row in expected]
        assert [row[name] for row in actual] == pytest.approx(figures, rel=1e-5), name


def largest_difference(expected: dict[str, Tensor], actual: dict[str, Tensor]) -> float:
    """Return the largest absolute difference of two weights of the same name."""
    assert expected.keys() == actual.keys()
    assert all(expected[name].shape == actual[name].shape for name in expected)
    return max(float(torch.dist(expected[name], actual[name], torch.inf)) for name in expected)
