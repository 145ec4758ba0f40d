"""Word times in manifests, and what streaming training reads of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wavellama.data.manifest import read_manifest, write_manifest
from wavellama.data.utterance import Utterance
from wavellama.data.words import AlignedWord, merged_texts, word_durations

WORDS = (
    AlignedWord("say", 0.25, 0.5, 0.875),
    AlignedWord('"no",', 0.5, 0.5625),
    AlignedWord("你", 0.75, 1.5),
)


@pytest.mark.parametrize("name", ["manifest.tsv", "manifest.jsonl"])
def test_words_are_written_and_read_back(tmp_path: Path, name: str) -> None:
    utterances = [
        Utterance(tmp_path / "a", 'say "no",你', 1.5, "eng_Latn", words=WORDS),
        Utterance(tmp_path / "b", "no times", 2.0, "eng_Latn"),
    ]
    write_manifest(tmp_path / name, utterances)
    content = read_manifest(tmp_path / name)
    assert content.broken == []
    assert content.utterances == utterances


def test_json_lines_hold_words_as_mappings(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(path, [Utterance(tmp_path / "a", "say", 1.0, words=WORDS[:1])])
    row = json.loads(path.read_text("utf-8"))
    assert row["words"] == [{"text": "say", "start": 0.25, "end": 0.5, "score": 0.875}]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"text": "a"}, "has words that are not a list"),
        ([1], "has the word 1, which is not a mapping"),
        ([{"start": 0, "end": 1}], "not a mapping with a `text`"),
        ([{"text": "a", "start": 0}], "whose `start` and `end` are not seconds"),
        ([{"text": "a", "start": "0", "end": 1}], "whose `start` and `end` are not seconds"),
        ([{"text": "a", "start": True, "end": 1}], "whose `start` and `end` are not seconds"),
        ([{"text": "a", "start": 0, "end": float("nan")}], "are not seconds"),
        ([{"text": "a", "start": 0, "end": 1, "score": "x"}], "whose `score` is not a number"),
        ([{"text": "a", "start": -0.1, "end": 1}], "from -0.1 to 1 s"),
        ([{"text": "a", "start": 0.5, "end": 0.4}], "from 0.5 to 0.4 s"),
        (
            [{"text": "a", "start": 0, "end": 0.5}, {"text": "b", "start": 0.4, "end": 1}],
            "has the word 'b' from 0.4 to 1 s, but the word before it ends at 0.5 s",
        ),
        (
            [{"text": "a", "start": 0, "end": 1}, {"text": "b", "start": 1, "end": 1.3}],
            "has words until 1.3 s, but lasts 1.1 s",
        ),
        ([{"text": "b", "start": 0, "end": 1}], "has the word 'b' where its text goes on with 'a"),
        ([{"text": "a", "start": 0, "end": 1}], "has no times for the end of its text: 'b'"),
        ([], "has no times for the end of its text: 'a b'"),
    ],
)
def test_broken_words_make_a_broken_row(tmp_path: Path, words: object, reason: str) -> None:
    good = {"audio": "a", "duration": 1, "text": "x"}
    bad = {"audio": "a", "duration": 1.1, "text": "a b", "words": words}
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (good, bad, good)))
    content = read_manifest(path)
    assert len(content.utterances) == 2
    (broken,) = content.broken
    assert broken.line == 2
    assert reason in broken.reason


def test_words_of_tsv_are_json(tmp_path: Path) -> None:
    path = tmp_path / "m.tsv"
    path.write_text("audio\tduration\ttext\twords\na\t1\tx\t\nb\t1\ty\t{\nc\t1\tz\t[]\n")
    content = read_manifest(path)
    assert [utterance.words for utterance in content.utterances] == [None]
    assert [row.line for row in content.broken] == [3, 4]
    assert "has words that are not JSON" in content.broken[0].reason


def test_a_word_may_end_as_late_as_the_audio_may(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    words = [{"text": "x", "start": 0, "end": 1.09}]
    path.write_text(json.dumps({"audio": "a", "duration": 1, "text": "x", "words": words}))
    assert read_manifest(path).utterances[0].words == (AlignedWord("x", 0.0, 1.09),)


def test_merged_texts_keep_the_spaces_of_the_text() -> None:
    assert merged_texts('say \n "no",你', WORDS) == ["say", ' "no",', "你"]
    assert merged_texts(" a ", [AlignedWord("a", 0, 1)]) == ["a"]


def test_durations_add_up_to_the_ends_of_the_words() -> None:
    assert word_durations(WORDS) == [0.5, 0.0625, 0.9375]
    assert word_durations([]) == []
