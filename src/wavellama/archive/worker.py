"""What a worker does: claim a shard, transcribe its files, write its part, until none is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from wavellama.archive.addresses import RemoteFile, as_source
from wavellama.archive.job import ArchiveJob, Entry, Shard
from wavellama.audio.load import describe
from wavellama.errors import AudioError, TranscriptionError
from wavellama.transcript.options import WriterOptions
from wavellama.transcript.records import write_json
from wavellama.transcript.types import Transcript

Transcribe: TypeAlias = Callable[[Sequence[Any]], Iterator[Transcript]]
"""Yields transcripts of paths and files as they are completed, then raises for what has none."""

MAX_LOST: Final = 5
"""How many workers a shard may cost before it is given up: one of its files may end them."""

_LOOK_SECS: Final = 1.0
"""How often a worker looks whether a shard of another has become free."""


@dataclass(frozen=True)
class Done:
    """What became of a shard."""

    shard: Shard
    num_failed: int
    seconds: float
    """How long it took."""


def work(job: ArchiveJob, transcribe: Transcribe) -> Iterator[Done]:
    """Do shards that nobody has, until all of the job's are done; yield what became of each.

    A worker without a shard waits: that of another may be given up. The lease of a worker that is
    gone is taken over; a shard that has cost ``MAX_LOST`` workers fails as a whole.

    :raises OSError: the folder of the job cannot be written.
    """
    while remaining := [shard for shard in job.shards if not job.is_done(shard)]:
        has_worked = False
        for shard in remaining:
            with job.leases.claim(shard.name) as is_ours:
                if is_ours and not job.is_done(shard):  # else its worker has just ended
                    num_lost = job.leases.num_lost(shard.name)
                    yield _do(job, shard, transcribe if num_lost < MAX_LOST else _give_up)
                    job.leases.clear(shard.name)
                    has_worked = True
        if not has_worked:
            time.sleep(_LOOK_SECS)


def work_on_own(job: ArchiveJob, share: tuple[int, int], transcribe: Transcribe) -> Iterator[Done]:
    """Do shards K, K + N, ... of a share (K, N), without a look at other workers.

    :raises OSError: the folder of the job cannot be written.
    """
    first, step = share
    for shard in job.shards[first::step]:
        if not job.is_done(shard):
            yield _do(job, shard, transcribe)


def transcribe_shard(
    entries: Sequence[Entry], transcribe: Transcribe
) -> tuple[dict[int, str], dict[int, AudioError]]:
    """Transcribe the files of a shard.

    :returns: the JSON object of each transcript, and why other files have none, by their indices.
    """
    lines: dict[int, str] = {}
    failures: dict[int, AudioError] = {}
    try:
        for transcript in transcribe([as_source(entry.path) for entry in entries]):
            lines[entries[transcript.index].index] = write_json(transcript, WriterOptions())
    except TranscriptionError as ex:
        failures = {entries[place].index: failure for place, failure in ex.failures.items()}
    return lines, failures


def _do(job: ArchiveJob, shard: Shard, transcribe: Transcribe) -> Done:
    begin = time.monotonic()
    lines, failures = transcribe_shard(job.read(shard), transcribe)
    job.finish(shard, lines, failures)
    return Done(shard, len(failures), time.monotonic() - begin)


def _give_up(sources: Sequence[Path | RemoteFile]) -> Iterator[Transcript]:
    reason = f"{MAX_LOST} workers were lost on the shard that this file is in"
    failures = {i: AudioError(describe(source), reason) for i, source in enumerate(sources)}
    raise TranscriptionError([None] * len(sources), failures)
    yield  # so that this is a generator, as all that transcribe
