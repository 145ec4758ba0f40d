"""Standard streams that are closed, full or in ASCII: a sentence and an exit code, nothing lost."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.runs import command_of, write_golden_model

SPEECH: Final = "assets/corpora/mini/audio/rus_Cyrl/asterisk-ru/asterisk_digits_h-30.ogg"
ROOT: Final = Path(__file__).parents[2]

FULL: Final = "error: [Errno 28] No space left on device"
CLOSED: Final = "error: standard output: standard output is closed."


def run(redirections: str, *args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = f"{shlex.join(command_of(*args))} {redirections}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        check=False,
    )


@pytest.mark.parametrize(
    ("args", "redirections", "code", "out", "err"),
    [
        ("--version", "2>&-", 0, "0.1.0", ""),
        ("--version", ">&-", 1, "", CLOSED),
        ("languages german", ">&-", 1, "", CLOSED),
        ("languages german", "> /dev/full", 1, "", "No space left on device"),
        ("languages", "> /dev/full", 1, "", FULL),
        ("languages german", "2> /dev/full <&-", 0, "deu_Latn", ""),
        ("recipe nothing", "2> /dev/full", 2, "", ""),
        ("languages", "| head -n 1", 0, "aae_Latn", ""),
        ("languages Võro", "", 0, "Võro", ""),
    ],
)
def test_what_cannot_be_printed(
    args: str, redirections: str, code: int, out: str, err: str
) -> None:
    result = run(redirections, *args.split(), PYTHONIOENCODING="ascii")
    assert result.returncode == code
    assert out in result.stdout
    assert (err in result.stderr) if err else not result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) <= 1


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cards")
    write_golden_model(folder, "my_good")
    return folder


def test_results_on_disk_need_no_streams(cards: Path, tmp_path: Path) -> None:
    args = (
        "transcribe",
        SPEECH,
        "--model",
        "my_good",
        "--format",
        "json",
        "--output-dir",
        tmp_path,
    )
    result = run("<&- >&- 2>&-", *args, FAIRSEQ2_USER_ASSET_DIR=str(cards))
    assert result.returncode == 0
    assert "segments" in json.loads((tmp_path / "asterisk_digits_h-30.json").read_text("utf-8"))


def test_a_closed_input_holds_no_audio(cards: Path) -> None:
    args = ("transcribe", "-", "--model", "my_good")
    result = run("<&-", *args, FAIRSEQ2_USER_ASSET_DIR=str(cards))
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
