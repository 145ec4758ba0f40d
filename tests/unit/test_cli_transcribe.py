"""What ``transcribe`` says, and does before a model is loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from wavellama.cli.main import main
from wavellama.cli.progress import audio_progress
from wavellama.transcript.types import Segment, Transcript

ODD_NAME = b"caf\xe9.wav".decode("utf-8", "surrogateescape")


class FakePipeline:
    """Says the same of every file."""

    def stream_results(
        self, inputs: Sequence[Path], *args: Any, **more: Any
    ) -> Iterator[Transcript]:
        for i, path in enumerate(inputs):
            segment = Segment(text="hello", start=0.0, end=1.0)
            yield Transcript(source=str(path), index=i, segments=(segment,), duration=1.0)


def run(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["transcribe", *map(str, words), "--model", "no_such_card"])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("output", [(), ("--output-dir", "out")])
def test_for_missing_files_no_model_is_loaded(
    output: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("a.wav", "b.wav", *output) == 1
    told = capsys.readouterr().err.splitlines()
    assert told == [f"error: {name}.wav: there is no such file." for name in ("a", "b")]


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo])
def test_for_one_file_or_pipe_that_is_there_a_model_is_loaded(
    make: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "b.wav")
    assert run(tmp_path / "a.wav", tmp_path / "b.wav") == 2
    assert "no_such_card is not a known model card" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["txt", "jsonl"])
def test_names_that_are_not_text_are_printed_as_they_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdout = TextIOWrapper(BytesIO(), "utf-8", errors="strict")  # as in any UTF-8 locale
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr("wavellama.cli.transcribe.create_pipeline", lambda args: FakePipeline())
    paths = [tmp_path / ODD_NAME, tmp_path / "b.wav"]
    for path in paths:
        path.touch()
    assert run(*paths, "--format", name) == 0
    stdout.seek(0)
    first, second = stdout.buffer.readlines()
    assert b"caf\xe9.wav" in first
    assert b"hello" in second


@pytest.mark.parametrize("is_terminal", [False, True])
def test_headers_are_read_for_a_bar_that_is_seen(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal, the first result once waited until all files had been opened."""
    probed: list[object] = []
    monkeypatch.setattr(Console, "is_terminal", is_terminal)
    monkeypatch.setattr("wavellama.audio.stream.probe_duration", probed.append)
    with audio_progress([Path("a.wav")]) as advance:
        advance(1.0)
    assert bool(probed) == is_terminal
