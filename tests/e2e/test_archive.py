"""``wavellama archive``: a job from its creation to one file of transcripts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.forked import run_forked
from tests.e2e.test_transcribe import MINI

CLIPS = sorted((MINI / "audio/eng_Latn").rglob("*.ogg"))[:6]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Return a folder of recordings, of which one is damaged."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number, clip in enumerate(CLIPS):
        shutil.copy(clip, folder / f"{number}.ogg")
    (folder / "damaged.ogg").write_bytes(b"no audio")
    return folder


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _said(row: dict[str, Any]) -> list[Any]:
    """Return all of a transcript but how sure the model is, whose last digits are the batch's."""
    segments = [
        [part[key] for key in ("text", "start", "end", "tokens")] for part in row["segments"]
    ]
    return [row["text"], row["source"], row["duration"], row["language"], segments]


def test_a_job_gives_what_one_process_gives(recordings: Path, tmp_path: Path) -> None:
    options = ("--lang", "eng_Latn", "--dtype", "float32")
    made = run_forked(
        *("archive", "create", "job", "recordings", "--shard-hours", "0.001"),
        *options,
        cwd=tmp_path,
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("7 files")

    worked = run_forked("archive", "work", tmp_path / "job", "--threads", "1")
    assert worked.returncode == 1
    assert f"error: {recordings / 'damaged.ogg'}: " in worked.stderr
    merged = run_forked("archive", "merge", tmp_path / "job")
    assert (merged.returncode, merged.stdout) == (1, "6 of 7 files have a transcript.\n")

    alone = run_forked(
        "transcribe", *sorted(recordings.glob("[0-9].ogg")), "--format", "jsonl", *options
    )
    (tmp_path / "alone.jsonl").write_text(alone.stdout, "utf-8")
    rows = _rows(tmp_path / "job/transcripts.jsonl")
    assert [row["index"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [*map(_said, rows)] == [*map(_said, _rows(tmp_path / "alone.jsonl"))]

    shutil.copy(CLIPS[0], recordings / "damaged.ogg")  # it is mended, and tried again
    assert run_forked("archive", "retry-failed", tmp_path / "job").returncode == 0
    assert run_forked("archive", "work", tmp_path / "job").returncode == 0
    assert run_forked("archive", "merge", tmp_path / "job").returncode == 0
    status = run_forked("archive", "status", tmp_path / "job")
    assert status.returncode == 0
    assert ", 0 are in work." in status.stdout
    assert len(_rows(tmp_path / "job/transcripts.jsonl")) == 7


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("create", "job", "recordings", "--lang", "nolang"), "not a known language code"),
        (("create", "job", "recordings", "--model", "nomodel"), "nomodel"),
        (("create", "job", "recordings", "--shard-hours", "0"), "0 is not above 0"),
        (("create", "job"), "There are no files"),
        (("create", "job", "--list", "gone.txt"), "gone.txt"),
        (("work", "job"), "holds no job"),
        (("work", "job", "--worker", "3/3"), "'3/3' is not K/N"),
        (("status", "job"), "holds no job"),
        (("merge", "job"), "holds no job"),
        (("retry-failed", "job"), "holds no job"),
    ],
)
def test_a_wrong_request_is_told_in_a_sentence(
    recordings: Path, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    result = run_forked("archive", *words, cwd=tmp_path)

    assert result.returncode in (1, 2)
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "job/job.json").exists()


def test_a_list_of_paths_is_read(recordings: Path, tmp_path: Path) -> None:
    paths = [str(path) for path in sorted(recordings.glob("*.ogg"))]
    (tmp_path / "list.txt").write_text("\n".join(paths), "utf-8")

    made = run_forked("archive", "create", "job", "--list", "list.txt", cwd=tmp_path)

    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("7 files")
