"""Faults in how parquet files of others are read, one test each."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.dataset import dataset

from tests.unit.test_data_parquet_dataset import _bytes
from wavellama.data.check import check_dataset
from wavellama.data.manifest import write_manifest
from wavellama.data.parquet.columns import Columns
from wavellama.data.parquet.dataset import ParquetDataset, ParquetDatasetConfig
from wavellama.data.parquet.files import ParquetFiles
from wavellama.data.parquet.index import Index, open_index
from wavellama.data.parquet.pack import pack
from wavellama.data.utterance import Utterance
from wavellama.errors import DataError

AUDIO = _bytes(0, 0.5)


def _table(count: int = 2, **columns: Any) -> pa.Table:
    """Return a table of some equal rows; None as a column leaves it out."""
    defaults = {
        "text": ["one"] * count,
        "audio_bytes": [AUDIO] * count,
        "audio_size": [8000] * count,
    }
    given = {**defaults, **columns}
    return pa.table({name: column for name, column in given.items() if column is not None})


def _open(path: Path, **columns: Any) -> ParquetDataset:
    index = path.parent / "index"
    config = ParquetDatasetConfig(path=str(path), index_dir=index, columns=Columns(**columns))
    return ParquetDataset(config)


def _written(folder: Path, table: pa.Table, **columns: Any) -> ParquetDataset:
    (folder / "data").mkdir(exist_ok=True)
    pq.write_table(table, folder / "data/train.parquet")
    return _open(folder / "data", **columns)


def test_the_processes_of_a_run_make_one_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one was done, and all others ended: the folder of the index is not empty."""
    read = ParquetFiles.read
    num_read = []

    def read_slowly(*args: Any) -> Any:
        num_read.append(1)
        time.sleep(0.1)
        return read(*args)

    data = _written(tmp_path, _table())
    monkeypatch.setattr(ParquetFiles, "read", read_slowly)

    def open_once(_: int) -> Index:
        return open_index(ParquetFiles(data.config.path), Columns(), data.config.index_dir)

    with ThreadPoolExecutor(4) as pool:
        assert [index.names["split"] for index in pool.map(open_once, range(4))] == [["train"]] * 4
    assert len(num_read) == 1


def test_folders_are_named_as_others_name_them(tmp_path: Path) -> None:
    """The corpus was called my%2Ffine%20corpus, and rows without a language had the language of
    a placeholder."""
    table = _table(corpus=["my/fine corpus"] * 2, language=["ita_Latn", None], split=["dev"] * 2)
    pq.write_to_dataset(table, tmp_path / "data", ["corpus", "split", "language"])

    rows = _open(tmp_path / "data").utterances("dev")

    assert {row.corpus for row in rows} == {"my/fine corpus"}
    assert {row.lang for row in rows} == {"ita_Latn", None}


def test_a_percent_sign_is_packed_as_others_read_it(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(AUDIO)
    row = Utterance(tmp_path / "a.flac", "one", 0.5, split="train")
    write_manifest(tmp_path / "manifest.tsv", [row])
    pack(tmp_path, tmp_path / "packed", "50%20")

    others = dataset(tmp_path / "packed", partitioning="hive", exclude_invalid_files=True)
    assert others.to_table()["corpus"].to_pylist() == ["50%20"]
    assert _open(tmp_path / "packed").utterances("train")[0].corpus == "50%20"


@pytest.mark.parametrize("text", [None, "", "  "])
def test_a_row_without_a_text_is_a_bad_row(tmp_path: Path, text: str | None) -> None:
    """Training took it for speech whose text is one token of padding."""
    _written(tmp_path, _table(text=["one", text]))

    (broken,) = check_dataset(tmp_path / "data").broken

    assert (broken.line, broken.reason) == (2, "has no text")


def test_blanks_around_a_text_are_none_of_it(tmp_path: Path) -> None:
    rows = _written(tmp_path, _table(text=[" one\n", "two "])).utterances("train")
    assert [row.text for row in rows] == ["one", "two"]


@pytest.mark.parametrize("words", [["some", "words"], ['["one"]', "{"]])
def test_words_of_another_kind_cost_their_row_alone(tmp_path: Path, words: list[str]) -> None:
    """A stack trace in the middle of the training."""
    data = _written(tmp_path, _table(3, words=[*words, None]))
    assert [row.words for row in data.utterances("train")] == [None] * 3
    assert [row.line for row in check_dataset(tmp_path / "data").broken] == [1, 2]


def test_names_may_be_numbers_and_texts_may_be_bytes(tmp_path: Path) -> None:
    table = _table(text=[b"one", b"two"], corpus=[3, None], speaker=[7, 8], split=[0, 0])
    rows = _written(tmp_path, table).utterances("0")
    said = [(row.text, row.corpus, row.speaker) for row in rows]
    assert said == [("one", "3", "7"), ("two", None, "8")]


@pytest.mark.filterwarnings("error")
def test_a_length_that_is_missing_is_none(tmp_path: Path) -> None:
    data = _written(tmp_path, _table(audio_size=[8000, None]))
    assert [row.duration for row in data.utterances("train")] == [0.5, 0.0]
    assert [row.line for row in check_dataset(tmp_path / "data").broken] == [2]


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_binary(),
        pa.binary(len(AUDIO)),
        pa.dictionary(pa.int32(), pa.binary()),
        pa.list_(pa.uint8()),
        pa.large_list(pa.int8()),
    ],
    ids=str,
)
@pytest.mark.parametrize("samples", ["audio_size", ""])
def test_audio_of_any_type_is_read(tmp_path: Path, kind: pa.DataType, samples: str) -> None:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    signed = pa.types.is_large_list(kind)
    content = [byte - 256 * (signed and byte > 127) for byte in AUDIO] if is_list else AUDIO
    audio = pa.array([AUDIO] * 2, pa.binary()) if pa.types.is_dictionary(kind) else None
    audio = pa.array([content] * 2, kind) if audio is None else audio.dictionary_encode()
    data = _written(tmp_path, _table(audio_bytes=audio), samples=samples)
    rows = data.utterances("train")
    assert [len(data.read_audio(row)) for row in rows] == [8000] * 2


@pytest.mark.parametrize("cell", [{"array": [0.5], "sampling_rate": 16000}, [0.5], "a.wav", 1])
def test_audio_of_a_type_that_holds_none_is_named(tmp_path: Path, cell: object) -> None:
    data = _written(tmp_path, _table(audio_bytes=[cell] * 2), samples="")
    with pytest.raises(DataError, match=r"holds no encoded audio"):
        data.utterances("train")


def test_files_without_rows_are_passed_over(tmp_path: Path) -> None:
    data = _written(tmp_path, _table(0, text=pa.array([], pa.string())))
    with pytest.raises(DataError, match="holds no row"):
        data.utterances("train")
    pq.write_table(_table(), tmp_path / "data/test.parquet")
    assert _open(tmp_path / "data").splits == ["test"]


def test_more_splits_than_the_index_has_room_for_are_named(tmp_path: Path) -> None:
    """Files that are numbered are a split each: a stack trace."""
    data = _written(tmp_path, _table(257, split=[str(i) for i in range(257)]))
    with pytest.raises(DataError, match="split has more than 256 different values"):
        data.utterances("0")


def test_a_file_that_changes_after_its_index_is_named(tmp_path: Path) -> None:
    data = _written(tmp_path, _table(2))
    assert len(data.utterances("train")) == 2
    pq.write_table(_table(1), tmp_path / "data/train.parquet")
    with pytest.raises(DataError, match="has changed since its index was made"):
        data.utterances("train")[1]
