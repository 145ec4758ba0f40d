"""Where lines may end, and how wide they are."""

from __future__ import annotations

import pytest

from wavellama.transcript.pieces import (
    clean_text,
    count_columns,
    spell_words,
    spread_pieces,
    timed_pieces,
)
from wavellama.transcript.types import Segment, Word

FAMILY = "👩\u200d👩\u200d👧"


def segment(text: str, *words: str) -> Segment:
    timed = tuple(Word(word, i, i + 1) for i, word in enumerate(words))
    return Segment(text=text, start=0, end=len(text), words=timed)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", 0),
        ("abc d", 5),
        ("你好，", 6),
        ("ｱ", 1),
        ("Ａ", 2),
        ("é", 1),
        ("e\u0301", 1),
        ("\u0301", 0),
        ("\u1112\u1161\u11ab", 2),  # one Korean syllable, written as three letters
        ("한", 2),
        ("น้ำ", 1),
        ("नि", 1),
        (FAMILY, 2),
        ("a\u200fb\u200b", 2),
        ("שָׁלוֹם", 4),
    ],
)
def test_columns(text: str, columns: int) -> None:
    assert count_columns(text) == columns


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (" a b ", "a b"),
        ("a  b", "a  b"),
        ("a \t\n b", "a b"),
        ("a\r\nb\x0bc\x0cd\x1ce\x1ff\x85g\u2028h\u2029i", "a b c d e f g h i"),
        ("\u3000a\u3000b\xa0c\n", "a\u3000b\xa0c"),
    ],
)
def test_clean_text(text: str, clean: str) -> None:
    assert clean_text(text) == clean


@pytest.mark.parametrize(
    ("text", "words", "spelled"),
    [
        ("", [], []),
        ("a", [], []),
        (" ab cd", ["ab", "cd"], [" ab", " cd"]),
        ("你好", ["你", "好"], ["你", "好"]),
        ("“ab, cd” — ef, «gh» ", ["ab", "cd", "ef", "gh"], ["“ab,", " cd” —", " ef,", " «gh» "]),
        ("no no no", ["no", "no", "no"], ["no", " no", " no"]),
        ("好。好", ["好", "好"], ["好。", "好"]),
    ],
)
def test_words_are_spelled_with_what_is_between_them(
    text: str, words: list[str], spelled: list[str]
) -> None:
    assert spell_words(text, words) == spelled


@pytest.mark.parametrize("words", [["ab", "x"], ["cd", "ab"], ["ab", "ab"]])
def test_words_that_are_not_the_text(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"does not stand in 'ab cd'"):
        spell_words("ab cd", words)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("  ab\n cd", ["ab", " cd"]),
        ("don't e\u0301-a", ["don't", " e\u0301-a"]),
        ("你好，“世界”。", ["你", "好，", "“世", "界”。"]),
        ("用iPhone打 电话", ["用", "iPhone", "打", " 电", "话"]),
        ("スーパー", ["ス", "ー", "パ", "ー"]),
        ("か\u3099た", ["か\u3099", "た"]),
        ("เก็บน้ำ", ["เก็", "บ", "น้ำ"]),
        ("ကျောင်း", ["ကျော", "င်း"]),
        ("བོད་སྐད།", ["བོད་", "སྐད།"]),
        ("한국어 말", ["한국어", " 말"]),
        (f"a{FAMILY}b", [f"a{FAMILY}b"]),
        ("سلام دنیا", ["سلام", " دنیا"]),
    ],
)
def test_where_a_text_without_word_times_may_be_broken(text: str, pieces: list[str]) -> None:
    assert [piece.space + piece.text for piece in spread_pieces(segment(text))] == pieces


def test_each_character_has_the_same_share_of_the_time() -> None:
    pieces = spread_pieces(Segment(text="a bbb cc", start=2.0, end=8.0))
    assert [(piece.start, piece.end) for piece in pieces] == [(2, 3), (3, 6), (6, 8)]


@pytest.mark.parametrize(
    ("text", "words", "pieces"),
    [
        ("abe\u0301 f", ["ab", "e", "\u0301", "f"], ["ab", "e\u0301", "f"]),
        ("นา ำ", ["น", "า", "ำ"], ["น", "า", "ำ"]),
        ("ကျောင်း", ["ကျေ", "ာ", "င်", "း"], ["ကျော", "င်း"]),
        (FAMILY, ["👩\u200d", "👩\u200d", "👧"], [FAMILY]),
        ("👍🏽", ["👍", "🏽"], ["👍🏽"]),
        ("🇩🇪🇫🇷", ["🇩", "🇪", "🇫", "🇷"], ["🇩🇪", "🇫🇷"]),
        ("a", ["", "a", ""], ["a"]),
    ],
)
def test_timed_words_are_not_split_within_a_character(
    text: str, words: list[str], pieces: list[str]
) -> None:
    assert [piece.text for piece in timed_pieces(segment(text, *words))] == pieces


def test_a_mark_adds_its_time_to_its_word() -> None:
    first, second = timed_pieces(segment("e\u0301f", "e", "\u0301", "f"))
    assert (first.start, first.end, second.start) == (0, 2, 2)
