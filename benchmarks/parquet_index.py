"""What a parquet data set of many rows costs before anything is read: its index, an epoch's order.

python benchmarks/parquet_index.py --rows 10000000

Writes files in the published layout, without audio, and prints seconds and the most memory so far.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wavellama.data.facts import take
from wavellama.data.order import EpochOrder, Position
from wavellama.data.parquet.dataset import ParquetDataset, ParquetDatasetConfig
from wavellama.data.plan import Planner, ReaderOptions

ROWS_OF_FILE = 100_000
LANGUAGES = ("eng_Latn", "ita_Latn", "rus_Cyrl", "fin_Latn")


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long something takes, and the most memory that the process has used so far."""
    begin = perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what}: {perf_counter() - begin:.1f} s, {peak:.2f} GiB at most", flush=True)


def write_files(folder: Path, num_rows: int) -> None:
    """Write files of rows with lengths of up to 20 seconds, a byte of audio and a word of text."""
    draw = np.random.default_rng(0)
    for number in range(-(-num_rows // ROWS_OF_FILE)):
        count = min(ROWS_OF_FILE, num_rows - number * ROWS_OF_FILE)
        table = pa.table(
            {
                "text": ["word"] * count,
                "audio_bytes": pa.array([b"x"] * count),
                "audio_size": draw.integers(16_000, 320_000, count),
            }
        )
        place = folder / f"corpus=c/split=train/language={LANGUAGES[number % len(LANGUAGES)]}"
        place.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, place / f"part-{number:05d}.parquet", row_group_size=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    num_rows: int = parser.parse_args().rows
    with TemporaryDirectory() as name:
        folder = Path(name)
        with timed("write files"):
            write_files(folder / "data", num_rows)
        config = ParquetDatasetConfig(path=str(folder / "data"), index_dir=folder / "index")
        with timed("make the index"):
            rows = ParquetDataset(config).utterances("train")
        size = sum(path.stat().st_size for path in (folder / "index").rglob("*.npy"))
        print(f"the index: {size / num_rows:.1f} bytes a row")
        with timed("open it again"):
            rows = ParquetDataset(config).utterances("train")
        options = ReaderOptions(shuffle=True, max_audio_secs=20.0)
        with timed("choose rows"):
            chosen = take(rows, options.find_kept(rows.facts))
        with timed("the order of an epoch"):
            order = EpochOrder(Planner(chosen, options), options, None, 2, 0)
        with timed("the first batches"):
            next(order.iter_from(Position()))


if __name__ == "__main__":
    main()
