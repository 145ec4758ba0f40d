"""The repetition guard."""

from __future__ import annotations

import zlib

import pytest

from wavellama.search.stopping import RepetitionGuard

GUARD = RepetitionGuard(window=100, threshold=4.0)


@pytest.mark.parametrize(
    ("prefix", "period"),
    [
        ([], [7]),
        ([], [7, 8]),
        ([1, 2, 3], [7]),
        ([1, 2, 3], [7, 8, 9]),
        ([3, 4], [5, 6, 7, 8, 9, 10, 11]),
        ([5, 5, 4], [5]),
    ],
    ids=str,
)
def test_a_loop_is_cut_to_one_copy_of_its_period(prefix: list[int], period: list[int]) -> None:
    tokens = (prefix + period * 100)[:100]
    assert GUARD.cut(tokens) == len(prefix) + len(period)


def test_the_smallest_period_counts() -> None:
    assert GUARD.cut([7, 8] * 50) == 2
    assert GUARD.cut([7, 7] * 50) == 1
    assert GUARD.cut([7, 8, 7, 8] * 25) == 2


def test_a_loop_may_end_in_the_middle_of_a_copy() -> None:
    assert GUARD.cut([1, *[7, 8, 9] * 40, 7]) == 4
    assert GUARD.cut([1, *[7, 8, 9] * 40, 7, 8]) == 4


def test_a_loop_longer_than_the_window_is_cut_where_it_began() -> None:
    assert GUARD.cut([1, 2, *[7, 8] * 200]) == 4


def test_a_repetition_before_the_window_is_kept() -> None:
    """The loop at the end is what is cut: neither a run nor a phrase said twice long before it."""
    text = [(i * i * 31 + 7 * i) % 800 + 10 for i in range(150)]
    for old in ([7] * 50, text[:25] * 2, [3, 4] * 60):
        prefix = [*old, *text[25:125]]
        assert GUARD.cut([*prefix, *[901, 902, 903] * 23]) == len(prefix) + 3


def test_a_copy_that_began_before_the_window_counts() -> None:
    """The window holds two copies of the period, less the first token, and a stray one."""
    period = list(range(10, 35))
    guard = RepetitionGuard(window=50, threshold=1.2)
    assert guard.cut([5, 6, *period * 2, 9]) == 2 + len(period)


@pytest.mark.parametrize("length", [0, 1, 99])
def test_below_the_window_nothing_is_cut(length: int) -> None:
    assert GUARD.cut([7] * length) is None
    assert GUARD.cut([7] * 100) == 1


def test_text_is_left_alone() -> None:
    assert GUARD.cut([(i * i * 31 + 7 * i) % 997 for i in range(300)]) is None


def test_only_the_last_window_counts() -> None:
    tokens = [7] * 300 + [(i * i * 31 + 7 * i) % 997 for i in range(100)]
    assert GUARD.cut(tokens) is None


def test_the_ratio_must_exceed_the_threshold() -> None:
    """100 times "7" is 199 characters; zlib makes 12 or so of them."""
    tokens = [7] * 100
    assert RepetitionGuard(100, 10.0).cut(tokens) == 1
    assert RepetitionGuard(100, 30.0).cut(tokens) is None


def test_ids_are_written_as_decimals_with_spaces_between() -> None:
    """The ratio of the specification, computed by hand."""
    tokens = [1000 + i % 9 for i in range(100)]
    written = " ".join(str(token) for token in tokens).encode()
    ratio = len(written) / len(zlib.compress(written))
    assert RepetitionGuard(100, ratio).cut(tokens) is None
    assert RepetitionGuard(100, ratio - 0.01).cut(tokens) == 9


def test_a_jumble_without_a_period_is_kept_whole() -> None:
    jumble = [7] * 45 + [8] * 10 + [7] * 45
    assert RepetitionGuard(100, 2.0).cut(jumble) == 100
