"""What language tags mean."""

from __future__ import annotations

import pytest

from wavellama.text.languages import languages
from wavellama.text.tags import (
    find_by_name,
    language_name,
    macrolanguage,
    parse_tag,
    represented,
    script_name,
    speakers,
    two_letter_code,
)


@pytest.mark.parametrize(
    ("code", "script", "two_letter", "macro"),
    [
        ("deu_Latn", "Latin", "de", None),
        ("ekk_Latn", "Latin", "", "est"),
        ("ell_Grek_cypr1249", "Greek", "el", None),
        ("heb_Hebr", "Hebrew", "he", None),
        ("jpn_Jpan", "Japanese (Han, Hiragana, Katakana)", "ja", None),
        ("cmn_Hant", "Han (traditional)", "", "zho"),
        ("ory_Orya", "Oriya", "", "ori"),
        ("tgl_Latn", "Latin", "tl", None),
        ("zgh_Tfng", "Tifinagh", "", None),
    ],
)
def test_what_is_known_of_a_language(
    code: str, script: str, two_letter: str, macro: str | None
) -> None:
    language = code.split("_")[0]
    assert script_name(languages()[code].script) == script
    assert (two_letter_code(language), macrolanguage(language)) == (two_letter, macro)


def test_every_published_code_is_a_tag_of_its_language_and_script() -> None:
    for code, row in languages().items():
        tag = parse_tag(code)
        assert tag is not None
        assert (tag.language, tag.script) == (code.split("_")[0], row.script)


def test_a_tag_is_taken_apart() -> None:
    tag = parse_tag("ZH_tw")
    assert tag is not None
    assert (tag.language, tag.meant, tag.script, tag.likely_script) == ("zho", "zho", None, "Hant")
    old = parse_tag("tl-Latn-1999")
    assert old is not None
    assert (old.language, old.meant, old.script) == ("tgl", "fil", "Latn")
    assert old.varieties == {"1999"}
    assert parse_tag("zh-yue") == parse_tag("yue")


@pytest.mark.parametrize("text", ["", "english", "zh-deu", "e", "de-", "日本", "de-Latn-Latn"])
def test_what_is_no_tag(text: str) -> None:
    assert parse_tag(text) is None


def test_predominant_languages_stand_for_macrolanguages() -> None:
    assert [represented(code) for code in ("cmn", "yue", "arb", "deu")] == [
        *("zho", "yue", "ara", "deu")
    ]


def test_speakers_are_those_of_the_macrolanguage_for_its_predominant_language() -> None:
    assert speakers("cmn", "Hans") > speakers("cmn", "Hant") > speakers("yue", "Hans")
    assert speakers("arb", "Arab") > speakers("arz", "Arab") > speakers("vro", "Latn")


def test_names() -> None:
    assert language_name("ydd") == "Eastern Yiddish"
    assert language_name("qaa") == ""
    assert find_by_name("no such language, ever") is None
