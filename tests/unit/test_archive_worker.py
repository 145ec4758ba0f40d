"""Workers: every file is transcribed once, whoever is killed meanwhile."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.unit.test_archive_leases import leave
from wavellama.archive.job import ArchiveJob, Pace, create_job
from wavellama.archive.worker import MAX_LOST, work, work_on_own
from wavellama.errors import AudioError, TranscriptionError
from wavellama.transcript.types import Segment, Transcript

NUM_FILES: Final = 2000
LEASE_SECS: Final = 1.0


def _echo(paths: Sequence[Path]) -> Iterator[Transcript]:
    """Transcribe each file as its name, in any order; files called ``bad`` have none."""
    failures = {}
    for index, path in sorted(enumerate(paths), key=lambda item: item[1].name[::-1]):
        if path.stem == "bad":
            failures[index] = AudioError(str(path), "is bad")
            continue
        segment = Segment(text=path.stem, start=0.0, end=1.0)
        yield Transcript(source=str(path), index=index, segments=(segment,), duration=1.0)
    if failures:
        raise TranscriptionError([None] * len(paths), failures)


def _job(folder: Path, count: int, shard_secs: float = 20.0) -> ArchiveJob:
    paths = [f"/not/there/{i}.wav" for i in range(count)]
    return create_job(folder, paths, {}, Pace(shard_secs, LEASE_SECS))


def _texts(job: ArchiveJob) -> list[str]:
    job.merge(job.folder / "all.jsonl")
    return [json.loads(line)["text"] for line in (job.folder / "all.jsonl").open()]


def test_a_worker_does_all_shards_and_names_what_failed(tmp_path: Path) -> None:
    job = create_job(tmp_path, ["/a.wav", "/bad.wav", "/c.wav"], {}, Pace(1, LEASE_SECS))

    done = [*work(job, _echo)]

    assert [one.shard for one in done] == job.shards
    assert sum(one.num_failed for one in done) == 1
    assert _texts(job) == ["a", "c"]
    assert [(entry.path, reason) for entry, reason in job.failures()] == [("/bad.wav", "is bad")]
    assert not [*(tmp_path / "leases").iterdir()]


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    job = _job(tmp_path, 100)
    first = [next(work(job, _echo)).shard]

    rest = [done.shard for done in work(ArchiveJob(tmp_path), _echo)]

    assert first + rest == job.shards


def test_workers_without_a_common_disk_do_each_their_share(tmp_path: Path) -> None:
    job = _job(tmp_path, 100)

    shares = [[done.shard for done in work_on_own(job, (k, 3), _echo)] for k in range(3)]

    assert shares == [job.shards[k::3] for k in range(3)]
    assert _texts(job) == [str(i) for i in range(100)]


def test_a_shard_that_ends_its_workers_is_given_up(tmp_path: Path) -> None:
    job = _job(tmp_path, 3, shard_secs=1)
    for attempt in range(MAX_LOST):
        leave(tmp_path / "leases", f"{job.shards[0].name}.{attempt}", secs_ago=100)

    done = [*work(job, _echo)]

    assert [one.num_failed for one in done] == [1, 0, 0]
    ((_, reason),) = job.failures()
    assert reason == f"{MAX_LOST} workers were lost on the shard that this file is in"


def test_an_error_that_is_not_about_a_file_leaves_the_shard_to_others(tmp_path: Path) -> None:
    def fail(paths: Sequence[Path]) -> Iterator[Transcript]:
        raise OSError("no space left on device")
        yield

    job = _job(tmp_path, 3)
    with pytest.raises(OSError, match="no space left"):
        [*work(job, fail)]

    assert not job.is_done(job.shards[0])
    assert not job.leases.is_held(job.shards[0].name)
    assert [done.num_failed for done in work(job, _echo)] == [0]


def _work_slowly(folder: Path) -> None:
    def transcribe(paths: Sequence[Path]) -> Iterator[Transcript]:
        for transcript in _echo(paths):
            time.sleep(0.002)
            yield transcript

    for _ in work(ArchiveJob(folder), transcribe):
        pass


def test_ten_killed_workers_of_four_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    job = _job(tmp_path, NUM_FILES)
    context = multiprocessing.get_context("fork")
    chance = random.Random(0)

    def start() -> multiprocessing.process.BaseProcess:
        process = context.Process(target=_work_slowly, args=(tmp_path,))
        process.start()
        return process

    workers = [start() for _ in range(4)]
    for _ in range(10):
        time.sleep(chance.uniform(0.01, 0.1))
        victim = chance.randrange(4)
        os.kill(workers[victim].pid or 0, signal.SIGKILL)
        workers[victim].join()
        workers[victim] = start()
    for worker in workers:
        worker.join(60)

    assert [worker.exitcode for worker in workers] == [0] * 4
    assert _texts(job) == [str(i) for i in range(NUM_FILES)]
    parts = [path.read_text() for path in sorted((tmp_path / "parts").glob("*.jsonl"))]
    alone = _job(tmp_path / "alone", NUM_FILES)
    assert len([*work(alone, _echo)]) == len(parts)
    assert parts == [path.read_text() for path in sorted((alone.folder / "parts").glob("*.jsonl"))]


def test_a_part_that_cannot_be_written_is_not_there_by_half(tmp_path: Path) -> None:
    job = _job(tmp_path, 3)
    (tmp_path / "parts").touch()  # where a folder has to be

    with pytest.raises(OSError, match="parts"):
        [*work(job, _echo)]

    assert not job.is_done(job.shards[0])
    assert not job.leases.is_held(job.shards[0].name)
