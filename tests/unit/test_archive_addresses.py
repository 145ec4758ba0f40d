"""Recordings that fsspec lists and reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.e2e.test_archive import CLIPS
from wavellama.archive.addresses import list_recordings
from wavellama.archive.job import Pace, create_job
from wavellama.archive.worker import work
from wavellama.audio.load import describe, load_audio
from wavellama.errors import AudioError, ConfigError, TranscriptionError
from wavellama.transcript.types import Transcript


@pytest.fixture(autouse=True)
def _stored() -> Iterator[None]:
    """Two recordings, and what is none."""
    fs = MemoryFileSystem()
    fs.store.clear()
    for number, clip in enumerate(CLIPS[:2]):
        fs.pipe(f"/bucket/{number}/talk.OGG", clip.read_bytes())
    fs.pipe("/bucket/notes.txt", b"")
    fs.pipe("/bucket/0/._talk.ogg", b"")
    yield
    fs.store.clear()


def _measure(sources: Sequence[Any]) -> Iterator[Transcript]:
    failures = {}
    for index, source in enumerate(sources):
        try:
            duration = len(load_audio(source)) / 16_000
        except AudioError as ex:
            failures[index] = ex
            continue
        yield Transcript(source=describe(source), index=index, segments=(), duration=duration)
    if failures:
        raise TranscriptionError([None] * len(sources), failures)


def test_a_folder_means_the_recordings_below_it() -> None:
    assert list_recordings("memory://bucket") == [
        "memory:///bucket/0/talk.OGG",
        "memory:///bucket/1/talk.OGG",
    ]
    assert list_recordings("memory://bucket/notes.txt") == ["memory:///bucket/notes.txt"]


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("memory://none", "memory://none holds no audio or video file"),
        ("nofs://x", "nofs://x cannot be listed: Protocol not known: nofs"),
    ],
)
def test_what_cannot_be_listed_is_told(address: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        list_recordings(address)


def test_a_job_reads_them_and_names_what_is_gone(tmp_path: Path) -> None:
    addresses = [*list_recordings("memory://bucket"), "memory:///bucket/gone.ogg"]
    job = create_job(tmp_path, [*addresses, str(CLIPS[0])], {}, Pace(3600, 60))
    lengths = [len(load_audio(clip)) / 16_000 for clip in CLIPS[:2]]

    (shard,) = job.shards
    assert shard.secs == pytest.approx(2 * lengths[0] + lengths[1] + 1, abs=0.2)
    (done,) = work(job, _measure)

    assert done.num_failed == 1
    ((entry, reason),) = job.failures()
    assert (entry.path, "gone.ogg" in reason) == (addresses[2], True)
    assert job.merge(tmp_path / "all.jsonl") == 3
    assert addresses[1] in (tmp_path / "all.jsonl").read_text()
