"""Helpers that run the real command line in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
import yaml
from torch import Tensor

from tests.fakes import GOLDEN, golden_case

Runner: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]
"""``run_cli``, or ``tests.e2e.forked.run_forked`` in its place."""


def run_cli(
    *args: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    program: str = "wavellama",
) -> subprocess.CompletedProcess[str]:
    """Run ``wavellama ARGS`` and return what it printed and its exit code."""
    command = [str(Path(sys.executable).with_name(program)), *map(str, args)]
    return _run(command, cwd, env)


def command_of(*args: str | Path) -> list[str]:
    """Return the command line ``wavellama ARGS``."""
    return [str(Path(sys.executable).with_name("wavellama")), *map(str, args)]


def run_module(*args: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``python -m wavellama ARGS`` and return what it printed and its exit code."""
    return _run([sys.executable, "-m", "wavellama", *map(str, args)], cwd)


def run_on_two_processes(
    *args: str | Path, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``torchrun --nproc-per-node 2 -m wavellama ARGS``."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    return _run([sys.executable, *launcher, "-m", "wavellama", *map(str, args)], cwd)


def start_cli(*args: str | Path, log: Path) -> subprocess.Popen[bytes]:
    """Start ``wavellama ARGS`` and return at once; what it prints is appended to ``log``."""
    command = command_of(*args)
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=_environment())


def _run(
    command: list[str], cwd: Path | None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=_environment(env),
        timeout=300,
        check=False,
    )


def _environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    """Return the last line on stderr: where errors are reported."""
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else ""


def metrics(output_dir: Path, name: str) -> list[dict[str, Any]]:
    """Return what a run recorded under ``metrics/NAME.jsonl``."""
    text = (output_dir / "metrics" / f"{name}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def weights(output_dir: Path, step_nr: int) -> dict[str, Tensor]:
    """Return the weights of a checkpoint, put together where FSDP cut them (along axis 0)."""
    folder = output_dir / "checkpoints" / f"step_{step_nr}" / "model" / "pp_00" / "tp_00"
    shards = [torch.load(file) for file in sorted(folder.glob("sdp_*.pt"))]
    if len(shards) == 1:
        return dict(shards[0])
    return {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}


def write_golden_model(folder: Path, name: str) -> None:
    """Write a card of the golden LID model, and its weights beside it."""
    shutil.copy(GOLDEN / "llm_asr_lid" / "model.pt", folder / "good.pt")
    write_golden_card(folder, name, "good.pt")


def write_golden_card(folder: Path, name: str, checkpoint: str | None) -> None:
    """Write a card of the golden LID model whose checkpoint is ``checkpoint``."""
    card = {
        "name": name,
        "model_family": "wav2vec2_llama",
        "model_arch": "tiny",
        "model_config": golden_case("llm_asr_lid").facts["config"],
        "tokenizer_ref": "toy_tokenizer",
    }
    if checkpoint is not None:
        card["checkpoint"] = checkpoint
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(card), "utf-8")
