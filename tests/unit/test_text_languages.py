"""The table of languages, and what its lookups understand."""

from __future__ import annotations

import csv
import hashlib
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from wavellama.errors import UnknownLanguageError
from wavellama.text.languages import LanguageTable, fold, language_table, languages

ROOT = Path(__file__).parents[2]

PUBLISHED_SHA256 = "f074c3d44de009f18ac30526295b3a117d73976e59db2457872f7fb09df3e40f"
"""Of the columns table_index, code and listed_as_supported, with their heading, as published."""


def _lines() -> list[dict[str, str]]:
    with (files("wavellama.assets") / "languages.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


# The packaged table


def test_the_published_columns_are_as_published() -> None:
    columns = ("table_index", "code", "listed_as_supported")
    lines = ["\t".join(columns), *("\t".join(line[c] for c in columns) for line in _lines())]
    text = "".join(f"{line}\n" for line in lines)
    assert hashlib.sha256(text.encode()).hexdigest() == PUBLISHED_SHA256


def test_the_published_table_has_1693_codes() -> None:
    table = language_table()
    assert len(table) == len(list(table)) == len(languages()) == 1693
    assert sorted(table.values()) == list(range(1, 1694))


def test_the_row_of_a_code_is_its_index_plus_one() -> None:
    table = language_table()
    assert {line["code"]: int(line["table_index"]) + 1 for line in _lines()} == dict(table)
    assert table["aae_Latn"] == 1


def test_every_language_has_a_name_and_a_script() -> None:
    for language in languages().values():
        assert re.fullmatch(r"[a-z]{3}_[A-Z][a-z]{3}(_[a-z0-9]+)?", language.code)
        assert language.script == language.code.split("_")[1]
        assert language.name
        assert language.name == language.name.strip()
        assert re.fullmatch(r"[A-Z][A-Za-z ,()]+", language.script_name)
        assert re.fullmatch(r"([a-z]{2})?", language.two_letter)
        assert all(re.fullmatch(r"[a-z]{2,3}", code) for code in language.macrolanguage_codes)


@pytest.mark.parametrize(
    ("code", "name", "script", "two_letter", "macrolanguage", "supported"),
    [
        ("deu_Latn", "German", "Latin", "de", (), True),
        ("ekk_Latn", "Standard Estonian", "Latin", "", ("est", "et"), True),
        ("ell_Grek_cypr1249", "Modern Greek (1453-)", "Greek", "el", (), True),
        ("jpn_Jpan", "Japanese", "Japanese (Han, Hiragana, Katakana)", "ja", (), True),
        ("roh_Latn_lowe1386", "Romansh", "Latin", "rm", (), False),
        ("zgh_Tfng", "Standard Moroccan Tamazight", "Tifinagh", "", (), False),
    ],
)
def test_what_is_known_of_a_language(
    code: str,
    name: str,
    script: str,
    two_letter: str,
    macrolanguage: tuple[str, ...],
    supported: bool,
) -> None:
    language = languages()[code]
    assert (language.name, language.script_name) == (name, script)
    assert (language.two_letter, language.macrolanguage_codes) == (two_letter, macrolanguage)
    assert language.supported is supported


def test_21_languages_are_not_listed_as_supported() -> None:
    assert sum(not language.supported for language in languages().values()) == 21


def test_the_table_is_what_its_script_builds(tmp_path: Path) -> None:
    pytest.importorskip("iso639", reason="tools/languages.py needs python-iso639")
    out = tmp_path / "languages.tsv"
    script = ROOT / "tools" / "languages.py"
    subprocess.run([sys.executable, str(script), str(out)], check=True, cwd=tmp_path)
    assert out.read_bytes() == (ROOT / "assets" / "languages.tsv").read_bytes()


# Lookups


@pytest.mark.parametrize("code", ["eng_Latn", "ENG_LATN", "eng_latn", "Eng_lATN"])
def test_lookups_ignore_case(code: str) -> None:
    assert language_table()[code] == language_table()["eng_Latn"]
    assert language_table().row(code) == language_table()["eng_Latn"]
    assert code in language_table()


def test_no_language_is_row_0() -> None:
    assert language_table().row(None) == 0
    assert min(language_table().values()) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("de", "deu_Latn"),
        ("DE", "deu_Latn"),
        ("deu", "deu_Latn"),
        ("de-DE", "deu_Latn"),
        ("de_AT", "deu_Latn"),
        ("es-419", "spa_Latn"),
        ("en_Latn", "eng_Latn"),
        ("eng-Latn", "eng_Latn"),
        ("en-Latn-GB", "eng_Latn"),
        ("sr", "srp_Cyrl"),
        ("tuk-Arab", "tuk_Arab"),
        ("cmn_hant", "cmn_Hant"),
        ("sw", "swh_Latn"),  # the only one of the macrolanguage
        ("swa", "swh_Latn"),
        ("lv", "lav_Latn"),  # not Latgalian, whose macrolanguage it is
        ("el", "ell_Grek"),  # not the variety of Cyprus
        ("ell-cypr1249", "ell_Grek_cypr1249"),
        ("roh_surs1244", "roh_Latn_surs1244"),
    ],
)
def test_short_codes_and_locales_are_understood(text: str, code: str) -> None:
    assert language_table().resolve(text) == code
    assert language_table().row(text) == language_table()[code] == language_table().get(text)
    assert text in language_table()


def test_every_code_resolves_to_itself() -> None:
    table = language_table()
    assert [table.resolve(code.upper()) for code in table] == list(table)


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("tk", ["tuk_Arab", "tuk_Latn"]),
        ("no-NO", ["nno_Latn", "nob_Latn"]),
        ("et", ["ekk_Latn", "vro_Latn"]),
        ("yue", ["yue_Hans", "yue_Hant"]),
        ("rm", ["roh_Latn_lowe1386", "roh_Latn_surs1244"]),
    ],
)
def test_what_can_mean_several_languages_is_not_guessed(text: str, codes: list[str]) -> None:
    assert text not in language_table()
    assert language_table().get(text, 7) == 7
    with pytest.raises(UnknownLanguageError, match=f"^'{text}' is the code of .*: say") as caught:
        language_table().row(text)
    assert caught.value.near == codes
    for code in codes:
        assert languages()[code].label in str(caught.value)


@pytest.mark.parametrize(
    "code", ["eng_Latin", "eng_Lat", "en_Cyrl", "english", "", " ", "-", "xx", "ell_Grek_crete"]
)
def test_an_unknown_code_raises(code: str) -> None:
    assert code not in language_table()
    with pytest.raises(UnknownLanguageError, match="is not a known language code") as caught:
        language_table().row(code)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("eng_Latin", "eng_Latn"),
        ("german", "deu_Latn"),
        ("German", "deu_Latn"),
        ("germann", "deu_Latn"),
        ("nepali", "nep_Deva"),
        ("arbereshe albanian", "aae_Latn"),
        ("Greek", "ell_Grek"),
        ("mandarin", "cmn_Hans"),
    ],
)
def test_an_unknown_code_suggests_by_code_and_by_name(text: str, code: str) -> None:
    with pytest.raises(UnknownLanguageError) as caught:
        language_table().row(text)
    assert caught.value.near[0] == code
    assert f"Did you mean {languages()[code].label}" in str(caught.value)


def test_a_name_suggests_no_other_name() -> None:
    with pytest.raises(
        UnknownLanguageError, match=r"Did you mean eng_Latn \(English\)\?"
    ) as caught:
        language_table().row("english")
    assert caught.value.near == ["eng_Latn"]


def test_what_is_not_a_string_is_in_no_table() -> None:
    things: list[Any] = [None, 1, b"eng_Latn"]
    for thing in things:
        assert thing not in language_table()


def test_no_two_codes_differ_in_case_alone() -> None:
    assert len({code.lower() for code in language_table()}) == len(language_table())


# Tables of other models


def test_get_has_a_default() -> None:
    table = LanguageTable({"eng_Latn": 1})
    assert table.get("eng_latn", 0) == 1
    assert table.get("xxx_Xxxx", 0) == 0


def test_a_model_understands_its_own_languages_only() -> None:
    table = LanguageTable({"cmn_Hans": 1, "tuk_Latn": 2, "de": 3, "x-Elvish": 4})
    assert table.resolve("zh-CN") == "cmn_Hans"
    assert table.row("tk") == 2
    assert table.row("DE") == 3
    assert table.row("X-elvish") == 4
    for text in ("tuk_Arab", "en", "german", "yue"):
        assert text not in table
    with pytest.raises(UnknownLanguageError) as caught:
        table.row("mandarin chinese")
    assert caught.value.near == ["cmn_Hans"]
    with pytest.raises(UnknownLanguageError, match=r"'x-elvis' .* Did you mean x-Elvish\?"):
        table.row("x-elvis")


def test_folding_drops_case_and_accents() -> None:
    assert fold(" Arbëreshë Albanian ") == "arbereshe albanian"
    assert fold("Võro") == "voro"
