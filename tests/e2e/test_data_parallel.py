"""Two processes train as one that accumulates two batches: with DDP, with FSDP2, and in turn.

All processes share one order of batches, so a step is about the same utterances in each case, and
nothing may care how they are grouped, or by how many processes the run was begun.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
import torch
from torch import Tensor

from tests.e2e.forked import run_forked, run_forked_world
from tests.e2e.runs import metrics, weights
from tests.e2e.test_transcribe import MINI

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


def train(
    folder: Path,
    output_dir: Path,
    overrides: tuple[str, ...],
    num_steps: int,
    dataset: tuple[str, ...] = (),
) -> None:
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
        *("--config", *overrides, f"regime.num_steps={num_steps}", *dataset),
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


def test_parquet_files_go_on_in_any_world(folder: Path, tmp_path: Path) -> None:
    packed = run_forked("data", "pack", MINI, "--out", tmp_path / "packed")
    assert packed.returncode == 0, packed.stderr
    dataset = ("del:dataset.name", f"dataset.path={tmp_path / 'packed'}")
    train(folder, tmp_path / "one", ONE, NUM_STEPS, dataset)
    for num_steps, overrides in ((3, ONE), (6, DDP), (NUM_STEPS, ONE)):
        train(folder, tmp_path / "changing", overrides, num_steps, dataset)
    assert_same_steps(tmp_path / "one", tmp_path / "changing")
    expected, actual = (weights(tmp_path / run, NUM_STEPS) for run in ("one", "changing"))
    assert largest_difference(expected, actual) < TOLERANCE


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


def test_worlds_that_are_killed_change_nothing(folder: Path, tmp_path: Path) -> None:
    """Each attempt is another world, and ends by SIGKILL at a random moment of its steps.

    The last one is a torchrun for each of two nodes, which this machine plays.
    """
    draw = random.Random(0)
    for overrides in (ONE, LAYERS, DDP):
        attempt = start_world(folder, tmp_path, overrides)
        wait_for_a_step(tmp_path, attempt)
        time.sleep(draw.uniform(0.0, 0.5))
        for process in attempt:
            process.kill()
        assert [process.wait() for process in attempt] == [-signal.SIGKILL] * len(attempt)
    for node in start_nodes(folder, tmp_path):
        assert node.wait(timeout=300) == 0
    expected = weights(folder / "one", NUM_STEPS)
    assert largest_difference(expected, weights(tmp_path, NUM_STEPS)) < TOLERANCE
    losses = {row["Step"]: row["NLL Loss"] for row in metrics(folder / "one", "train")}
    rows = metrics(tmp_path, "train")
    assert {row["Step"] for row in rows} == losses.keys()
    for row in rows:
        assert row["NLL Loss"] == pytest.approx(losses[row["Step"]], rel=1e-5)


def start_world(
    folder: Path, output_dir: Path, overrides: tuple[str, ...]
) -> list[subprocess.Popen[bytes]]:
    """Start the run on two processes (one, if it accumulates), without a launcher."""
    world = {"WORLD_SIZE": 1 if overrides == ONE else 2, "MASTER_PORT": free_port()}
    world |= {"LOCAL_WORLD_SIZE": world["WORLD_SIZE"]}
    command = [sys.executable, "-m", *train_command(output_dir, overrides)]
    return [
        start(folder, command, {**world, "RANK": rank, "LOCAL_RANK": rank})
        for rank in range(world["WORLD_SIZE"])
    ]


def start_nodes(folder: Path, output_dir: Path) -> list[subprocess.Popen[bytes]]:
    """Start a launcher for each of two nodes with a process each."""
    launcher = ("-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1")
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{free_port()}")
    command = [sys.executable, *launcher, *meeting, "-m", *train_command(output_dir, DDP)]
    return [start(folder, command, {}) for _ in range(2)]


def train_command(output_dir: Path, overrides: tuple[str, ...]) -> list[str]:
    options = ("--output-dir", str(output_dir), "--no-rich", "--config", *overrides)
    verb = ("wavellama", "recipe", "asr", "train", "recipe.yaml")
    return [*verb, *options, "regime.checkpoint_every_n_steps=1"]


def start(folder: Path, command: list[str], world: dict[str, int]) -> subprocess.Popen[bytes]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "localhost"}
    env |= {name: str(value) for name, value in world.items()}
    output = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=output)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("localhost", 0))
        port: int = server.getsockname()[1]
        return port


def wait_for_a_step(output_dir: Path, attempt: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until an attempt has recorded a step of its own."""
    path = output_dir / "metrics" / "train.jsonl"
    before = len(metrics(output_dir, "train")) if path.is_file() else 0
    deadline = time.monotonic() + 300
    while not path.is_file() or path.read_text().count("\n") <= before:
        assert all(process.poll() is None for process in attempt)
        assert time.monotonic() < deadline
        time.sleep(0.01)
