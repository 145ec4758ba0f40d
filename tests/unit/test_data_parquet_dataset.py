"""Parquet data sets: what is packed is what is read, in the published layout and in the Hub's."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from fairseq2.data.tokenizers import Tokenizer, load_tokenizer
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.device import CPU
from fairseq2.gang import create_fake_gangs

from wavellama.data.check import check_dataset
from wavellama.data.dataset import AsrDataset
from wavellama.data.facts import facts_of
from wavellama.data.manifest import read_manifest, write_manifest
from wavellama.data.manifest_dataset import ManifestDataset, ManifestDatasetConfig
from wavellama.data.mixing import Betas, Mixture, Part
from wavellama.data.parquet import pack as packing
from wavellama.data.parquet.columns import Columns
from wavellama.data.parquet.dataset import ParquetDataset, ParquetDatasetConfig
from wavellama.data.parquet.pack import pack
from wavellama.data.plan import ReaderOptions
from wavellama.data.utterance import Utterance
from wavellama.data.words import AlignedWord
from wavellama.errors import AudioError, ConfigError, DataError, UnknownNameError

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def _audio(seed: int, secs: float, *, in_16_bits: bool = True) -> np.ndarray[Any, Any]:
    samples = np.random.default_rng(seed).normal(0, 0.1, int(16000 * secs))
    return np.rint(samples * 2**15) / 2**15 if in_16_bits else samples


def _bytes(seed: int, secs: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, _audio(seed, secs), 16000, format="FLAC")
    return file.getvalue()


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A data set of files, and of stretches of one whose samples 16 bits do not hold."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = []
    for i in range(30):
        audio, lang = folder / f"{i}.flac", ("eng_Latn", "ita_Latn")[i >= 15]
        soundfile.write(audio, _audio(i, 0.3 + 0.02 * i), 16000)
        text, secs = f"{WORDS[i % 10]} {WORDS[i // 10]}", len(_audio(i, 0.3 + 0.02 * i)) / 16000
        split = "dev" if i % 10 == 9 else "train"
        words = (AlignedWord(text.split()[0], 0.0, 0.1), AlignedWord(text.split()[1], 0.1, 0.2))
        rows.append(Utterance(audio, text, secs, lang, None, f"s{i % 3}", split, words))
    soundfile.write(folder / "long.wav", _audio(99, 3, in_16_bits=False), 16000, subtype="FLOAT")
    for i in range(3):
        rows.append(Utterance(folder / "long.wav", WORDS[i], 0.5, "ita_Latn", i, "s9", "train"))
    write_manifest(folder / "manifest.tsv", rows)
    return folder


def _open(path: Path | str, folder: Path, **columns: Any) -> ParquetDataset:
    config = ParquetDatasetConfig(path=str(path), index_dir=folder, columns=Columns(**columns))
    return ParquetDataset(config)


@pytest.fixture
def packed(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ParquetDataset:
    monkeypatch.setattr(packing, "GROUP_ROWS", 4)
    monkeypatch.setattr(packing, "FILE_ROWS", 8)
    result = pack(manifest, tmp_path / "packed", "mine")
    assert (result.num_rows, result.broken) == (33, [])
    return _open(tmp_path / "packed", tmp_path / "index")


def test_a_row_is_the_utterance_that_was_packed(manifest: Path, packed: ParquetDataset) -> None:
    before = ManifestDataset(ManifestDatasetConfig(path=manifest))

    assert packed.splits == ["dev", "train"]
    for split in packed.splits:
        pairs = zip(before.utterances(split), packed.utterances(split), strict=True)
        for old, new in pairs:
            facts = ("text", "duration", "lang", "speaker", "split", "words")
            assert [getattr(old, name) for name in facts] == [getattr(new, name) for name in facts]
            assert torch.equal(before.read_audio(old), packed.read_audio(new))


def test_what_is_known_of_rows_is_what_they_say(packed: ParquetDataset) -> None:
    rows = packed.utterances("train")
    known, said = rows.facts, facts_of(list(rows))

    assert known.secs.tolist() == said.secs.tolist()
    for name in ("langs", "corpora"):
        one, other = getattr(known, name), getattr(said, name)
        assert [one.known[i] for i in one.numbers] == [other.known[i] for i in other.numbers]
    assert known.groups is not None
    assert len(np.unique(known.groups)) == len({row.group for row in rows})
    assert [row.text for row in rows.take(np.array([3, 1]))] == [rows[3].text, rows[1].text]


def test_files_keep_their_bytes_and_stretches_are_encoded_without_loss(
    manifest: Path, tmp_path: Path
) -> None:
    pack(manifest, tmp_path / "packed", "mine")

    table = pq.read_table(tmp_path / "packed/corpus=mine/split=train/language=ita_Latn")
    data = [cell.values.to_numpy().tobytes() for cell in table["audio_bytes"]]
    assert data[0] == (manifest / "15.flac").read_bytes()
    assert data[-1].startswith(b"RIFF")  # floats
    assert pa.types.is_list(table.schema.field("audio_bytes").type)
    assert table.schema.field("audio_bytes").type.value_type == pa.int8()
    assert table["audio_size"].to_pylist()[-1] == 8000


def test_the_layout_is_the_published_one(packed: ParquetDataset, tmp_path: Path) -> None:
    root = tmp_path / "packed"
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.parquet"))

    assert names == [
        "corpus=mine/split=dev/language=eng_Latn/part-00000.parquet",
        "corpus=mine/split=dev/language=ita_Latn/part-00000.parquet",
        "corpus=mine/split=train/language=eng_Latn/part-00000.parquet",
        "corpus=mine/split=train/language=eng_Latn/part-00001.parquet",
        "corpus=mine/split=train/language=ita_Latn/part-00000.parquet",
        "corpus=mine/split=train/language=ita_Latn/part-00001.parquet",
    ]
    hours = (root / "hours.tsv").read_text().splitlines()
    assert hours[0] == "corpus\tlanguage\thours"
    assert [line.split("\t")[:2] for line in hours[1:]] == [
        ["mine", "eng_Latn"],
        ["mine", "ita_Latn"],
    ]


def _batches(dataset: AsrDataset, tokenizer: Tokenizer) -> Iterator[Seq2SeqBatch]:
    options = ReaderOptions(
        batch_audio_secs=4.0, max_audio_secs=2.0, shuffle=True, speeds=(0.9, 1.1), concat_p=0.3
    )
    reader = dataset.create_reader("train", tokenizer, create_fake_gangs(CPU), options)
    for batches in reader:
        yield from batches


def test_training_reads_the_same_batches_as_from_the_manifest(
    manifest: Path, packed: ParquetDataset
) -> None:
    tokenizer = load_tokenizer("mini_tokenizer")
    before = ManifestDataset(ManifestDatasetConfig(path=manifest))

    pairs = zip(_batches(before, tokenizer), _batches(packed, tokenizer), strict=True)
    count = 0
    for old, new in pairs:
        count += 1
        assert torch.equal(old.source_seqs, new.source_seqs)
        assert torch.equal(old.target_seqs, new.target_seqs)
    assert count > 3


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A data set as Hugging Face's Hub has them: a structure of bytes, and no lengths."""
    audio = [{"bytes": _bytes(i, 0.5 + i / 10), "path": f"{i}.flac"} for i in range(3)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"audio": pa.array(audio, kind), "sentence": ["one", "two", "three"]})
    (tmp_path / "hub/data").mkdir(parents=True)
    pq.write_table(table, tmp_path / "hub/data/train-00000-of-00002.parquet")
    pq.write_table(table.slice(0, 1), tmp_path / "hub/data/test-00000-of-00001.parquet")
    return tmp_path / "hub"


HUB = {"audio": "audio", "text": "sentence", "samples": "", "lang": "fin"}


def test_the_hubs_files_are_read(hub: Path, tmp_path: Path) -> None:
    dataset = _open(hub, tmp_path / "index", **HUB)

    rows = list(dataset.utterances("train"))
    assert dataset.splits == ["test", "train"]
    assert [(row.text, row.lang, row.duration) for row in rows] == [
        ("one", "fin_Latn", 0.5),
        ("two", "fin_Latn", 0.6),
        ("three", "fin_Latn", 0.7),
    ]
    assert dataset.read_audio(rows[1]).numpy() == pytest.approx(_audio(1, 0.6), abs=1e-4)


def test_an_address_is_read(hub: Path, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(hub), "/bucket/hub", recursive=True)
    try:
        dataset = _open("memory://bucket/hub", tmp_path / "index", **HUB)
        assert [row.text for row in dataset.utterances("train")] == ["one", "two", "three"]
        assert len(dataset.read_audio(dataset.utterances("test")[0])) == 8000
    finally:
        memory.rm("/bucket", recursive=True)


def test_the_index_is_made_once_and_anew_when_files_change(hub: Path, tmp_path: Path) -> None:
    def indices() -> set[str]:
        dataset = _open(hub, tmp_path / "index", **HUB)
        assert dataset.utterances("train")
        return {path.name for path in (tmp_path / "index").iterdir() if path.is_dir()}

    first = indices()
    assert indices() == first
    table = pq.read_table(hub / "data/test-00000-of-00001.parquet")
    pq.write_table(pa.concat_tables([table] * 3), hub / "data/train-00001-of-00002.parquet")
    assert len(indices()) == 2
    assert len(_open(hub, tmp_path / "index", **HUB).utterances("train")) == 6


def test_only_the_row_groups_of_late_stay_in_memory(packed: ParquetDataset) -> None:
    config = replace(packed.config, cache_gib=0.0)
    dataset = ParquetDataset(config)

    for row in dataset.utterances("train"):
        dataset.read_audio(row)
    assert dataset.num_cached == 1


def test_audio_that_is_missing_or_of_another_length_is_an_error(hub: Path, tmp_path: Path) -> None:
    table = pa.table(
        {
            "audio_bytes": pa.array([None, _bytes(0, 1.0), b"noise"], pa.binary()),
            "text": ["one", "two", "three"],
            "audio_size": [16000, 8000, 16000],
        }
    )
    pq.write_table(table, tmp_path / "train.parquet")
    dataset = _open(tmp_path / "train.parquet", tmp_path / "index")

    for row, reason in zip(dataset.utterances("train"), ("no audio", "0.50 s, but"), strict=False):
        with pytest.raises(AudioError, match=rf"train.parquet, row \d: .*{reason}"):
            dataset.read_audio(row)
    result = check_dataset(tmp_path / "train.parquet")
    assert [row.line for row in result.broken] == [1, 2, 3]


def test_rows_that_cannot_be_packed_are_named(manifest: Path, tmp_path: Path) -> None:
    (manifest / "3.flac").write_bytes(b"no audio")

    result = pack(manifest, tmp_path / "packed", "mine")

    assert result.num_rows == 32
    assert [row.line for row in result.broken] == [5]


def test_what_is_packed_is_checked(packed: ParquetDataset, tmp_path: Path) -> None:
    result = check_dataset(tmp_path / "packed")

    assert (len(result.utterances), result.broken) == (33, [])


@pytest.mark.parametrize("name", ["a/b", "a=b"])
def test_a_name_that_is_no_folders_is_refused(manifest: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be a folder's name"):
        pack(manifest, tmp_path / "packed", name)


def test_nothing_is_packed_over_something_else(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    with pytest.raises(DataError, match="exists already"):
        pack(manifest, tmp_path / "packed", "mine")


def test_what_cannot_be_read_is_an_error_in_a_sentence(hub: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    with pytest.raises(DataError, match="does not exist"):
        _open(tmp_path / "gone", index).utterances("train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no parquet file"):
        _open(tmp_path / "empty", index).utterances("train")
    with pytest.raises(DataError, match="no column audio_bytes"):
        _open(hub, index).utterances("train")
    with pytest.raises(DataError, match="no column phrase, but audio, sentence"):
        _open(hub, index, **{**HUB, "text": "phrase"}).utterances("train")
    with pytest.raises(ConfigError, match="nosuch"):
        _open("nosuch://bucket", index).utterances("train")
    with pytest.raises(UnknownNameError, match="trian"):
        _open(hub, index, **HUB).utterances("trian")
    (hub / "data/train-00000-of-00002.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(DataError, match="cannot be read"):
        _open(hub, index, **HUB).utterances("train")


def test_a_manifest_with_parquet_files_below_stays_a_manifest(manifest: Path, hub: Path) -> None:
    (manifest / "x.parquet").write_bytes((hub / "data/test-00000-of-00001.parquet").read_bytes())

    assert len(check_dataset(manifest).utterances) == len(
        read_manifest(manifest / "manifest.tsv").utterances
    )


def test_a_manifest_of_several_corpora_keeps_them(manifest: Path, tmp_path: Path) -> None:
    rows = read_manifest(manifest / "manifest.tsv").utterances
    rows = [replace(row, corpus="street" if i < 5 else None) for i, row in enumerate(rows)]
    write_manifest(manifest / "manifest.tsv", rows)
    pack(manifest, tmp_path / "both", "mine")
    dataset = _open(tmp_path / "both", tmp_path / "index")
    found = [row.corpus for split in dataset.splits for row in dataset.utterances(split)]
    assert sorted(map(str, found)) == ["mine"] * 28 + ["street"] * 5
    hours = (tmp_path / "both" / "hours.tsv").read_text().splitlines()
    assert [line.split("\t")[:2] for line in hours[1:]] == [
        ["mine", "eng_Latn"],
        ["mine", "ita_Latn"],
        ["street", "eng_Latn"],
    ]


def test_rows_name_the_corpus_that_they_are_mixed_by(packed: ParquetDataset) -> None:
    rows = packed.utterances("train")
    assert {row.corpus for row in rows} == {"mine"}
    mixture = Mixture(rows, Betas(corpus=0.5, language=0.0))
    assert set(mixture.shares) == {Part("mine", "eng_Latn"), Part("mine", "ita_Latn")}
    assert list(mixture.shares.values()) == pytest.approx([0.5, 0.5])
