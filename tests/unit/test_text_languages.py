"""The packaged table of languages, and the tables of models."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from wavellama.errors import ConfigError, UnknownLanguageError
from wavellama.text.languages import (
    LanguageTable,
    check_code,
    is_code,
    language_table,
    languages,
    read_codes,
)

TABLE = Path(__file__).parents[2] / "assets" / "languages.tsv"

PUBLISHED = 1693
"""How many languages the published models know; those of the table behind them are ours."""

PUBLISHED_SHA256 = "f074c3d44de009f18ac30526295b3a117d73976e59db2457872f7fb09df3e40f"
"""Of the columns table_index, code and listed_as_supported, with their heading, as published."""


def _lines() -> list[list[str]]:
    return [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines()]


# The packaged table


def test_the_published_columns_are_as_published() -> None:
    lines = ["\t".join(cells[:3]) for cells in _lines()[: PUBLISHED + 1]]
    text = "".join(f"{line}\n" for line in lines)
    assert hashlib.sha256(text.encode()).hexdigest() == PUBLISHED_SHA256


def test_the_table_has_a_row_for_each_index() -> None:
    heading, *rows = _lines()
    assert heading == ["table_index", "code", "listed_as_supported", "name"]
    assert [int(index) for index, *_ in rows] == list(range(len(rows)))
    assert len(languages()) == len(rows) >= PUBLISHED


def test_the_row_of_a_code_is_its_index_plus_one() -> None:
    table = language_table()
    assert {code: int(index) + 1 for index, code, *_ in _lines()[1:]} == dict(table)
    assert table["aae_Latn"] == 1


def test_every_language_has_a_name_and_a_script() -> None:
    for language in languages().values():
        assert is_code(language.code)
        assert re.fullmatch(r"[a-z]{3}_[A-Z][a-z]{3}(_[a-z0-9]+)?", language.code)
        assert language.script == language.code.split("_")[1]
        assert language.name
        assert language.name == language.name.strip()


def test_no_two_codes_differ_in_case_alone() -> None:
    assert len({code.lower() for code in language_table()}) == len(language_table())


# Tables


@pytest.mark.parametrize("code", ["eng_Latn", "ENG_LATN", "eng-latn", "Eng_lATN", " eng_Latn\n"])
def test_lookups_ignore_case_separators_and_blanks(code: str) -> None:
    assert language_table()[code] == language_table()["eng_Latn"]
    assert language_table().row(code) == language_table()["eng_Latn"]
    assert code in language_table()


def test_no_language_is_row_0() -> None:
    assert language_table().row(None) == 0
    assert min(language_table().values()) == 1


def test_every_code_resolves_to_itself() -> None:
    table = language_table()
    assert [table.resolve(code.upper()) for code in table] == list(table)


def test_what_is_not_a_string_is_in_no_table() -> None:
    things: list[Any] = [None, 1, b"eng_Latn"]
    for thing in things:
        assert thing not in language_table()


def test_get_has_a_default() -> None:
    table = LanguageTable({"eng_Latn": 1})
    assert table.get("eng_latn", 0) == 1
    assert table.get("xxx_Xxxx", 0) == 0


def test_a_model_understands_its_own_languages_only() -> None:
    table = LanguageTable({"cmn_Hans": 1, "tuk_Latn": 2, "de": 3, "x-Elvish": 4})
    assert table.resolve("zh-CN") == "cmn_Hans"
    assert table.row("tk") == 2
    assert table.row("DE") == table.row("deu_Latn") == table.row("ger") == 3
    assert table.row("X-elvish") == 4
    for text in ("tuk_Arab", "en", "german", "yue"):
        assert text not in table
    with pytest.raises(UnknownLanguageError) as caught:
        table.row("mandarin chinese")
    assert caught.value.near == ["cmn_Hans"]
    with pytest.raises(UnknownLanguageError, match=r"'x-elvis' .* Did you mean x-Elvish\?"):
        table.row("x-elvis")


def test_rows_follow_the_codes() -> None:
    table = LanguageTable.of(["ita_Latn", "qaa_Latn", "en"])
    assert dict(table) == {"ita_Latn": 1, "qaa_Latn": 2, "en": 3}


# Forms of codes


@pytest.mark.parametrize(
    "code",
    ["de", "deu", "deu_Latn", "roh_Latn_surs1244", "pt-BR", "es-419", "x-elvish", "qaa_Zzzz"],
)
def test_a_code_is_known_by_its_form(code: str) -> None:
    assert is_code(code)
    check_code(code)


@pytest.mark.parametrize(
    "text", ["english", "", "-", "eng_Lat", "eng_Latin", "1", "0\tdeu_Latn", "d", "x"]
)
def test_what_has_not_the_form_is_no_code(text: str) -> None:
    assert not is_code(text)
    with pytest.raises(UnknownLanguageError):
        check_code(text)


def test_what_the_table_understands_is_a_code() -> None:
    check_code(None)
    check_code("de_DE.UTF-8")


# Files of codes


def test_a_file_has_a_code_in_each_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("\ufeff# ours\nita_Latn  Italian\r\n\nqaa_Latn\tElvish\nen", encoding="utf-8")
    assert read_codes(file) == ["ita_Latn", "qaa_Latn", "en"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin1.txt").write_bytes(b"\xe4")
    for name in ("missing.txt", "latin1.txt", "."):
        with pytest.raises(ConfigError, match=re.escape(f"The languages of {tmp_path / name}")):
            read_codes(tmp_path / name)
