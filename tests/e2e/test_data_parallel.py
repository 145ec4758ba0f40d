"""Two processes train as one that accumulates two batches: with DDP, and with FSDP2.

A process reads every other utterance, so its batches are not those of a single process. Where all
utterances are of one length and the split is a whole number of steps, though, two batches hold
the same utterances in both cases, and nothing in the model may care how they are grouped.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

import pytest
import torch
from torch import Tensor

from tests.e2e.runs import metrics, run_cli, run_on_two_processes, weights
from wavellama.data.manifest import read_manifest, write_manifest

NUM_STEPS: Final = 6

NUM_UTTERANCES: Final = 48
"""Three steps of two batches of eight: the run sees each utterance twice."""

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
dataset: {{path: data, min_audio_secs: 1.0, max_audio_secs: 1.25, batch_audio_secs: 10}}
tokenizer: {{name: mini_tokenizer}}
objective: {{ctc_weight: 0.3}}
trainer: {{max_grad_norm: 1.0}}
seq2seq_generator: {{name: wav2vec2_llama_beam, config: {{nbest: 1, max_new_tokens: 5}}}}
regime:
  num_steps: {NUM_STEPS}
  validate_every_n_steps: 3
  checkpoint_every_n_steps: 3
  publish_metrics_every_n_steps: 1
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe, its data set, and a run of one process."""
    folder = tmp_path_factory.mktemp("parallel")
    write_even_corpus(folder / "data")
    (folder / "recipe.yaml").write_text(RECIPE)
    result = run_cli(
        *("recipe", "asr", "train", "recipe.yaml", "--output-dir", "one", "--no-rich"),
        *("--config", "trainer.grad_accumulation.num_batches=2"),
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


def write_even_corpus(folder: Path) -> None:
    """Write a manifest of utterances of the mini corpus that all fall into one bucket."""
    with as_file(files("wavellama.assets") / "corpora" / "mini" / "manifest.tsv") as manifest:
        rows = [u for u in read_manifest(manifest).utterances if 1.0 < u.duration <= 1.25]
        train = [u for u in rows if u.split == "train"][:NUM_UTTERANCES]
        assert len(train) == NUM_UTTERANCES
        write_manifest(folder / "manifest.tsv", train + [u for u in rows if u.split == "dev"])


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.data_parallelism=ddp"],
        ["trainer.data_parallelism=fsdp", "trainer.fsdp.granularity=layer"],
        ["trainer.data_parallelism=fsdp", "trainer.fsdp.granularity=stack"],
    ],
    ids=["ddp", "fsdp_layer", "fsdp_stack"],
)
def test_two_processes_are_one_that_accumulates(
    folder: Path, tmp_path: Path, overrides: list[str]
) -> None:
    result = run_on_two_processes(
        *("recipe", "asr", "train", "recipe.yaml", "--output-dir", tmp_path, "--no-rich"),
        *("--config", *overrides),
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert_same_steps(folder / "one", tmp_path)
    expected = weights(folder / "one", NUM_STEPS)
    assert largest_difference(expected, weights(tmp_path, NUM_STEPS)) < TOLERANCE
    # In half of the run the weights move much further than that.
    assert largest_difference(expected, weights(folder / "one", NUM_STEPS // 2)) > 200 * TOLERANCE


def assert_same_steps(one: Path, two: Path) -> None:
    """Compare what each step was about: the same audio, the same losses."""
    expected, actual = metrics(one, "train"), metrics(two, "train")
    assert len(actual) == len(expected) == NUM_STEPS
    for name in ("Audio Seconds", "CTC Loss", "NLL Loss", "Gradient Norm"):
        figures = [row[name] for row in expected]
        assert [row[name] for row in actual] == pytest.approx(figures, rel=1e-5), name


def largest_difference(expected: dict[str, Tensor], actual: dict[str, Tensor]) -> float:
    """Return the largest absolute difference of two weights of the same name."""
    assert expected.keys() == actual.keys()
    assert all(expected[name].shape == actual[name].shape for name in expected)
    return max(float(torch.dist(expected[name], actual[name], torch.inf)) for name in expected)
