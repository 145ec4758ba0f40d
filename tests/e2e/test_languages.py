"""``wavellama languages``."""

from __future__ import annotations

import pytest

from tests.e2e.runs import last_line, run_cli


def test_all_languages_are_listed() -> None:
    result = run_cli("languages")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 1693
    assert lines[0].split() == ["aae_Latn", "Arbëreshë", "Albanian", "Latin", "(Latn)", "supported"]
    assert len({line.index("supported") for line in lines if "not supported" not in line}) == 1


@pytest.mark.parametrize(
    ("pattern", "codes"),
    [
        ("deu_l", ["deu_Latn"]),
        ("GERMAN", ["deu_Latn"]),
        ("voro", ["vro_Latn"]),
        ("tifinagh", ["thv_Tfng", "ttq_Tfng", "zgh_Tfng"]),
        ("jpan", ["jpn_Jpan"]),
    ],
)
def test_a_pattern_is_looked_for_in_code_name_and_script(pattern: str, codes: list[str]) -> None:
    result = run_cli("languages", pattern)
    assert result.returncode == 0
    found = [line.split()[0] for line in result.stdout.splitlines()]
    assert found == codes


def test_the_published_flag_is_shown() -> None:
    (line,) = run_cli("languages", "zgh_").stdout.splitlines()
    assert line.endswith("Tifinagh (Tfng)  not supported")


def test_no_match_suggests_near_ones() -> None:
    result = run_cli("languages", "germann")
    assert result.returncode == 1
    assert result.stdout == ""
    message = last_line(result)
    assert message.startswith("error: no language has 'germann' in its code, name or script.")
    assert "deu_Latn (German)" in message
