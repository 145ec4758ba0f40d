"""Error rates: counts, corpus rates, intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavellama.metrics.error_rates import Edits, count_edits, macro_score, score

WORDS = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=6).map(" ".join)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("the cat", "the cat", (0, 7, 0, 2)),
        ("the cat", "the cut", (1, 7, 1, 2)),
        ("the cat", "", (7, 7, 2, 2)),
        ("", "a cat", (5, 0, 2, 0)),
        ("", "", (0, 0, 0, 0)),
    ],
)
def test_count_edits(reference: str, hypothesis: str, expected: tuple[int, ...]) -> None:
    edits = count_edits(reference, hypothesis)
    counted = (edits.char_edits, edits.num_chars, edits.word_edits, edits.num_words)
    assert counted == expected


@given(reference=WORDS, hypothesis=WORDS)
def test_word_edits_equal_a_plain_edit_distance(reference: str, hypothesis: str) -> None:
    edits = count_edits(reference, hypothesis)
    assert edits.word_edits == distance(reference.split(), hypothesis.split())
    assert edits.char_edits == distance(list(reference), list(hypothesis))


def distance(a: list[str], b: list[str]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def test_a_corpus_rate_weighs_utterances_by_length() -> None:
    scores = score([Edits(1, 10, 1, 2), Edits(0, 90, 0, 18)])
    assert scores["cer"] == pytest.approx(0.01)
    assert scores["wer"] == pytest.approx(0.05)
    assert scores["num_utterances"] == 2


def test_rates_below_one_percent_are_reported() -> None:
    assert score([Edits(1, 1000, 1, 200)])["cer"] == pytest.approx(0.001)


def test_an_interval_covers_its_rate_and_narrows_with_more_data() -> None:
    few = score([Edits(1, 10, 1, 2), Edits(5, 10, 2, 2)] * 5)
    many = score([Edits(1, 10, 1, 2), Edits(5, 10, 2, 2)] * 200)
    for scores in (few, many):
        assert scores["cer_ci95"][0] <= scores["cer"] <= scores["cer_ci95"][1]
    assert width(many["cer_ci95"]) < width(few["cer_ci95"]) / 3


def width(interval: list[float]) -> float:
    return interval[1] - interval[0]


def test_macro_counts_every_language_the_same() -> None:
    languages = [[Edits(5, 10, 1, 2)], [Edits(0, 10, 0, 2)] * 99]
    scores = macro_score(languages)
    assert scores["cer"] == pytest.approx(0.25)
    assert scores["num_utterances"] == 100
    assert scores["cer_ci95"] == pytest.approx([0.25, 0.25])
