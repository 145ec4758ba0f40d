"""Several data sets in one manifest, by the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.test_data_check import _run
from wavellama.corpora.merge import merge_datasets
from wavellama.data.manifest import read_manifest
from wavellama.errors import DataError

HEADER = "audio\tduration\ttext\tlang\tspeaker\tsplit\n"


def _dataset(folder: Path, *rows: str) -> Path:
    folder.mkdir()
    lines = (f"{i}.flac\t2.0\t" + row.replace(",", "\t") + "\n" for i, row in enumerate(rows))
    (folder / "manifest.tsv").write_text(HEADER + "".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def datasets(tmp_path: Path) -> list[Path]:
    return [
        _dataset(tmp_path / "a", "ciao,ita_Latn,x,train", "già,ita_Latn,y,test_unseen"),
        _dataset(
            tmp_path / "b",
            "gia,ita_Latn,z,train",
            "gia,spa_Latn,z,train",
            "ciao,ita_Latn,z,dev",
            "tu,ita_Latn,z,train",
            "tu,ita_Latn,w,test",
        ),
    ]


def test_words_that_another_set_tests_are_not_trained(datasets: list[Path]) -> None:
    out = datasets[0].parent / "all.tsv"
    merged = merge_datasets(datasets, out)
    rows = [(u.text, u.lang, u.split) for u in read_manifest(out).utterances]
    assert ("ciao", "ita_Latn", "train") not in rows
    assert ("gia", "ita_Latn", "train") not in rows
    assert ("gia", "spa_Latn", "train") in rows
    assert ("tu", "ita_Latn", "train") in rows  # its own set knows why
    assert (merged.utterances, merged.left_out) == (len(rows), 2) == (5, 2)


def test_audio_is_found_from_the_manifest(datasets: list[Path]) -> None:
    out = datasets[0].parent / "all.tsv"
    merge_datasets(datasets, out)
    assert "\na/1.flac\t" in out.read_text()
    assert read_manifest(out).utterances[0].audio == datasets[0] / "1.flac"


def test_rows_are_of_the_corpus_that_they_come_from(datasets: list[Path]) -> None:
    out = datasets[0].parent / "all.tsv"
    merge_datasets(datasets, out)
    corpora = [row.corpus for row in read_manifest(out).utterances]
    assert corpora == [row.audio.parent.name for row in read_manifest(out).utterances]
    again = datasets[0].parent / "again.tsv"
    merge_datasets([out], again)
    assert [row.corpus for row in read_manifest(again).utterances] == corpora, "they keep it"


def test_the_command_says_what_it_did(
    datasets: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = datasets[0].parent / "all.jsonl"
    assert _run("merge", *map(str, datasets), "--out", str(out)) == 0
    assert "5 utterances" in capsys.readouterr().out
    assert len(read_manifest(out).utterances) == 5


@pytest.mark.parametrize(
    ("row", "says"), [("ciao,ita_Latn,x,", "in no split"), (",ita_Latn,x,train", "has no text")]
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, row: str, says: str) -> None:
    dataset = _dataset(tmp_path / "c", row)
    with pytest.raises(DataError, match=rf"manifest.tsv:2: .*{says}"):
        merge_datasets([dataset], tmp_path / "all.tsv")
