"""The dataset family ``parquet_asr``: rows of parquet files, read a row group at a time."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from threading import RLock
from typing import Any, Final, final, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from wavellama.audio.load import load_audio
from wavellama.data.dataset import AsrDataset, check_length
from wavellama.data.facts import Facts, Names, StoredUtterances
from wavellama.data.parquet.columns import Columns, as_text, audio_bytes
from wavellama.data.parquet.files import ParquetFiles
from wavellama.data.parquet.index import Index, open_index
from wavellama.data.utterance import Utterance
from wavellama.data.words import AlignedWord, parse_words
from wavellama.errors import AudioError, DataError, UnknownNameError
from wavellama.faults import Checked
from wavellama.units import SAMPLE_RATE, samples_to_seconds

PARQUET_ASR_FAMILY: Final = "parquet_asr"

_TEXT_GROUPS: Final = 256
"""Row groups whose texts stay in memory."""


@dataclass(kw_only=True)
class ParquetDatasetConfig(Checked):
    """Where the data set is, and what its columns are called."""

    path: str = ""
    """A parquet file or a folder of them, on a disk or at an address (``s3://``, ``hf://``)."""

    columns: Columns = field(default_factory=Columns)

    cache_gib: float = 1.0
    """Encoded audio to keep in memory per process, in GiB: row groups that rows are still to be
    read from. 2,048 rows are read at a time, from as few row groups as hold them."""

    index_dir: Path = field(default_factory=lambda: Path("~/.cache/wavellama/parquet"))
    """Where the index is kept: lengths, languages, corpora and splits, 9 bytes for each row."""

    @override
    def find_faults(self) -> Iterator[str]:
        if not self.path:
            yield "`path` names no parquet file and no folder of them."
        if self.cache_gib < 0:
            yield f"`cache_gib` must be at least 0, but is {self.cache_gib:g}."


@dataclass(frozen=True)
class StoredUtterance(Utterance):
    """A row; its audio stays in the file until ``read_audio`` asks for it."""

    group: int = 0
    """Its row group."""

    row: int = 0
    """Its place in the row group."""

    file: str = ""
    line: int = 0
    """Its file, and its place there, from 1 on."""

    words_fault: str | None = None
    """Why the file's words are left out; None if they are not."""

    @property
    @override
    def text_fault(self) -> str | None:
        return self.words_fault or super().text_fault


@final
class ParquetDataset(AsrDataset):
    """Utterances in parquet files."""

    def __init__(self, config: ParquetDatasetConfig) -> None:
        self.config, self._columns = config, config.columns
        self._lock = RLock()
        self._audio: OrderedDict[int, Any] = OrderedDict()  # by row group, the latest one last
        self._texts = lru_cache(_TEXT_GROUPS)(self._read_texts)

    @cached_property
    def _files(self) -> ParquetFiles:
        return ParquetFiles(os.path.expanduser(self.config.path))

    @cached_property
    def index(self) -> Index:
        """What is known of all rows without their texts and audio."""
        return open_index(self._files, self._columns, self.config.index_dir.expanduser())

    @property
    def splits(self) -> list[str]:
        """The names of the splits."""
        return self.index.names["split"]

    @override
    def utterances(self, split: str) -> ParquetRows:
        if split not in self.splits:
            raise UnknownNameError(f"split of {self.config.path}", split, self.splits)
        return ParquetRows(self, np.flatnonzero(self.index.split == self.splits.index(split)))

    @override
    def read_audio(self, utterance: Utterance) -> Tensor:
        assert isinstance(utterance, StoredUtterance)
        data = audio_bytes(self._read_group(utterance.group)[utterance.row])
        if data is None:
            raise AudioError(str(utterance.audio), "there is no audio in the file.")
        return check_length(load_audio(data), utterance, "file")

    def utterance(self, place: int) -> StoredUtterance:
        """Return a row by its place among all rows."""
        index = self.index
        group = int(np.searchsorted(index.starts, place, "right")) - 1
        row = place - int(index.starts[group])
        file, number = index.places[group]
        name, line = self._files.names[file], place - int(index.starts[group - number]) + 1
        duration = samples_to_seconds(int(index.num_samples[place]))
        with self._lock:
            text, speaker, cell = self._texts(group)[row]
        words, words_fault = _parse_words(cell, text, duration)
        return StoredUtterance(
            audio=Path(f"{name}, row {line}"),
            text=text,
            duration=duration,
            lang=index.names["lang"][index.lang[place]] or None,
            speaker=speaker,
            split=index.names["split"][index.split[place]],
            corpus=index.names["corpus"][index.corpus[place]] or None,
            words=words,
            group=group,
            row=row,
            file=name,
            line=line,
            words_fault=words_fault,
        )

    def _read_texts(self, group: int) -> list[tuple[str, str | None, object]]:
        """Return text, speaker and words of each row of a row group."""
        known = self._files.columns(self.index.places[group][0])
        wanted = [self._columns.text, self._columns.speaker, self._columns.words]
        table = self._read(group, [column for column in wanted if column in known])
        empty = [None] * table.num_rows
        columns = [table[column].to_pylist() if column in known else empty for column in wanted]
        return [
            (as_text(text), as_text(who) or None, words)
            for text, who, words in zip(*columns, strict=True)
        ]

    def _read_group(self, group: int) -> Any:  # noqa: ANN401
        """Return the cells of audio of a row group; the latest ones stay in memory."""
        with self._lock:
            if group not in self._audio:
                self._audio[group] = self._read(group, [self._columns.audio])[self._columns.audio]
            self._audio.move_to_end(group)
            while len(self._audio) > 1 and self._cached_bytes > self.config.cache_gib * 2**30:
                self._audio.popitem(last=False)
            return self._audio[group]

    def _read(self, group: int, columns: Sequence[str]) -> Any:  # noqa: ANN401
        """Return a table of some columns of a row group.

        :raises DataError: it cannot be read, or is not the one that the index is of.
        """
        file, number = self.index.places[group]
        table = self._files.read(file, number, columns)
        if table.num_rows != self.index.starts[group + 1] - self.index.starts[group]:
            raise DataError(
                f"{self._files.names[file]} has changed since its index was made: remove"
                f" {self.config.index_dir}, and start again."
            )
        return table

    @property
    def num_cached(self) -> int:
        """How many row groups of audio are in memory."""
        return len(self._audio)

    @property
    def _cached_bytes(self) -> int:
        return sum(cells.nbytes for cells in self._audio.values())


def _parse_words(
    cell: object, text: str, duration: float
) -> tuple[tuple[AlignedWord, ...] | None, str | None]:
    """Return the words in a cell, and what is wrong with them."""
    try:
        return parse_words(cell, text, duration), None
    except ValueError as ex:
        return None, str(ex)


@final
class ParquetRows(StoredUtterances[StoredUtterance]):
    """Some rows of a data set, of which only their places are in memory."""

    def __init__(self, dataset: ParquetDataset, places: NDArray[np.int64]) -> None:
        """:param places: of the rows among all rows, in order."""
        self._dataset, self._places = dataset, places

    @property
    @override
    def facts(self) -> Facts:
        index, places = self._dataset.index, self._places
        langs, corpora = (
            Names(numbers[places], [name or None for name in index.names[kind]])
            for kind, numbers in (("lang", index.lang), ("corpus", index.corpus))
        )
        groups = np.searchsorted(index.starts, places, "right")
        return Facts(index.num_samples[places] / SAMPLE_RATE, langs, corpora, groups)

    @override
    def take(self, places: NDArray[np.int64]) -> ParquetRows:
        return ParquetRows(self._dataset, self._places[places])

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> StoredUtterance: ...
    @overload
    def __getitem__(self, index: slice) -> ParquetRows: ...
    def __getitem__(self, index: int | slice) -> StoredUtterance | ParquetRows:
        if isinstance(index, slice):
            return ParquetRows(self._dataset, self._places[index])
        return self._dataset.utterance(int(self._places[index]))
