"""Searches, case by case."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import pytest
import torch
from torch import Tensor

from tests.fakes import EOS, LogProbs, TableDecoder, random_table, scripted_row, table_row
from wavellama.errors import DecodingError
from wavellama.search.beam import BeamSearch, Row, SearchOptions
from wavellama.search.greedy import GreedySearch
from wavellama.search.stopping import RepetitionGuard
from wavellama.search.types import Hypothesis

Search: TypeAlias = Callable[..., list[list[Hypothesis]]]


def _beam(beam_size: int) -> Search:
    def run(
        decoder: TableDecoder,
        max_lens: Sequence[int],
        *,
        length_norm: bool = False,
        guard: RepetitionGuard | None = None,
    ) -> list[list[Hypothesis]]:
        options = SearchOptions(beam_size, EOS, length_norm, guard)
        return BeamSearch(options).run(decoder, max_lens)

    return run


def _greedy(
    decoder: TableDecoder,
    max_lens: Sequence[int],
    *,
    length_norm: bool = False,
    guard: RepetitionGuard | None = None,
) -> list[list[Hypothesis]]:
    return GreedySearch(EOS, length_norm, guard).run(decoder, max_lens)


SEARCHES = [
    pytest.param(_greedy, id="greedy"),
    pytest.param(_beam(1), id="beam1"),
    pytest.param(_beam(3), id="beam3"),
]
each_search = pytest.mark.parametrize("search", SEARCHES)


def _tree(probs: dict[tuple[int, ...], dict[int, float]], vocab_size: int = 10) -> LogProbs:
    """Return a row with the given probabilities; what is not given has none."""

    def log_probs(tokens: tuple[int, ...]) -> Tensor:
        row = torch.zeros(vocab_size, dtype=torch.float64)
        for token, p in probs.get(tokens, {EOS: 1.0}).items():
            row[token] = p
        return row.log()

    return log_probs


FORK = _tree({(): {EOS: 0.5, 3: 0.3, 4: 0.2}, (3,): {5: 0.9, EOS: 0.1}, (4,): {5: 1.0}})
"""Empty text 0.5; 3 5 .27; 4 5 .2; 3 .03."""


def _found(hypotheses: list[Hypothesis]) -> list[tuple[list[int], float]]:
    return [(h.tokens, round(math.exp(h.score), 6)) for h in hypotheses]


def test_a_finished_hypothesis_keeps_its_place_and_score() -> None:
    (hypotheses,) = _beam(3)(TableDecoder([FORK]), [5])
    assert _found(hypotheses) == [([], 0.5), ([3, 5], 0.27), ([4, 5], 0.2)]
    assert all(h.finished for h in hypotheses)


def test_a_finished_hypothesis_takes_up_room() -> None:
    """With two places, one is taken after the first step."""
    (hypotheses,) = _beam(2)(TableDecoder([FORK]), [5])
    assert _found(hypotheses) == [([], 0.5), ([3, 5], 0.27)]


def test_a_better_live_hypothesis_overtakes_with_length_norm() -> None:
    (hypotheses,) = _beam(2)(TableDecoder([FORK]), [5], length_norm=True)
    means = [sum(h.token_logprobs) / len(h.token_logprobs) for h in hypotheses]
    assert [h.score for h in hypotheses] == pytest.approx(means)
    assert [h.tokens for h in hypotheses] == [[3, 5], []]


def test_a_beam_finds_what_greedy_search_misses() -> None:
    row = _tree({(): {3: 0.6, 4: 0.4}, (3,): {EOS: 0.3, 5: 0.7}, (3, 5): {EOS: 0.5, 3: 0.5}})
    ((greedy,),) = _greedy(TableDecoder([row]), [9])
    ((best, *_),) = _beam(3)(TableDecoder([row]), [9])
    assert greedy.tokens[:2] == [3, 5]
    assert best.tokens == [4]
    assert math.exp(best.score) == pytest.approx(0.4)


def test_length_norm_ranks_by_the_mean() -> None:
    row = _tree({(): {EOS: 0.4, 3: 0.6}, (3,): {EOS: 0.5, 4: 0.5}, (3, 4): {EOS: 1.0}})
    by_sum, by_mean = (
        _beam(4)(TableDecoder([row]), [9], length_norm=norm)[0] for norm in (False, True)
    )
    assert [h.tokens for h in by_sum] == [[], [3], [3, 4]]
    assert [h.tokens for h in by_mean] == [[3, 4], [3], []]
    assert by_mean[0].score == pytest.approx((math.log(0.6) + math.log(0.5)) / 3)


# Length


@each_search
@pytest.mark.parametrize("max_len", [1, 2, 7])
def test_max_len_ends_a_hypothesis(search: Search, max_len: int) -> None:
    decoder = TableDecoder([scripted_row([5])])
    best = search(decoder, [max_len])[0][0]
    assert (best.tokens, best.stop_reason, best.finished) == ([5] * max_len, "length", False)
    assert len(best.token_logprobs) == max_len
    assert decoder.num_steps == max_len - 1


@each_search
def test_eos_at_the_last_place_is_eos(search: Search) -> None:
    best = search(TableDecoder([scripted_row([5, EOS])]), [2])[0][0]
    assert (best.tokens, best.stop_reason, best.finished) == ([5], "eos", True)


@each_search
def test_each_row_has_its_own_max_len(search: Search) -> None:
    rows = [scripted_row([5])] * 3
    results = search(TableDecoder(rows), [4, 1, 6])
    assert [len(row[0].tokens) for row in results] == [4, 1, 6]


@each_search
def test_rows_finish_at_different_times_and_leave_the_batch(search: Search) -> None:
    rows = [scripted_row([*range(5, 5 + n), EOS], p=0.999_999) for n in (4, 1, 0, 2)]
    decoder = TableDecoder(rows)
    results = search(decoder, [6] * 4)
    assert [row[0].tokens for row in results] == [[5, 6, 7, 8], [5], [], [5, 6]]
    assert decoder.widths[-1] < decoder.widths[0] or search is not _greedy
    if search is _greedy:
        assert decoder.widths == [3, 2, 1, 1]


@each_search
def test_the_decoder_is_not_asked_once_all_rows_are_finished(search: Search) -> None:
    decoder = TableDecoder([_tree({})])
    assert search(decoder, [9])[0][0].tokens == []
    assert decoder.num_steps == 0


# Repetition

LOOP = scripted_row([8, 9, *[5, 6, 7] * 20], p=0.99)
GUARD = RepetitionGuard(window=30, threshold=3.0)


@each_search
@pytest.mark.parametrize("length_norm", [False, True])
def test_a_loop_is_cut_to_one_copy_and_scored_there(search: Search, length_norm: bool) -> None:
    best = search(TableDecoder([LOOP]), [50], guard=GUARD, length_norm=length_norm)[0][0]
    assert best.tokens == [8, 9, 5, 6, 7]
    assert (best.stop_reason, best.finished) == ("repetition", False)
    assert best.token_logprobs == pytest.approx([math.log(0.99)] * 5)
    assert best.score == pytest.approx(math.log(0.99) * (1 if length_norm else 5))


@each_search
def test_the_guard_waits_for_its_window(search: Search) -> None:
    decoder = TableDecoder([LOOP])
    best = search(decoder, [29], guard=GUARD)[0][0]
    assert (best.stop_reason, len(best.tokens)) == ("length", 29)
    best = search(decoder, [30], guard=GUARD)[0][0]
    assert best.stop_reason == "repetition"


@each_search
def test_without_a_guard_a_loop_runs_on(search: Search) -> None:
    best = search(TableDecoder([LOOP]), [50])[0][0]
    assert (best.stop_reason, len(best.tokens)) == ("length", 50)


@each_search
def test_a_high_threshold_lets_a_loop_run_on(search: Search) -> None:
    guard = RepetitionGuard(window=30, threshold=20.0)
    best = search(TableDecoder([LOOP]), [50], guard=guard)[0][0]
    assert (best.stop_reason, len(best.tokens)) == ("length", 50)


@pytest.mark.parametrize("length_norm", [False, True])
def test_hypotheses_are_sorted_after_a_cut(length_norm: bool) -> None:
    """A cut hypothesis is better than it was, so that it overtakes finished ones."""
    start = {8: 0.5, 9: 0.3, EOS: 0.2}
    row = _tree({(): start, (9,): {EOS: 1.0}} | {(8,) * n: {8: 0.9, 3: 0.1} for n in range(1, 40)})
    options = SearchOptions(3, EOS, length_norm, RepetitionGuard(20, 2.0))
    (hypotheses,) = BeamSearch(options).run(TableDecoder([row]), [40])
    scores = [h.score for h in hypotheses]
    assert scores == sorted(scores, reverse=True)
    (cut,) = [h for h in hypotheses if h.tokens == [8]]
    assert (cut.stop_reason, cut.finished) == ("repetition", False)
    assert cut.score == pytest.approx(math.log(0.5))


def test_a_whole_loop_is_not_better_than_its_one_copy() -> None:
    """When the window is full, most of a beam has just left the loop with its last token."""
    strays = dict.fromkeys((3, 4, 5, 6), 0.0075)
    row = _tree({(8,) * n: {8: 0.97} | strays for n in range(1, 200)} | {(): {8: 0.5, EOS: 0.5}})

    options = SearchOptions(5, EOS, length_norm=True, guard=RepetitionGuard(100, 4.0))
    (hypotheses,) = BeamSearch(options).run(TableDecoder([row]), [300])
    assert all(len(h.tokens) < 10 for h in hypotheses if h.stop_reason == "repetition")


def test_cuts_leave_no_two_equal_hypotheses() -> None:
    """3 (4 5)+ and 3 4 (5)+ both become 3 4 5."""
    texts = [(3, *[4, 5] * 20), (3, 4, *[5] * 39)]

    def row(tokens: tuple[int, ...]) -> Tensor:
        probs = torch.full((10,), 1e-6, dtype=torch.float64)
        for text in texts:
            if text[: len(tokens)] == tokens:
                probs[text[len(tokens)]] += 0.5
        return (probs / probs.sum()).log()

    options = SearchOptions(2, EOS, guard=RepetitionGuard(20, 2.0))
    (hypotheses,) = BeamSearch(options).run(TableDecoder([row]), [39])
    assert len({tuple(h.tokens) for h in hypotheses}) == len(hypotheses)


# Numbers


@each_search
@pytest.mark.parametrize("step", [0, 2])
def test_nan_is_an_error(search: Search, step: int) -> None:
    def row(tokens: tuple[int, ...]) -> Tensor:
        log_probs = scripted_row([5, 6, 7, 8])(tokens)
        log_probs[3] = math.nan if len(tokens) == step else log_probs[3]
        return log_probs

    with pytest.raises(DecodingError, match="NaN"):
        search(TableDecoder([scripted_row([5]), row]), [9, 9])


def test_impossible_tokens_are_never_taken() -> None:
    (hypotheses,) = _beam(6)(TableDecoder([FORK]), [5])
    assert all(h.score > -math.inf for h in hypotheses)
    assert len(hypotheses) == 4


@each_search
def test_where_nothing_is_possible_the_search_still_ends(search: Search) -> None:
    impossible = torch.full((6,), -math.inf, dtype=torch.float64)
    (hypotheses,) = search(TableDecoder([lambda tokens: impossible]), [3])
    assert hypotheses
    assert hypotheses[0].score == -math.inf


def test_a_beam_may_be_larger_than_the_vocabulary() -> None:
    row = table_row(random_table(3, seed=4))
    (hypotheses,) = _beam(50)(TableDecoder([row]), [2])
    assert len(hypotheses) == 1 + 2 * 3
    assert len({(tuple(h.tokens), h.finished) for h in hypotheses}) == 7


@each_search
def test_ties_are_broken_in_the_same_way_in_any_batch(search: Search) -> None:
    even = torch.full((8,), 1 / 8, dtype=torch.float64).log()
    alone = search(TableDecoder([lambda tokens: even]), [4])
    together = search(TableDecoder([lambda tokens: even] * 3), [4] * 3)
    assert together == alone * 3


def test_greedy_and_beam_of_one_agree_on_ties() -> None:
    even = torch.full((300,), 1 / 300, dtype=torch.float64).log()
    decoder = TableDecoder([lambda tokens: even])
    assert _greedy(decoder, [4]) == _beam(1)(decoder, [4])


# Observer


def test_the_observer_sees_the_unfinished_rows_after_each_step() -> None:
    seen: list[list[tuple[int, int]]] = []

    def observe(rows: Sequence[Row]) -> None:
        seen.append([(row.index, max(len(beam.tokens) for beam in row.beams)) for row in rows])

    rows = [scripted_row([5, 6, EOS], p=0.99), scripted_row([EOS], p=0.99)]
    BeamSearch(SearchOptions(1, EOS), observe).run(TableDecoder(rows), [9, 9])
    assert seen == [[(0, 1), (1, 1)], [(0, 2)], [(0, 3)]]
