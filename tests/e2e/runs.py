"""Helpers that run the real command line in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.fakes import GOLDEN


def run_cli(
    *args: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    program: str = "wavellama",
) -> subprocess.CompletedProcess[str]:
    """Run ``wavellama ARGS`` and return what it printed and its exit code."""
    command = [str(Path(sys.executable).with_name(program)), *map(str, args)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        timeout=300,
        check=False,
    )


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    """Return the last line on stderr: where errors are reported."""
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else ""


def metrics(output_dir: Path, name: str) -> list[dict[str, Any]]:
    """Return what a run recorded under ``metrics/NAME.jsonl``."""
    text = (output_dir / "metrics" / f"{name}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def write_golden_card(folder: Path, name: str, checkpoint: str | None) -> None:
    """Write a card of the golden LID model whose checkpoint is ``checkpoint``."""
    case = json.loads((GOLDEN / "llm_asr_lid" / "case.json").read_text())
    card = {
        "name": name,
        "model_family": "wav2vec2_llama",
        "model_arch": "tiny",
        "model_config": case["config"],
        "tokenizer_ref": "toy_tokenizer",
    }
    if checkpoint is not None:
        card["checkpoint"] = checkpoint
    YAML().dump(card, folder / f"{name}.yaml")
