"""``wavellama serve`` before it listens."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from wavellama.cli.main import create_parser, main

ROOT = Path(__file__).parents[2]

SERVE = ("serve", "--model", "toy_that_is_not_there")


def fail(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[object, str]:
    """Run a command; return its exit code, and what it says."""
    with pytest.raises(SystemExit) as exit_:
        main([*SERVE, *args])
    return exit_.value.code, capsys.readouterr().err


def test_help_needs_neither_torch_nor_the_extra() -> None:
    code = (
        "import sys\n"
        "from wavellama.cli.main import create_parser\n"
        "try: create_parser().parse_args(['serve', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'fairseq2', 'starlette', 'uvicorn'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert shown.returncode == 0, shown.stderr
    assert b"--api-key" in shown.stdout


def test_where_the_extra_is_missing_one_sentence_says_how_to_get_it() -> None:
    code = (
        "import sys\n"
        "sys.modules['starlette.applications'] = None\n"
        "from wavellama.cli.main import main\n"
        f"main({list(SERVE)})\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert shown.returncode == 2
    assert "pip install 'wavellama[server]'" in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--api-key", " "), "`--api-key` is empty"),
        (("--max-queue", "0"), "`max_queue`"),
        (("--max-upload-mb", "-1"), "`max_upload_mb`"),
        (("--batch-seconds", "0"), "`--batch-seconds`"),
        (("--port", "70000"), "port 70000"),
        (("--host", "no.such.host.invalid"), "no.such.host.invalid"),
        (("--port", "0"), "toy_that_is_not_there"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    capsys: pytest.CaptureFixture[str], args: tuple[str, ...], words: str
) -> None:
    code, message = fail(capsys, *args)
    assert code == 2
    assert words in message
    assert len(message.splitlines()) == 1


def test_the_container_copies_what_is_there_and_starts_the_server() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    lines = dict(re.findall(r"^(ENTRYPOINT|CMD) (.*)$", text, re.MULTILINE))
    program, *args = json.loads(lines["ENTRYPOINT"]) + json.loads(lines["CMD"])
    asked = create_parser().parse_args(args)
    assert (program, asked.command, asked.host) == ("wavellama", "serve", "0.0.0.0")
    assert f"EXPOSE {asked.port}\n" in text
    assert f"127.0.0.1:{asked.port}/health" in text
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE)
    assert copied
    assert all((ROOT / name).exists() for name in copied)
