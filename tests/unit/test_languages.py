"""The table of languages."""

from __future__ import annotations

import csv
from importlib.resources import files
from typing import Any

import pytest

from wavellama.errors import UnknownLanguageError
from wavellama.text.languages import LanguageTable, language_table


def test_the_published_table_has_1693_codes() -> None:
    table = language_table()
    assert len(table) == len(list(table)) == 1693
    assert sorted(table.values()) == list(range(1, 1694))


def test_the_row_of_a_code_is_its_index_plus_one() -> None:
    with (files("wavellama.assets") / "languages.tsv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    table = language_table()
    assert {line["code"]: int(line["table_index"]) + 1 for line in lines} == dict(table)
    assert table["aae_Latn"] == 1


@pytest.mark.parametrize("code", ["eng_Latn", "ENG_LATN", "eng_latn", "Eng_lATN"])
def test_lookups_ignore_case(code: str) -> None:
    assert language_table()[code] == language_table()["eng_Latn"]
    assert language_table().row(code) == language_table()["eng_Latn"]
    assert code in language_table()


def test_no_language_is_row_0() -> None:
    assert language_table().row(None) == 0
    assert min(language_table().values()) == 1


@pytest.mark.parametrize("code", ["eng_Latin", "eng", "en_Latn", "english", "", "eng-Latn"])
def test_an_unknown_code_raises(code: str) -> None:
    assert code not in language_table()
    with pytest.raises(UnknownLanguageError, match="is not a known language code") as caught:
        language_table().row(code)
    assert caught.value.code == code


def test_an_unknown_code_suggests_near_ones_in_their_own_spelling() -> None:
    with pytest.raises(UnknownLanguageError, match="Did you mean eng_Latn") as caught:
        language_table().row("eng_Latin")
    assert caught.value.near[0] == "eng_Latn"


def test_what_is_not_a_string_is_in_no_table() -> None:
    things: list[Any] = [None, 1, b"eng_Latn"]
    for thing in things:
        assert thing not in language_table()


def test_no_two_codes_differ_in_case_alone() -> None:
    assert len({code.lower() for code in language_table()}) == len(language_table())


def test_get_has_a_default() -> None:
    table = LanguageTable({"eng_Latn": 1})
    assert table.get("eng_latn", 0) == 1
    assert table.get("xxx_Xxxx", 0) == 0
