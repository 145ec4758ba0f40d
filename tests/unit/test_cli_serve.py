"""``wavellama serve`` before it listens."""

from __future__ import annotations

import subprocess
import sys

import pytest

from wavellama.cli.main import main

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


def test_where_the_extra_is_missing_one_sentence_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("wavellama.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    code, message = fail(capsys)
    assert code == 2
    assert "pip install 'wavellama[server]'" in message
    assert len(message.splitlines()) == 1


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
