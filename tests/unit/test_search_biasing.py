"""Hotwords in the search, against scores that are counted in whole texts."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from tests.fakes import (
    EOS,
    LogProbs,
    TableDecoder,
    enumerate_paths,
    prefix_row,
    scripted_row,
)
from tests.fakes_ctc import BLANK, random_frames
from tests.property.textbook import beam_of, naive_beam
from wavellama.errors import ConfigError
from wavellama.search.beam import BeamSearch, SearchOptions
from wavellama.search.biasing import HotwordScorer, HotwordTree, Joints
from wavellama.search.ctc_prefix import CtcPrefixScorer
from wavellama.search.scorers import WeightedScorer
from wavellama.search.types import Hypothesis

SPACE, A, B, HAN, MARK = 3, 4, 5, 6, 7
BEGINS, ENDS = [0, 0, 0, 0, 1, 1, 0, 2], [0, 0, 0, 0, 1, 1, 0, 1]
VOCAB_SIZE = len(BEGINS)
JOINTS = Joints(BEGINS, ENDS)
WORDS = (SPACE, A, B, HAN, MARK)


# Scores of whole texts, counted token by token


def _goes_on(before: int, after: int) -> bool:
    return ENDS[before] + BEGINS[after] >= 2


def _count(hotwords: Sequence[Sequence[int]], tokens: Sequence[int]) -> int:
    """Return how many tokens hotwords cover, the longest one that is being written included."""
    covered = set[int]()
    before = [SPACE, *tokens]
    begins = [i for i in range(len(tokens)) if not _goes_on(before[i], tokens[i])]
    for begin, hotword in product(begins, hotwords):
        end = begin + len(hotword)
        if list(tokens[begin:end]) != list(hotword):
            continue
        if end < len(tokens) and not _goes_on(tokens[end - 1], tokens[end]):
            covered.update(range(begin, end))
    for begin in begins:
        written = list(tokens[begin:])
        if any(list(hotword[: len(written)]) == written for hotword in hotwords):
            return len(covered.union(range(begin, len(tokens))))
    return len(covered)


def _biased(row: LogProbs, hotwords: Sequence[Sequence[int]], weight: float) -> LogProbs:
    """Return a row whose scores are those of the search with hotwords."""

    def scores(tokens: tuple[int, ...]) -> Tensor:
        given = _count(hotwords, tokens)
        gains = [_count(hotwords, (*tokens, token)) - given for token in range(VOCAB_SIZE)]
        return row(tokens) + torch.tensor(gains) * weight

    return scores


def _scorer(
    hotwords: Sequence[Sequence[int]], num_rows: int = 1, weight: float = 2.0
) -> WeightedScorer:
    tree = HotwordTree(hotwords, JOINTS)
    return WeightedScorer(HotwordScorer(tree, num_rows), weight, is_additive=True)


def _search(
    rows: Sequence[LogProbs],
    hotwords: Sequence[Sequence[int]],
    *,
    weight: float = 2.0,
    beam_size: int = 3,
    max_len: int = 9,
) -> list[list[Hypothesis]]:
    scorer = _scorer(hotwords, len(rows), weight)
    search = BeamSearch(SearchOptions(beam_size, EOS), scorers=[scorer])
    return search.run(TableDecoder(rows), [max_len] * len(rows))


def _total(hotwords: Sequence[Sequence[int]], tokens: Sequence[int]) -> float:
    """Return the sum of the scores of successive tokens."""
    scorer = HotwordScorer(HotwordTree(hotwords, JOINTS), 1)
    scores, total = scorer.prefill(), 0.0
    for token, following in pairwise([*tokens, None]):
        assert token is not None
        total += scores[0, token].item()
        if following is not None:
            scorer.reorder([0])
            scores = scorer.step([token])
    return total


def _random_hotwords(draw: random.Random) -> list[list[int]]:
    """Return hotwords that overlap, and are parts of each other."""
    tokens = [SPACE, A, A, B, HAN, MARK]
    count = draw.randint(1, 5)
    return [draw.choices(tokens, k=draw.randint(1, 5)) for _ in range(count)]


@pytest.mark.parametrize("seed", range(150))
def test_scores_sum_to_what_is_covered(seed: int) -> None:
    draw = random.Random(seed)
    hotwords, tokens = _random_hotwords(draw), list[int]()
    scorer = HotwordScorer(HotwordTree(hotwords, JOINTS), 1)
    scores = scorer.prefill()
    for _ in range(25):
        given = _count(hotwords, tokens)
        expected = [_count(hotwords, [*tokens, i]) - given for i in range(VOCAB_SIZE)]
        assert scores[0].tolist() == expected
        parts = [part for hotword in hotwords for part in hotword]
        tokens.append(draw.choice([*parts, SPACE, A]))
        scorer.reorder([0])
        scores = scorer.step([tokens[-1]])


@pytest.mark.parametrize("beam_size", [1, 2, 5])
@pytest.mark.parametrize("seed", range(12))
def test_a_beam_equals_the_textbook(seed: int, beam_size: int) -> None:
    draw = random.Random(seed)
    row, hotwords = prefix_row(VOCAB_SIZE, seed), _random_hotwords(draw)
    (found,) = _search([row], hotwords, weight=1.5, beam_size=beam_size, max_len=8)
    biased = _biased(row, hotwords, 1.5)
    expected = naive_beam(biased, 8, beam_size, length_norm=False)
    assert [beam_of(h) for h in found] == [tokens for tokens, _ in expected]
    assert [h.score for h in found] == pytest.approx([score for _, score in expected])


@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_everything_in_order(seed: int) -> None:
    row, hotwords = prefix_row(VOCAB_SIZE, seed), [[A, B], [A], [HAN, MARK]]
    (found,) = _search([row], hotwords, weight=0.7, beam_size=2000, max_len=3)
    paths = enumerate_paths(_biased(row, hotwords, 0.7), 3, VOCAB_SIZE)
    assert len(found) == len(paths)
    expected = sorted((path.score() for path in paths), reverse=True)
    assert [h.score for h in found] == pytest.approx(expected)


# What counts


@pytest.mark.parametrize(
    ("tokens", "covered"),
    [
        ([A, B, EOS], 2),
        ([A, B, SPACE, A, EOS], 2),
        ([A, A, SPACE, A, B, EOS], 2),
        ([A, B, SPACE, A, B, EOS], 4),
        ([A, EOS], 0),  # breaks off
        ([A, SPACE, B, EOS], 0),
        ([A, B, A, EOS], 0),  # the word goes on
        ([A, B, MARK, EOS], 0),
        ([A, A, B, EOS], 0),  # the word has begun before
        ([HAN, A, B, HAN, EOS], 2),  # a script without spaces on both sides
        ([HAN, MARK, A, B, EOS], 0),
    ],
)
def test_a_hotword_is_whole_words(tokens: list[int], covered: int) -> None:
    assert _total([[A, B]], tokens) == covered


@pytest.mark.parametrize(
    ("tokens", "covered"),
    [
        ([A, SPACE, B, EOS], 3),
        ([A, SPACE, A, EOS], 2),  # twice the first one
        ([A, SPACE, B, B, EOS], 1),
        ([B, SPACE, A, SPACE, B, SPACE, B, EOS], 3),
    ],
)
def test_a_hotword_within_another_counts_where_that_breaks_off(
    tokens: list[int], covered: int
) -> None:
    assert _total([[A], [A, SPACE, B]], tokens) == covered


def test_tokens_of_two_hotwords_count_once() -> None:
    assert _total([[A, SPACE, B], [B, SPACE, A]], [A, SPACE, B, SPACE, A, EOS]) == 5


def test_one_hotword_breaks_off_into_another() -> None:
    hotwords = [[A, SPACE, B, SPACE, A], [B, SPACE, B]]
    assert _total(hotwords, [A, SPACE, B, SPACE, B, EOS]) == 3


@pytest.mark.parametrize("seed", range(5))
def test_without_a_whole_hotword_scores_are_the_decoders(seed: int) -> None:
    row, hotwords = prefix_row(VOCAB_SIZE, seed), [[A, B, SPACE, HAN, MARK, MARK]]
    (found,) = _search([row], hotwords, weight=3.0, beam_size=300, max_len=4)
    plain = [h for h in found if h.finished]
    assert len(plain) > 30
    for h in plain:
        assert h.score == pytest.approx(sum(h.token_logprobs))


# Effects

NEAR_MISS = scripted_row([A, A, EOS], VOCAB_SIZE, p=0.6)
"""Writes A A, but is not sure."""


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_near_miss_becomes_the_hotword(beam_size: int) -> None:
    without = _search([NEAR_MISS], [[A, B]], weight=1e-9, beam_size=beam_size)[0][0]
    assert without.tokens == [A, A]
    best = _search([NEAR_MISS], [[A, B]], weight=3.0, beam_size=beam_size)[0][0]
    assert best.tokens == [A, B]
    assert best.finished
    probs = [0.6, 0.4 / (VOCAB_SIZE - 1), 0.6]
    assert best.token_logprobs == pytest.approx([math.log(p) for p in probs])
    assert best.score == pytest.approx(sum(best.token_logprobs) + 3.0 * 2)


def test_a_hotword_that_is_nowhere_near_changes_nothing() -> None:
    far = [[HAN, HAN, MARK]]
    assert _search([NEAR_MISS], far, weight=0.5)[0][0].tokens == [A, A]


def test_rows_do_not_know_of_each_other() -> None:
    rows = [prefix_row(VOCAB_SIZE, seed) for seed in range(4)]
    hotwords = [[A, B], [HAN], [B, SPACE, A]]
    together = _search(rows, hotwords)
    for order in ([3, 1, 0, 2], [2], [1, 3]):
        other = _search([rows[i] for i in order], hotwords)
        assert other == [together[i] for i in order]


def test_a_tree_serves_any_number_of_searches() -> None:
    tree = HotwordTree([[A, B]], JOINTS)
    first, second = HotwordScorer(tree, 1), HotwordScorer(tree, 2)
    assert torch.equal(first.prefill().expand(2, -1), second.prefill())
    moved = first.step([A])
    assert moved[0, B].item() == 1.0
    assert moved[0, SPACE].item() == -1.0
    assert torch.equal(second.prefill(), HotwordScorer(tree, 2).prefill())


# Added scores and shares


def test_what_is_added_takes_nothing_from_the_decoder() -> None:
    row, frames = prefix_row(VOCAB_SIZE, 1), random_frames(5, VOCAB_SIZE, seed=2)
    shared = WeightedScorer(CtcPrefixScorer([frames], BLANK, EOS), 0.3)
    nothing = _scorer([[HAN] * 9], weight=5.0)  # longer than any text here

    def run(*scorers: WeightedScorer) -> list[Hypothesis]:
        search = BeamSearch(SearchOptions(400, EOS), scorers=scorers)
        return [h for h in search.run(TableDecoder([row]), [3])[0] if h.finished]

    alone, both = run(shared), run(shared, nothing)
    scores = {tuple(h.tokens): h.score for h in alone}
    assert len(both) > 20
    assert all(h.score == pytest.approx(scores[tuple(h.tokens)]) for h in both)


def test_another_vocabulary_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"12 tokens.* tokenizer of 8"):
        _search([scripted_row([A, EOS], 12)], [[A, B]])


def test_added_scores_have_the_type_of_the_decoders() -> None:
    row = scripted_row([A, EOS], VOCAB_SIZE)
    seen: list[torch.dtype] = []

    def constraint(scores: Tensor, prefixes: Sequence[Sequence[int]]) -> Tensor:
        seen.append(scores.dtype)
        return scores

    options = SearchOptions(1, EOS, constraints=[constraint])
    decoder = TableDecoder([lambda tokens: row(tokens).float()])
    BeamSearch(options, scorers=[_scorer([[A, B]])]).run(decoder, [3])
    assert set(seen) == {torch.float32}
