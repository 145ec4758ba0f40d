"""The index of a parquet data set: a few bytes for each row, on the disk, mapped into memory.

It says how long each row is, in which language, corpus and split, and nothing else, so that a
hundred million rows take 900 MB that all processes of a machine share. It is made once, from the
column of lengths alone, and made anew when a file has another name or size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wavellama.audio.stream import probe_duration
from wavellama.data.parquet.columns import Columns, audio_bytes
from wavellama.data.parquet.files import ParquetFiles
from wavellama.errors import DataError
from wavellama.files import locked, replacing
from wavellama.units import seconds_to_samples

NUMBERS: Final = {"num_samples": "<u4", "lang": "<u2", "corpus": "<u2", "split": "u1"}
"""What is known of each row, and how it is kept: lengths, and places in lists of names."""

NAMED: Final = ("lang", "corpus", "split")


@dataclass(frozen=True)
class Index:
    """What is known of all rows, in the order of files, row groups and rows."""

    num_samples: NDArray[np.uint32]
    """Their lengths at 16 kHz; 0 where the audio cannot be read."""

    lang: NDArray[np.uint16]
    corpus: NDArray[np.uint16]
    split: NDArray[np.uint8]

    names: dict[str, list[str]]
    """What the numbers in ``lang``, ``corpus`` and ``split`` mean."""

    starts: NDArray[np.int64]
    """The first row of each row group, and behind the last one."""

    places: list[tuple[int, int]]
    """File and number of each row group."""


def open_index(files: ParquetFiles, columns: Columns, folder: Path) -> Index:
    """Return the index of some files; it is made if the folder does not hold it.

    :raises DataError: a file cannot be read, or has no such column.
    """
    key = sha256(repr((files.path, files.signature, columns)).encode()).hexdigest()[:20]
    place = folder / key
    with locked(folder / f".{key}.lock"):  # the processes of a run open it at once
        if not place.is_dir():
            with replacing(place) as part:
                part.mkdir()
                _write(part, files, columns)
    facts = json.loads((place / "names.json").read_text("utf-8"))
    arrays = {name: np.load(place / f"{name}.npy", mmap_mode="r") for name in NUMBERS}
    places = [(number, group) for number, group in facts["places"]]
    starts = np.concatenate([[0], np.cumsum(facts["sizes"])])
    return Index(**arrays, names=facts["names"], starts=starts, places=places)


def _write(folder: Path, files: ParquetFiles, columns: Columns) -> None:
    names: dict[str, dict[str, int]] = {name: {} for name in NAMED}
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in NUMBERS}
    places, sizes = [], []
    for number, group, rows in _read_groups(files, columns):
        places.append((number, group))
        sizes.append(len(rows["num_samples"]))
        for name in NAMED:
            rows[name] = [names[name].setdefault(text, len(names[name])) for text in rows[name]]
            _check_number(columns.named(name), len(names[name]), np.iinfo(NUMBERS[name]).max + 1)
        for name, kind in NUMBERS.items():
            found[name].append(np.array(rows[name], kind))
    if not sum(sizes):
        raise DataError(f"{files.path} holds no row.")
    for name in NUMBERS:
        np.save(folder / f"{name}.npy", np.concatenate(found[name]))
    facts = {"names": {name: list(names[name]) for name in NAMED}, "places": places, "sizes": sizes}
    (folder / "names.json").write_text(json.dumps(facts), "utf-8")


def _check_number(column: str, count: int, most: int) -> None:
    if count > most:
        raise DataError(f"The column or folder {column} has more than {most:,} different values.")


def _read_groups(
    files: ParquetFiles, columns: Columns
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield file, number and rows of each row group."""
    for number, name in enumerate(files.names):
        columns.check(name, files.columns(number))
        known = set(files.columns(number))
        wanted = [columns.samples or columns.audio, *(columns.named(kind) for kind in NAMED)]
        read = [column for column in wanted if column in known]
        for group in range(files.open(number).num_row_groups):
            table = files.read(number, group, read)
            rows: dict[str, Any] = {"num_samples": _lengths(table, columns)}
            for kind in NAMED:
                rows[kind] = _texts(files, number, columns, kind, table)
            yield number, group, rows


def _lengths(table: Any, columns: Columns) -> Sequence[float]:  # noqa: ANN401
    if columns.samples:
        lengths = table[columns.samples].to_numpy().astype(np.float64)  # NaN: no value
        most = np.iinfo(NUMBERS["num_samples"]).max
        known: Sequence[float] = np.nan_to_num(lengths).clip(0, most)
        return known
    found = (audio_bytes(cell) for cell in table[columns.audio])
    return [seconds_to_samples(probe_duration(data) or 0.0) if data else 0 for data in found]


def _texts(
    files: ParquetFiles,
    number: int,
    columns: Columns,
    kind: str,
    table: Any,  # noqa: ANN401
) -> list[str]:
    """Return language, corpus or split of each row: a column, a folder, or one for all rows."""
    column = columns.named(kind)
    if column in table.column_names:
        return [columns.clean(kind, text) for text in table[column].to_pylist()]
    text = columns.lang if kind == "lang" and columns.lang else files.folders(number).get(column)
    if text is None and kind == "split":
        text = files.stem(number)
    return [columns.clean(kind, text)] * table.num_rows
