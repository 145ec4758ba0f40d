"""Faults in how workers share the files of an archive, one test each."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.forked import run_forked
from tests.unit.test_archive_leases import leave
from wavellama.archive.job import ArchiveJob, Pace, create_job
from wavellama.archive.leases import Leases
from wavellama.archive.worker import MAX_LOST, work
from wavellama.checkpoints.hub import find_absolute_name
from wavellama.errors import AudioError, ConfigError
from wavellama.files import write_text
from wavellama.transcript.types import Segment, Transcript

PATHS = ["/a.wav", "/b.wav", "/c.wav"]


@pytest.fixture
def job(tmp_path: Path) -> ArchiveJob:
    """A job of three shards with a file each."""
    return create_job(tmp_path / "job", PATHS, {}, Pace(1, 0.4))


def _finish(job: ArchiveJob, number: int, *, fails: bool) -> None:
    shard = job.shards[number]
    (entry,) = job.read(shard)
    failures = {entry.index: AudioError(entry.path, "is bad")} if fails else {}
    job.finish(shard, {} if fails else {entry.index: '{"text": "yes"}\n'}, failures)


def _echo(paths: Sequence[Path]) -> Iterator[Transcript]:
    for index, path in enumerate(paths):
        segment = Segment(text=path.stem, start=0.0, end=1.0)
        yield Transcript(source=str(path), index=index, segments=(segment,), duration=1.0)


def test_a_file_that_fails_while_others_are_put_back_is_not_forgotten(
    job: ArchiveJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its failure was removed unread: it had neither a transcript nor an error."""
    _finish(job, 0, fails=True)

    def write_while_a_worker_works(path: Path, text: str) -> None:
        write_text(path, text)
        if path.name == "job.json":
            monkeypatch.undo()
            _finish(job, 1, fails=True)

    monkeypatch.setattr("wavellama.archive.job.write_text", write_while_a_worker_works)
    assert ArchiveJob(job.folder).retry_failed() == 1

    assert [entry.path for entry, _ in job.failures()] == ["/b.wav"]


def test_whoever_finds_nothing_to_put_back_changes_nothing(job: ArchiveJob) -> None:
    """Of two commands at once, the second one wrote the list of shards as it had read it."""
    _finish(job, 0, fails=True)
    first, second = ArchiveJob(job.folder), ArchiveJob(job.folder)

    assert [first.retry_failed(), second.retry_failed()] == [1, 0]

    assert len(ArchiveJob(job.folder).shards) == 4
    _finish(job, 1, fails=True)
    assert second.retry_failed() == 1
    assert len(ArchiveJob(job.folder).shards) == 5


def test_what_was_transcribed_in_the_end_has_not_failed(job: ArchiveJob) -> None:
    """A worker that was killed had noted a failure, and the next one had none."""
    _finish(job, 0, fails=True)
    _finish(job, 0, fails=False)

    assert not [*job.failures()]


@pytest.mark.filterwarnings("error")
def test_a_worker_whose_lease_was_removed_goes_on(tmp_path: Path) -> None:
    """It was taken for dead and came back: a stack trace of the thread that renews leases."""
    leases = Leases(tmp_path, 0.1)

    with leases.claim("a"):
        (tmp_path / "a.0").unlink()
        time.sleep(0.2)

    assert not [*tmp_path.iterdir()]


def test_a_shard_whose_file_is_a_bug_for_every_worker_is_given_up(job: ArchiveJob) -> None:
    """Each worker gave it back, and ended: no job came to its end."""

    def crash(paths: Sequence[Path]) -> Iterator[Transcript]:
        if paths == [Path("/b.wav")]:
            raise RuntimeError("cuDNN error")
        return _echo(paths)

    for attempt in range(MAX_LOST - 1):
        leave(job.folder / "leases", f"{job.shards[1].name}.{attempt}", secs_ago=100)
    with pytest.raises(RuntimeError):
        [*work(job, crash)]
    time.sleep(0.5)  # the lease is over
    assert [done.num_failed for done in work(job, crash)] == [1, 0]


def test_of_two_that_make_a_job_at_once_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of shards was of one, and some of the shards of the other."""
    barrier = threading.Barrier(2)

    def probe(path: Path) -> float:
        if path.stem == "0":
            barrier.wait()  # both have looked whether there is a job
        return 1.0

    monkeypatch.setattr("wavellama.archive.job.probe_duration", probe)

    def create(name: str) -> ArchiveJob | None:
        paths = [f"/{name}/{i}.wav" for i in range(20)]
        try:
            return create_job(tmp_path / "job", paths, {"name": name}, Pace(1, 60))
        except ConfigError:
            return None

    with ThreadPoolExecutor(2) as pool:
        (job,) = filter(None, pool.map(create, "ab"))

    found = [entry.path for shard in job.shards for entry in job.read(shard)]
    assert found == [f"/{job.settings['name']}/{i}.wav" for i in range(20)]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_job_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(ConfigError, match=r"job\.json"):
        ArchiveJob(tmp_path)


def test_a_list_may_name_files_whose_names_are_no_utf_8(tmp_path: Path) -> None:
    """``find`` writes the bytes of each name: a stack trace."""
    (tmp_path / "list.txt").write_bytes(b"/caf\xe9.wav\n")
    words = ("archive", "create", tmp_path / "job", "--list", tmp_path / "list.txt")
    result = run_forked(*words)
    assert result.returncode == 0, result.stderr
    (shard,) = (job := ArchiveJob(tmp_path / "job")).shards
    assert [entry.path for entry in job.read(shard)] == ["/caf\udce9.wav"]


def test_a_run_in_the_working_folder_is_found_from_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``create --model run`` kept ``run``, which no worker that was started elsewhere knew."""
    (tmp_path / "run").mkdir()
    (tmp_path / "wavellama_small").mkdir()
    monkeypatch.chdir(tmp_path)

    assert find_absolute_name("run") == str(tmp_path / "run")
    assert find_absolute_name("./wavellama_small") == str(tmp_path / "wavellama_small")
    assert find_absolute_name("wavellama_small") == "wavellama_small"  # the card goes first
    assert find_absolute_name("no_such_model") == "no_such_model"
