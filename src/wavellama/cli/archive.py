"""The command ``archive``: very many files, transcribed by any number of workers."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wavellama.cli.pipeline_options import (
    Subparsers,
    add_machine_options,
    add_model_options,
    add_transcription_options,
    create_pipeline,
    read_examples,
    to_options,
)

if TYPE_CHECKING:
    from wavellama.archive.job import ArchiveJob
    from wavellama.archive.worker import Transcribe
    from wavellama.transcript.types import Transcript

_FILES: Final = {"examples", "lm"}
"""Options that are paths, which mean the same wherever a worker is started."""

_MODELS: Final = {"aligner", "draft_model", "model"}
"""Options that are names of models, which may be paths, too."""

_UNSAID: Final = {"lang": None, "languages": None, "dtype": None, "examples": None}
"""What is read of the options, whether anything was said or not."""


def add_archive_parser(subparsers: Subparsers) -> None:
    """Add the command with its sub-commands."""
    parser = subparsers.add_parser("archive", help="transcribe very many files with many workers")
    commands = parser.add_subparsers(dest="archive_command", required=True, metavar="COMMAND")
    _add_create(commands)
    _add_work(commands)
    status = _add(commands, "status", "how far the job is; files that failed, and why")
    status.set_defaults(run=show_status)
    retry = _add(commands, "retry-failed", "let workers try files that failed once more")
    retry.set_defaults(run=retry_failed)
    merge = _add(commands, "merge", "all transcripts in one file, in the order of the inputs")
    merge.add_argument(
        "--out", type=Path, metavar="FILE", help="JSON lines (default: JOB/transcripts.jsonl)"
    )
    merge.set_defaults(run=merge_parts)


def _add(commands: Subparsers, name: str, help_: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_)
    parser.add_argument("job", type=Path, metavar="JOB", help="the folder of the job")
    return parser


def _add_create(commands: Subparsers) -> None:
    parser = _add(commands, "create", "list the files, and say how they are to be transcribed")
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="audio or video files, folders of them, or addresses (s3://...)",
    )
    parser.add_argument(
        "--list",
        type=Path,
        metavar="FILE",
        help="a text file with a path, or an address, in each line",
    )
    parser.add_argument(
        "--shard-hours",
        type=_positive,
        default=1.0,
        metavar="H",
        help="audio in a shard (1)",
    )
    parser.add_argument(
        "--lease-seconds",
        type=_positive,
        default=60.0,
        metavar="S",
        help="a worker that was not heard of for so long is gone (%(default)g)",
    )
    add_model_options(parser.add_argument_group("model"))
    add_transcription_options(parser)
    parser.set_defaults(run=create)


def _add_work(commands: Subparsers) -> None:
    parser = _add(commands, "work", "transcribe what no other worker has, until all is done")
    parser.add_argument(
        "--worker",
        type=_worker,
        metavar="K/N",
        help="do shards K, K + N, ... only, where workers do not share a disk (K from 0 on)",
    )
    add_machine_options(parser.add_argument_group("machine"))
    parser.set_defaults(run=work)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _worker(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N with K from 0 to N - 1, as 0/8")
    return int(number), int(count)


def create(args: argparse.Namespace) -> int:
    """Make a job.

    :raises ConfigError: the folder holds a job, there are no files, or options contradict.
    """
    from wavellama.archive.job import Pace, create_job
    from wavellama.checkpoints.hub import find_model
    from wavellama.files import ODD_NAMES, read_lines

    to_options(args)
    find_model(args.model)
    read_examples(args.examples)
    listed = [] if args.list is None else read_lines(args.list, ODD_NAMES)
    paths = [*dict.fromkeys(chain.from_iterable(map(_find, [*args.paths, *filter(None, listed)])))]
    pace = Pace(args.shard_hours * 3600, args.lease_seconds)
    job = create_job(args.job, paths, _portable(args), pace)
    hours = sum(shard.secs for shard in job.shards) / 3600
    print(f"{job.num_files} files, {hours:.1f} hours, {len(job.shards)} shards")
    return 0


def _find(path: str) -> list[str]:
    """Return the recordings that a path or an address means, as they are called anywhere."""
    from wavellama.archive.addresses import is_address, list_recordings
    from wavellama.pipeline.sources import find_files

    if is_address(path):
        return list_recordings(path)
    return [os.path.abspath(file.path) for file in find_files([Path(path)])]


def _portable(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the options say, as JSON holds it and as it holds in any working folder."""
    from wavellama.checkpoints.hub import find_absolute_name
    from wavellama.options import declared
    from wavellama.pipeline.options import TranscribeOptions

    names = ("model", "dtype", "examples", *declared(TranscribeOptions))
    said = {name: getattr(args, name, None) for name in names}
    given = {name: value for name, value in said.items() if value is not None}
    for name in given.keys() & _FILES:
        given[name] = os.path.abspath(os.path.expanduser(given[name]))
    for name in given.keys() & _MODELS:
        given[name] = find_absolute_name(given[name])
    return given


def work(args: argparse.Namespace) -> int:
    """Transcribe shards until there are none.

    :raises ConfigError: there is no job in the folder, or it cannot be written.
    """
    from wavellama.archive.job import ArchiveJob
    from wavellama.archive.worker import work, work_on_own

    job = ArchiveJob(args.job)
    if all(map(job.is_done, job.shards)):
        return show_status(args)
    transcribe = create_transcribe(job, vars(args))
    if args.worker is None:
        results = work(job, transcribe)
    else:
        results = work_on_own(job, args.worker, transcribe)
    for done in results:
        shard, speed = done.shard, done.shard.secs / max(done.seconds, 1e-3)
        print(
            f"shard {shard.name}: {shard.num_files} files, {done.num_failed} failed,"
            f" {shard.secs:.0f} s of audio in {done.seconds:.0f} s ({speed:.1f} times real time)",
            file=sys.stderr,
        )
    return _report(job)


def create_transcribe(job: ArchiveJob, machine: Mapping[str, Any]) -> Transcribe:
    """Load the model of a job.

    :param machine: ``device`` and ``threads`` of this worker, which may be None.
    """
    args = argparse.Namespace(**{**_UNSAID, **job.settings, **machine})
    options = to_options(args, in_order=False)
    examples = read_examples(args.examples)
    pipeline = create_pipeline(args)

    def transcribe(sources: Sequence[Any]) -> Iterator[Transcript]:
        return pipeline.stream_results(sources, options, examples=examples)

    return transcribe


def show_status(args: argparse.Namespace) -> int:
    """Print how far a job is; the exit code is 1 if files failed."""
    from wavellama.archive.job import ArchiveJob

    job = ArchiveJob(args.job)
    done = [shard for shard in job.shards if job.is_done(shard)]
    left = [shard for shard in job.shards if not job.is_done(shard)]
    num_held = sum(job.leases.is_held(shard.name) for shard in left)
    hours, all_hours = (sum(shard.secs for shard in some) / 3600 for some in (done, job.shards))
    print(
        f"{len(done)} of {len(job.shards)} shards are done ({hours:.1f} of {all_hours:.1f} hours),"
        f" {num_held} are in work."
    )
    return _report(job)


def retry_failed(args: argparse.Namespace) -> int:
    """Put files that failed into new shards, for workers that are started afterwards."""
    from wavellama.archive.job import ArchiveJob

    count = ArchiveJob(args.job).retry_failed()
    print(f"{count} files are to be tried again: start workers (`wavellama archive work`).")
    return 0


def merge_parts(args: argparse.Namespace) -> int:
    """Write one file of all transcripts; the exit code is 1 if any is missing."""
    from wavellama.archive.job import ArchiveJob

    job = ArchiveJob(args.job)
    count = job.merge(args.out or args.job / "transcripts.jsonl")
    print(f"{count} of {job.num_files} files have a transcript.")
    return _report(job) or int(count < job.num_files)


def _report(job: ArchiveJob) -> int:
    code = 0
    for entry, reason in job.failures():
        print(f"error: {entry.path}: {reason}", file=sys.stderr)
        code = 1
    return code
