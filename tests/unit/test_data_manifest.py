"""Manifests: what is read, what is reported as broken, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wavellama.data.manifest import find_manifests, read_manifest, write_manifest
from wavellama.data.utterance import Utterance
from wavellama.errors import DataError

HEADER = "audio\tduration\ttext\tlang\n"


def _file(folder: Path, text: str, name: str = "manifest.tsv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_tsv_is_read(tmp_path: Path) -> None:
    text = "audio\toffset\tduration\ttext\tlang\tspeaker\tsplit\n"
    text += 'a/b.ogg\t1.5\t2\tsay "no\teng_Latn\tann\tdev\n/abs/c.ogg\t\t0.25\tsì\t\t\t\n'
    content = read_manifest(_file(tmp_path, text))
    assert content.broken == []
    assert content.lines == [2, 3]
    assert content.utterances == [
        Utterance(tmp_path / "a/b.ogg", 'say "no', 2.0, "eng_Latn", 1.5, "ann", "dev"),
        Utterance(Path("/abs/c.ogg"), "sì", 0.25),
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_blank_lines_and_a_mark_of_byte_order_do_no_harm(tmp_path: Path, newline: str) -> None:
    text = "\ufeff" + HEADER + "\na\t1\tx\teng_Latn\n \nb\t1\ty\u2028z\teng_Latn"
    content = read_manifest(_file(tmp_path, text.replace("\n", newline)))
    assert [u.text for u in content.utterances] == ["x", "y\u2028z"]
    assert content.lines == [3, 5]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a\t1\thello", "has 3 columns, but the header names 4"),
        ("a\t1\thello\teng_Latn\tmore", "has 5 columns"),
        ("\t1\thello\teng_Latn", "has no audio"),
        ("a\t1\t \teng_Latn", "has no text"),
        ("a\t\thello\teng_Latn", "has a duration of ''"),
        ("a\t0\thello\teng_Latn", "has a duration of '0', but it must be above 0"),
        ("a\t-1\thello\teng_Latn", "has the duration '-1'"),
        ("a\tnan\thello\teng_Latn", "has the duration 'nan'"),
        ("a\tinf\thello\teng_Latn", "has the duration 'inf'"),
        ("a\t1,5\thello\teng_Latn", "has the duration '1,5', which is not a number of seconds"),
        ("a\t1\thello\teng_Lat", "has the unknown language 'eng_Lat'. Did you mean eng_Latn"),
    ],
)
def test_a_broken_row_is_reported_and_the_others_are_read(
    tmp_path: Path, row: str, reason: str
) -> None:
    path = _file(tmp_path, f"{HEADER}good\t1\tone\teng_Latn\n{row}\ngood\t2\ttwo\teng_Latn\n")
    content = read_manifest(path)
    assert [u.text for u in content.utterances] == ["one", "two"]
    (broken,) = content.broken
    assert (broken.path, broken.line) == (path, 3)
    assert reason in broken.reason


@pytest.mark.parametrize("offset", ["-0.1", "x", "nan"])
def test_a_wrong_offset_is_reported(tmp_path: Path, offset: str) -> None:
    path = _file(tmp_path, f"audio\toffset\tduration\ttext\na\t{offset}\t1\tx\n")
    assert "has the offset" in read_manifest(path).broken[0].reason


def test_json_lines_are_read_in_both_forms(tmp_path: Path) -> None:
    rows = [
        {"audio": "a.ogg", "duration": 1.5, "text": "x", "lang": "eng_Latn", "offset": 0.5},
        {"audio_filepath": "b.ogg", "duration": 2, "text": "y", "language": "ita_Latn"},
        {"audio_filepath": "c.ogg", "duration": 3, "text": "z", "offset": None, "other": 1},
    ]
    path = _file(tmp_path, "\n".join(map(json.dumps, rows)), "train.jsonl")
    assert read_manifest(path).utterances == [
        Utterance(tmp_path / "a.ogg", "x", 1.5, "eng_Latn", 0.5, split="train"),
        Utterance(tmp_path / "b.ogg", "y", 2.0, "ita_Latn", split="train"),
        Utterance(tmp_path / "c.ogg", "z", 3.0, split="train"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"audio": "a", "duration": NaN, "text": "x"}', "has the duration"),
        ('{"audio": "a", "duration": [1], "text": "x"}', "has the duration"),
        ('{"audio": "a", "text": "x"}', "has a duration of None"),
        ('{"duration": 1, "text": "x"}', "has no audio"),
    ],
)
def test_a_broken_json_line_is_reported(tmp_path: Path, line: str, reason: str) -> None:
    good = '{"audio": "a", "duration": 1, "text": "x"}'
    content = read_manifest(_file(tmp_path, f"{good}\n{line}\n{good}\n", "m.jsonl"))
    assert len(content.utterances) == 2
    assert (content.broken[0].line, reason in content.broken[0].reason) == (2, True)


@pytest.mark.parametrize("text", ["", "file\tduration\ttext\n", "audio,duration,text\n"])
def test_a_file_without_a_usable_header_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"has no column .*audio"):
        read_manifest(_file(tmp_path, text))


def test_the_header_error_names_what_is_near(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no column duration\. Is it durations"):
        read_manifest(_file(tmp_path, "audio\tdurations\ttext\n"))


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path / "missing.tsv")
    (tmp_path / "latin.tsv").write_bytes(HEADER.encode() + b"a\t1\tpi\xf9\t\n")
    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        read_manifest(tmp_path / "latin.tsv")


@pytest.mark.parametrize("name", ["manifest.tsv", "manifest.jsonl"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    clips = tmp_path / "clips"
    utterances = [
        Utterance(clips / "a", "uno", 0.1 + 0.2, "ita_Latn", None, "carlo", "train"),
        Utterance(clips / "b", 'é "x', 1e-05, None, 12.0625, None, "dev"),
    ]
    write_manifest(tmp_path / name, utterances)
    assert read_manifest(tmp_path / name).utterances == utterances
    assert str(tmp_path) not in (tmp_path / name).read_text("utf-8")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_audio_elsewhere_keeps_its_whole_path(tmp_path: Path) -> None:
    outside = tmp_path / "audio" / "a.ogg"
    write_manifest(tmp_path / "set" / "manifest.tsv", [Utterance(outside, "x", 1.0)])
    content = read_manifest(tmp_path / "set" / "manifest.tsv")
    assert content.utterances[0].audio == outside


def test_optional_columns_are_left_out_when_unused(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.tsv", [Utterance(tmp_path / "a", "x", 1.0)])
    assert (tmp_path / "m.tsv").read_text("utf-8") == "audio\tduration\ttext\na\t1.0\tx\n"


@pytest.mark.parametrize("text", ["a\tb", "a\nb", "a\rb"])
def test_tsv_refuses_what_it_cannot_hold_and_changes_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.tsv"
    path.write_text("before")
    with pytest.raises(DataError, match="does not fit into TSV"):
        write_manifest(path, [Utterance(tmp_path / "a", text, 1.0)])
    assert path.read_text() == "before"


def test_an_unknown_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.tsv or \.jsonl"):
        write_manifest(tmp_path / "m.csv", [])


def test_manifests_are_found(tmp_path: Path) -> None:
    for name in ("train.tsv", "dev.jsonl", ".hidden.tsv", "notes.txt"):
        (tmp_path / name).touch()
    assert find_manifests(tmp_path) == [tmp_path / "dev.jsonl", tmp_path / "train.tsv"]
    assert find_manifests(tmp_path / "train.tsv") == [tmp_path / "train.tsv"]
    (tmp_path / "manifest.tsv").touch()
    assert find_manifests(tmp_path) == [tmp_path / "manifest.tsv"]


def test_no_manifest_or_two_of_a_split_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no manifest"):
        find_manifests(tmp_path)
    with pytest.raises(DataError, match="holds no manifest"):
        find_manifests(tmp_path / "missing")
    for name in ("train.tsv", "train.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="same name"):
        find_manifests(tmp_path)


def test_a_split_in_the_row_wins_over_the_name_of_the_file(tmp_path: Path) -> None:
    text = "audio\tduration\ttext\tsplit\na\t1\tx\ttest\nb\t1\ty\t\n"
    utterances = read_manifest(_file(tmp_path, text, "train.tsv")).utterances
    assert [u.split for u in utterances] == ["test", "train"]
    utterances = read_manifest(_file(tmp_path, text)).utterances
    assert [u.split for u in utterances] == ["test", None]


def test_a_language_is_kept_by_its_published_code_or_else_as_it_stands(tmp_path: Path) -> None:
    """Some model may know what the published ones do not; which, a manifest cannot tell."""
    codes = {"de": "deu_Latn", "ger": "deu_Latn", "qaa_Latn": "qaa_Latn", "zh": "zh", "": None}
    rows = "".join(f"a\t1\thello\t{code}\n" for code in codes)
    content = read_manifest(_file(tmp_path, HEADER + rows))
    assert [u.lang for u in content.utterances] == list(codes.values())
