"""Scripts."""

from __future__ import annotations

import pytest
import regex

from wavellama.errors import ConfigError
from wavellama.text.languages import languages
from wavellama.text.scripts import (
    check_script,
    is_word_by_itself,
    is_written_in,
    script_names,
)

SAMPLES = {
    "Arab": "اَللُّغَةُ الۡعَرَبِيَّة",
    "Armn": "հայերէն",
    "Beng": "বাংলা",  # codespell:ignore beng
    "Cans": "ᐃᓄᒃᑎᑐᑦ",
    "Cyrl": "українська",
    "Deva": "हिन्दी",
    "Ethi": "አማርኛ",
    "Geor": "ქართული",
    "Grek": "ελληνικά",
    "Gujr": "ગુજરાતી",
    "Guru": "ਪੰਜਾਬੀ",
    "Hang": "한국어",
    "Hans": "汉语",
    "Hant": "漢語",
    "Hebr": "עִבְרִית",
    "Jpan": "日本語のサーバー",
    "Kali": "ꤊꤢꤛꤢ꤭",
    "Khmr": "ភាសាខ្មែរ",
    "Knda": "ಕನ್ನಡ",
    "Laoo": "ພາສາລາວ",
    "Latn": "tiếng Việt, ọ̀",
    "Lisu": "ꓡꓲ-ꓢꓴ",
    "Mlym": "മലയാളം",
    "Mymr": "မြန်မာ",
    "Olck": "ᱥᱟᱱᱛᱟᱲᱤ",
    "Orya": "ଓଡ଼ିଆ",
    "Sinh": "සිංහල",
    "Taml": "தமிழ்",
    "Telu": "తెలుగు",
    "Tfng": "ⵜⴰⵎⴰⵣⵉⵖⵜ",
    "Thaa": "ދިވެހި",
    "Thai": "ภาษาไทย",
    "Tibt": "བོད་སྐད་",
}
"""A text in each script of the table of languages."""


def test_there_is_a_sample_of_every_script() -> None:
    assert set(SAMPLES) == {language.script for language in languages().values()}


@pytest.mark.parametrize("script", SAMPLES)
def test_a_text_is_written_in_its_own_script_alone(script: str) -> None:
    text = SAMPLES[script]
    fitting = {other for other in SAMPLES if is_written_in(text, other)}
    han = {"Hans", "Hant", "Jpan"}
    assert fitting == (han if script in {"Hans", "Hant"} else {script})


@pytest.mark.parametrize("script", [*SAMPLES, "Kore", "Hani", "Hira", "Kana"])
def test_every_script_takes_what_belongs_to_none(script: str) -> None:
    assert is_written_in("", script)
    assert is_written_in(" 12,5 % (¿…?) – «€» ", script)


@pytest.mark.parametrize("script", sorted(script_names()))
def test_every_script_has_letters_and_refuses_some(script: str) -> None:
    texts = [*SAMPLES.values(), "ひ", "カ"]
    assert any(is_written_in(text, script) for text in texts)
    assert not is_written_in("a" if script != "Latn" else "ж", script)


@pytest.mark.parametrize(
    ("text", "script", "expected"),
    [
        ("e\u0301", "Latn", True),  # a mark of several scripts
        ("и\u0306", "Cyrl", True),
        ("a\u064b", "Latn", False),  # a mark of Arabic
        ("Pаris", "Latn", False),  # its second letter is Cyrillic
        ("l\u02bcété", "Latn", True),  # an apostrophe that counts as a letter
        ("サーバー", "Kana", True),
        ("ー", "Hani", False),
        ("漢字かな", "Hani", False),
        ("한漢", "Kore", True),
        ("한漢", "Hang", False),
    ],
)
def test_letters_belong_to_the_scripts_that_they_are_used_with(
    text: str, script: str, expected: bool
) -> None:
    assert is_written_in(text, script) is expected


@pytest.mark.parametrize("code", ["Latn", "latn", "LATN", "jpan", "Kore", "hani"])
def test_codes_are_known_in_any_case(code: str) -> None:
    check_script(code)
    assert is_written_in("1", code)


@pytest.mark.parametrize(
    ("code", "near"),
    [
        ("Lat", "Latn (Latin)"),
        ("latin", "Latn (Latin)"),
        ("Cyrillic", "Cyrl (Cyrillic)"),
        ("hangul", "Hang (Hangul)"),
    ],
)
def test_an_unknown_script_is_an_error_with_near_ones(code: str, near: str) -> None:
    for check in (check_script, lambda code: is_written_in("a", code)):
        with pytest.raises(ConfigError, match=regex.escape(near)) as error:
            check(code)
        assert repr(code) in str(error.value)


@pytest.mark.parametrize("code", ["", "xyzw", "en", "Zyyy", "eng_Latn"])
def test_what_is_no_script_is_an_error(code: str) -> None:
    with pytest.raises(ConfigError, match="is not a known script"):
        check_script(code)


def test_characters_that_are_words_by_themselves() -> None:
    assert all(map(is_word_by_itself, "漢かカーขกັក"))
    assert not any(map(is_word_by_itself, "aж한བ་1。、 ा\u0301µ"))
