"""Words in scripts with and without spaces."""

from __future__ import annotations

import pytest

from wavellama.text.words import needs_space, split_words


def texts(text: str, lang: str | None = None) -> list[str]:
    return [word.text for word in split_words(text, lang)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n\t ", []),
        ("one two", ["one", "two"]),
        (" self-substantial\u2009fuel,  feed'st ", ["self-substantial", "fuel,", "feed'st"]),
        ("это то", ["это", "то"]),
        ("한국어 말", ["한국어", "말"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("你好世界", ["你", "好", "世", "界"]),
        ("“你好，world（再见）！” ok", ["“你", "好，", "world", "（再", "见）！”", "ok"]),
        ("スーパーです。", ["ス", "ー", "パ", "ー", "で", "す。"]),
        ("เก็บน้ำ 2 คน", ["เก็", "บ", "น้ำ", "2", "ค", "น"]),
        ("ເກົ່າ", ["ເກົ່", "າ"]),
        ("ភាសាខ្មែរ", ["ភា", "សា", "ខ្មែ", "រ"]),
        ("ကျောင်းသား။", ["ကျော", "င်း", "သား။"]),
        ("བོད་སྐད་ལ།", ["བོད་", "སྐད་", "ལ།"]),
        ("...", ["..."]),
        ("「", ["「"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert texts(text) == words


def test_which_words_have_a_space_before_them() -> None:
    assert [word.spaced for word in split_words(" ab 你好 c")] == [False, True, False, True]


@pytest.mark.parametrize("lang", ["kor_Hang", "KOR_HANG", "ko-Hang-KR"])
def test_a_script_with_spaces_keeps_foreign_characters_together(lang: str) -> None:
    assert texts("大韓民國은 나라", lang) == ["大韓民國은", "나라"]


@pytest.mark.parametrize(
    "lang", [None, "cmn_Hans", "jpn_Jpan", "CMN_hant", "ja", "jpn", "zh_Hans_CN", "zh-hant-TW"]
)
def test_a_script_without_spaces_does_not(lang: str | None) -> None:
    assert texts("大韓 abc", lang) == ["大", "韓", "abc"]


@pytest.mark.parametrize(
    ("before", "after", "space"),
    [
        ("good", "morning", True),
        ("", "morning", False),
        ("good", "", False),
        ("天気が", "いい", False),
        ("天気が。", "「いい", False),
        ("天気", "weather", True),
        ("weather", "天気", True),
        ("སྐད་", "ཡིག", False),
        ("...", "42", True),
        ("привет,", "мир", True),
    ],
)
def test_a_space_between_texts_unless_both_scripts_have_none(
    before: str, after: str, space: bool
) -> None:
    assert needs_space(before, after) == space
