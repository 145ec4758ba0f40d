"""From manifests to parquet, in the layout that the published recipes read.

``corpus=X/split=Y/language=Z/part-00000.parquet`` with the columns ``text``, ``audio_bytes`` (a
list of int8) and ``audio_size`` (samples at 16 kHz), and ours, which others pass over: ``speaker``
and ``words``. ``hours.tsv`` has the hours of each corpus and language.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import numpy as np
import pyarrow as pa
import soundfile
from pyarrow.parquet import ParquetWriter
from torch import Tensor
from typing_extensions import Self

from wavellama.audio.tracks import EVERYTHING
from wavellama.data.check import Row, read_rows
from wavellama.data.manifest import BrokenRow
from wavellama.data.manifest_dataset import ManifestDataset, ManifestDatasetConfig
from wavellama.data.parquet.files import HOURS
from wavellama.data.progress import track
from wavellama.data.utterance import Utterance
from wavellama.data.words import write_words
from wavellama.errors import AudioError, DataError
from wavellama.files import replacing, write_text
from wavellama.units import SAMPLE_RATE

GROUP_ROWS: Final = 100
"""Rows of a row group, as the published data have them."""

FILE_ROWS: Final = 10_000
"""Rows of a file."""

SCHEMA: Final = pa.schema(
    {
        "text": pa.string(),
        "audio_bytes": pa.list_(pa.int8()),
        "audio_size": pa.int64(),
        "speaker": pa.string(),
        "words": pa.string(),
    }
)

_FULL_SCALE: Final = 2**15

_FOLDER_NAME: Final = re.compile(r"[^/=\0]*")

Cells: TypeAlias = dict[str, Any]
"""A row as it is written."""


@dataclass
class Packed:
    """What became of the rows of a data set."""

    num_rows: int = 0
    """How many were written."""

    num_samples: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How much audio there is of each corpus and language."""

    broken: list[BrokenRow] = field(default_factory=list)
    """The other rows: they are no utterances, or their audio cannot be read."""


def pack(path: Path, out: Path, corpus: str) -> Packed:
    """Write the utterances of all manifests of a data set into parquet files, in their order.

    Audio that is a file of its own stays as it is encoded; what is cut out of a longer file, or is
    a track or a channel of it, is encoded anew without loss. The folder appears when it is
    complete.

    :param corpus: what the corpus of rows is called that name none.
    :raises DataError: there is no manifest, ``out`` exists, or a name cannot be that of a folder.
    :raises OSError: ``out`` cannot be written.
    """
    if out.exists():
        raise DataError(f"{out} exists already; choose another folder, or remove it.")
    packed = Packed()
    dataset = ManifestDataset(ManifestDatasetConfig(path=path, cache_gib=0))

    def folder(row: Row) -> str:
        return _folder(row[2], corpus)

    def encode(row: Row) -> Cells | BrokenRow:
        return _encode(dataset, row)

    rows = sorted(read_rows(path, packed.broken), key=folder)  # those of a folder stay in order
    with replacing(out) as part, ThreadPoolExecutor() as pool:
        for name, members in groupby(track(rows, "packing", len(rows)), folder):
            with _FolderWriter(part / name) as writer:
                for group in _in_groups(members):
                    found = list(pool.map(encode, group))
                    good = [cells for cells in found if not isinstance(cells, BrokenRow)]
                    packed.broken += [row for row in found if isinstance(row, BrokenRow)]
                    packed.num_rows += len(good)
                    key = group[0][2].corpus or corpus, group[0][2].lang or ""
                    packed.num_samples[key] += sum(cells["audio_size"] for cells in good)
                    writer.write(good)
        _write_hours(part / HOURS, packed.num_samples)
    return packed


@final
class _FolderWriter:
    """Writes row groups into the files of a folder, a new file when one is full."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._num_groups = folder, 0
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def write(self, rows: Sequence[Cells]) -> None:
        """Write rows, if there are any, as a row group."""
        if not rows:
            return
        number, place = divmod(self._num_groups, FILE_ROWS // GROUP_ROWS)
        if place == 0:
            self._close()
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"part-{number:05d}.parquet"
            self._writer = ParquetWriter(path, SCHEMA, compression="NONE")  # audio is compressed
        columns = {name: [row[name] for row in rows] for name in SCHEMA.names}
        self._writer.write_table(pa.table(columns, SCHEMA))
        self._num_groups += 1

    def __exit__(self, *args: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _in_groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield the rows of one row group after the other."""
    iterator = iter(rows)
    while group := list(islice(iterator, GROUP_ROWS)):
        yield group


def _folder(utterance: Utterance, corpus: str) -> str:
    """Return the folders of a row, from the root of the data set on.

    :raises DataError: a name cannot be that of a folder.
    """
    parts = {
        "corpus": utterance.corpus or corpus,
        "split": utterance.split or "all",
        "language": utterance.lang or "",
    }
    for key, value in parts.items():
        if not _FOLDER_NAME.fullmatch(value):
            raise DataError(f"The {key} {value!r} of {utterance.audio} cannot be a folder's name.")
    return "/".join(f"{key}={value.replace('%', '%25')}" for key, value in parts.items())


def _encode(dataset: ManifestDataset, row: Row) -> Cells | BrokenRow:
    """Return a row as it is written, or why it is not."""
    manifest, line, utterance = row
    try:
        waveform = dataset.read_audio(utterance)
        is_file = utterance.offset is None and utterance.selection == EVERYTHING
        data = utterance.audio.read_bytes() if is_file else _encode_exactly(waveform)
    except (AudioError, OSError) as ex:
        return BrokenRow(manifest, line, getattr(ex, "reason", str(ex)))
    words = None if utterance.words is None else json.dumps(write_words(utterance.words))
    return {
        "text": utterance.text,
        "audio_bytes": np.frombuffer(data, np.int8),
        "audio_size": len(waveform),
        "speaker": utterance.speaker,
        "words": words,
    }


def _encode_exactly(waveform: Tensor) -> bytes:
    """Return audio as FLAC, or where 16 bits do not hold it, as WAV with floats."""
    samples = waveform.numpy()
    scaled = samples * _FULL_SCALE
    fits = bool(np.all(scaled == np.rint(scaled))) and bool(np.all(np.abs(samples) < 1))
    form = ("FLAC", "PCM_16") if fits else ("WAV", "FLOAT")
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format=form[0], subtype=form[1])
    return file.getvalue()


def _write_hours(path: Path, num_samples: Counter[tuple[str, str]]) -> None:
    lines = ["corpus\tlanguage\thours"]
    for (corpus, lang), count in sorted(num_samples.items()):
        lines.append(f"{corpus}\t{lang}\t{count / SAMPLE_RATE / 3600:.4f}")
    write_text(path, "\n".join([*lines, ""]))
