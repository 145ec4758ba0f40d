"""What a job of very many files costs beside the transcription: listing, dealing out, merging.

python benchmarks/archive.py --files 100000

Makes a folder with links to one file of ten seconds, lists it, writes parts with a line of a
kilobyte for each file, and merges them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from wavellama.archive.job import Pace, create_job
from wavellama.pipeline.sources import find_files


@contextmanager
def timed(what: str, num_files: int) -> Iterator[None]:
    """Print how long something takes, and the most memory that the process has used so far."""
    begin = perf_counter()
    yield
    secs = perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what}: {secs:.1f} s, {1e3 * secs / num_files:.2f} ms a file, {peak:.2f} GiB at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    num_files: int = parser.parse_args().files
    with TemporaryDirectory() as name:
        folder = Path(name)
        with wave.open(str(folder / "one.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(bytes(320_000))
        with timed("imports", num_files):
            pass
        for i in range(num_files):
            place = folder / f"audio/{i // 1000:04d}/{i:07d}.wav"
            place.parent.mkdir(parents=True, exist_ok=True)
            os.symlink(folder / "one.wav", place)
        with timed("find", num_files):
            paths = [str(file.path) for file in find_files([folder / "audio"])]
        with timed("create", num_files):
            job = create_job(folder / "job", paths, {}, Pace(3600, 60))
        line = json.dumps({"text": "x" * 1000}) + "\n"
        with timed("parts", num_files):
            for shard in job.shards:
                job.finish(shard, {entry.index: line for entry in job.read(shard)}, {})
        with timed("merge", num_files):
            job.merge(folder / "all.jsonl")


if __name__ == "__main__":
    main()
