"""A job: its shards, what it holds of them, and what is made of them."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Final

import pytest

from wavellama.archive.job import ArchiveJob, Pace, create_job
from wavellama.errors import AudioError, ConfigError

LENGTHS: Final = (3, 1, 4, 1, 5, 9, 2, 6)


def _wav(path: Path, secs: int) -> str:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(1000)
        file.writeframes(bytes(2000 * secs))
    return str(path)


@pytest.fixture
def job(tmp_path: Path) -> ArchiveJob:
    paths = [_wav(tmp_path / f"{i}.wav", secs) for i, secs in enumerate(LENGTHS)]
    return create_job(tmp_path / "job", paths, {"model": "some"}, Pace(10, 60))


def _line(text: str) -> str:
    return json.dumps({"text": text, "a:b,": [1]}) + "\n"


def _finish(job: ArchiveJob, failing: int | None = None) -> None:
    for shard in job.shards:
        if not job.is_done(shard):
            entries = job.read(shard)
            lines = {one.index: _line(f"text {one.index}") for one in entries}
            bad = {i: AudioError("that file", "is bad") for i in lines if i == failing}
            job.finish(shard, {i: line for i, line in lines.items() if i not in bad}, bad)


def test_shards_hold_every_file_once_and_about_as_much_audio_with_the_longest_first(
    job: ArchiveJob,
) -> None:
    shards = [[entry.index for entry in job.read(shard)] for shard in job.shards]

    assert sorted(index for shard in shards for index in shard) == list(range(len(LENGTHS)))
    secs = [[LENGTHS[index] for index in shard] for shard in shards]
    assert all(lengths == sorted(lengths, reverse=True) for lengths in secs)
    assert [sum(lengths) for lengths in secs] == [shard.secs for shard in job.shards]
    assert max(map(sum, secs)) - min(map(sum, secs)) <= 2


def test_a_file_whose_length_nobody_knows_is_in_a_shard(tmp_path: Path) -> None:
    job = create_job(tmp_path / "job", ["/gone.wav", "/more.wav"], {}, Pace(3600, 60))

    (shard,) = job.shards
    assert [entry.path for entry in job.read(shard)] == ["/gone.wav", "/more.wav"]


def test_another_process_reads_what_one_has_made(job: ArchiveJob) -> None:
    again = ArchiveJob(job.folder)

    assert again.settings == {"model": "some"}
    assert again.shards == job.shards
    assert again.num_files == len(LENGTHS)


def test_transcripts_are_merged_in_the_order_of_the_inputs(job: ArchiveJob, tmp_path: Path) -> None:
    _finish(job)

    count = job.merge(tmp_path / "all.jsonl")

    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert count == len(LENGTHS)
    assert [(row["index"], row["text"]) for row in rows] == [
        (i, f"text {i}") for i in range(len(LENGTHS))
    ]


def test_what_is_not_done_is_left_out(job: ArchiveJob, tmp_path: Path) -> None:
    shard = job.shards[0]
    indices = sorted(entry.index for entry in job.read(shard))
    job.finish(shard, {i: _line("done") for i in indices}, {})

    assert job.merge(tmp_path / "all.jsonl") == len(indices)
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [row["index"] for row in rows] == indices


def test_a_failed_file_is_named_and_tried_again_in_a_shard_of_its_own(
    job: ArchiveJob, tmp_path: Path
) -> None:
    _finish(job, failing=4)
    assert [(entry.index, reason) for entry, reason in job.failures()] == [(4, "is bad")]
    assert job.merge(tmp_path / "all.jsonl") == len(LENGTHS) - 1

    assert job.retry_failed() == 1

    again = ArchiveJob(job.folder)
    assert not [*again.failures()]
    (left,) = (shard for shard in again.shards if not again.is_done(shard))
    assert [entry.index for entry in again.read(left)] == [4]
    _finish(again)
    assert again.merge(tmp_path / "all.jsonl") == len(LENGTHS)


def test_a_retry_that_was_killed_half_way_does_no_harm(job: ArchiveJob, tmp_path: Path) -> None:
    _finish(job, failing=4)
    kept = {path: path.read_text() for path in (job.folder / "failed").iterdir()}
    job.retry_failed()
    for path, text in kept.items():  # as if it had been killed before it removed them
        path.write_text(text)

    again = ArchiveJob(job.folder)
    again.retry_failed()
    _finish(again)

    assert again.merge(tmp_path / "all.jsonl") == len(LENGTHS)
    assert not [*again.failures()]


def test_there_is_one_job_in_a_folder(job: ArchiveJob) -> None:
    with pytest.raises(ConfigError, match="holds a job already"):
        create_job(job.folder, ["a.wav"], {}, Pace(10, 60))


def test_a_job_without_files_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no files"):
        create_job(tmp_path / "job", [], {}, Pace(10, 60))


def test_a_folder_without_a_job_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="archive create"):
        ArchiveJob(tmp_path)
