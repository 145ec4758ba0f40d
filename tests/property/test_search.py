"""Searches over transition tables, against the enumeration of all sequences."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import (
    EOS,
    Ending,
    LogProbs,
    TableDecoder,
    enumerate_paths,
    prefix_row,
    random_table,
    table_row,
)
from tests.property.textbook import beam_of, naive_beam
from wavellama.search.beam import BeamSearch, SearchOptions
from wavellama.search.constraints import AllowedTokens, BannedTokens, Constraint, ForcedPrefix
from wavellama.search.greedy import GreedySearch
from wavellama.search.stopping import RepetitionGuard
from wavellama.search.types import Hypothesis

WIDE = 60
"""A beam that prunes nothing of the sequences below."""

TABLES = st.builds(
    lambda order, seed, sharpness: table_row(
        random_table(VOCAB_SIZE, order, seed=seed, sharpness=sharpness), order
    ),
    order=st.integers(1, 2),
    seed=st.integers(0, 2**16),
    sharpness=st.sampled_from([0.3, 1.5, 4.0]),
)
VOCAB_SIZE = 4
MAX_LENS = st.integers(1, 3)


WORDS = [token for token in range(VOCAB_SIZE) if token != EOS]
"""The tokens that a text is made of."""

CONSTRAINTS: st.SearchStrategy[Constraint] = st.one_of(
    st.builds(AllowedTokens, st.sets(st.sampled_from(WORDS)), st.just(EOS)),
    st.builds(BannedTokens, st.sets(st.sampled_from(WORDS))),
    st.builds(ForcedPrefix, st.lists(st.sampled_from(WORDS), max_size=4)),
)


def _beam(
    rows: list[LogProbs],
    max_lens: list[int],
    beam_size: int,
    *,
    length_norm: bool = False,
    constraints: Sequence[Constraint] = (),
) -> list[list[Hypothesis]]:
    options = SearchOptions(beam_size, EOS, length_norm, constraints=constraints)
    return BeamSearch(options).run(TableDecoder(rows), max_lens)


def _key(hypothesis: Hypothesis) -> tuple[tuple[int, ...], bool]:
    return tuple(hypothesis.tokens), hypothesis.finished


def _all(row: LogProbs, max_len: int) -> dict[tuple[tuple[int, ...], bool], Ending]:
    paths = enumerate_paths(row, max_len, VOCAB_SIZE)
    return {(path.tokens, path.finished): path for path in paths}


@given(TABLES, MAX_LENS, st.booleans())
def test_a_wide_beam_finds_everything_in_order(
    row: LogProbs, max_len: int, length_norm: bool
) -> None:
    (hypotheses,) = _beam([row], [max_len], WIDE, length_norm=length_norm)
    paths = _all(row, max_len)
    assert {_key(h) for h in hypotheses} == set(paths)
    assert len(hypotheses) == len(paths)
    expected = sorted((p.score(length_norm=length_norm) for p in paths.values()), reverse=True)
    assert [h.score for h in hypotheses] == pytest.approx(expected, abs=1e-9)


@given(TABLES, MAX_LENS, st.sets(st.sampled_from(WORDS)), st.booleans())
def test_a_constrained_beam_finds_everything_allowed_with_its_own_score(
    row: LogProbs, max_len: int, tokens: set[int], banned: bool
) -> None:
    allowed = set(WORDS) - tokens if banned else tokens
    constraint = BannedTokens(tokens) if banned else AllowedTokens(tokens, EOS)
    (hypotheses,) = _beam([row], [max_len], WIDE, constraints=[constraint])
    paths = {key: path for key, path in _all(row, max_len).items() if set(key[0]) <= allowed}
    assert {_key(h): h.score for h in hypotheses} == pytest.approx(
        {key: path.score() for key, path in paths.items()}, abs=1e-9
    )


@given(TABLES, MAX_LENS, st.lists(st.sampled_from(WORDS), max_size=4))
def test_a_beam_with_a_forced_prefix_finds_everything_that_begins_so(
    row: LogProbs, max_len: int, prefix: list[int]
) -> None:
    (hypotheses,) = _beam([row], [max_len], WIDE, constraints=[ForcedPrefix(prefix)])
    begin = tuple(prefix[:max_len])
    paths = {k: path for k, path in _all(row, max_len).items() if k[0][: len(begin)] == begin}
    assert {_key(h): h.score for h in hypotheses} == pytest.approx(
        {key: path.score() for key, path in paths.items()}, abs=1e-9
    )


@given(TABLES, MAX_LENS, st.integers(1, 12), st.booleans())
def test_a_narrow_beam_reports_true_scores_and_none_above_the_optimum(
    row: LogProbs, max_len: int, beam_size: int, length_norm: bool
) -> None:
    (hypotheses,) = _beam([row], [max_len], beam_size, length_norm=length_norm)
    paths = _all(row, max_len)
    best = max(path.score(length_norm=length_norm) for path in paths.values())
    for hypothesis in hypotheses:
        path = paths[_key(hypothesis)]
        assert hypothesis.score == pytest.approx(path.score(length_norm=length_norm), abs=1e-9)
        assert hypothesis.token_logprobs == pytest.approx(list(path.logprobs), abs=1e-9)
        assert hypothesis.score <= best + 1e-9


@given(st.lists(TABLES, min_size=1, max_size=4), st.data(), st.integers(1, 6), st.booleans())
def test_hypotheses_are_well_formed(
    rows: list[LogProbs], data: st.DataObject, beam_size: int, length_norm: bool
) -> None:
    max_lens = [data.draw(st.integers(1, 9)) for _ in rows]
    results = _beam(rows, max_lens, beam_size, length_norm=length_norm)
    for hypotheses, max_len in zip(results, max_lens, strict=True):
        scores = [h.score for h in hypotheses]
        assert scores == sorted(scores, reverse=True)
        assert 1 <= len(hypotheses) <= beam_size
        assert len({_key(h) for h in hypotheses}) == len(hypotheses)
        for h in hypotheses:
            total = sum(h.token_logprobs)
            mean = total / len(h.token_logprobs)
            assert h.score == pytest.approx(mean if length_norm else total, abs=1e-9)
            assert h.finished == (h.stop_reason == "eos")
            assert len(h.token_logprobs) == len(h.tokens) + h.finished
            assert len(h.token_logprobs) <= max_len
            assert h.finished or len(h.tokens) == max_len
            assert EOS not in h.tokens


@given(st.lists(TABLES, min_size=1, max_size=4), st.data(), st.integers(1, 6), st.booleans())
def test_rows_are_searched_by_themselves(
    rows: list[LogProbs], data: st.DataObject, beam_size: int, length_norm: bool
) -> None:
    max_lens = [data.draw(st.integers(1, 9)) for _ in rows]
    together = _beam(rows, max_lens, beam_size, length_norm=length_norm)
    alone = [
        _beam([row], [max_len], beam_size, length_norm=length_norm)[0]
        for row, max_len in zip(rows, max_lens, strict=True)
    ]
    assert together == alone


GUARDS = st.sampled_from([None, RepetitionGuard(4, 0.5), RepetitionGuard(6, 0.9)])


@settings(max_examples=80)
@given(
    st.lists(TABLES, min_size=1, max_size=4),
    st.data(),
    st.booleans(),
    GUARDS,
    st.lists(CONSTRAINTS, max_size=1),
)
def test_a_beam_of_one_equals_greedy_search(
    rows: list[LogProbs],
    data: st.DataObject,
    length_norm: bool,
    guard: RepetitionGuard | None,
    constraints: list[Constraint],
) -> None:
    max_lens = [data.draw(st.integers(1, 12)) for _ in rows]
    greedy = GreedySearch(EOS, length_norm, guard, constraints)
    options = SearchOptions(1, EOS, length_norm, guard, constraints)
    expected = greedy.run(TableDecoder(rows), max_lens)
    assert BeamSearch(options).run(TableDecoder(rows), max_lens) == expected


@given(TABLES, st.integers(1, 9), st.booleans())
def test_greedy_search_takes_the_likeliest_token_each_time(
    row: LogProbs, max_len: int, length_norm: bool
) -> None:
    ((hypothesis,),) = GreedySearch(EOS, length_norm).run(TableDecoder([row]), [max_len])
    tokens: tuple[int, ...] = ()
    while len(tokens) < max_len and EOS not in tokens:
        tokens = (*tokens, int(row(tokens).argmax()))
    assert hypothesis.tokens == [token for token in tokens if token != EOS]
    assert hypothesis.finished == (EOS in tokens)


def _repeats(tokens: list[int], keep: int) -> bool:
    """Whether ``tokens`` after ``keep`` only continue a period that ends at ``keep``."""
    return any(
        all(tokens[i] == tokens[i - period] for i in range(keep, len(tokens)))
        for period in range(1, keep + 1)
    )


@settings(max_examples=150)
@given(
    st.lists(st.integers(0, 30), max_size=60),
    st.lists(st.integers(0, 30), min_size=1, max_size=12),
    st.integers(1, 60),
)
def test_the_guard_keeps_a_prefix_from_which_the_rest_follows(
    prefix: list[int], period: list[int], copies: int
) -> None:
    guard = RepetitionGuard(window=40, threshold=2.0)
    tokens = prefix + period * copies
    keep = guard.cut(tokens)
    if len(tokens) < guard.window:
        assert keep is None
    if keep is not None and keep < len(tokens):
        assert _repeats(tokens, keep)
        assert keep <= len(prefix) + len(period)


@given(
    st.integers(0, 120),
    st.lists(st.integers(0, 999), min_size=40, max_size=60, unique=True),
    st.lists(st.integers(0, 30), min_size=1, max_size=12),
    st.integers(1, 60),
)
def test_the_guard_keeps_a_run_that_is_over(
    run_len: int, text: list[int], period: list[int], copies: int
) -> None:
    guard = RepetitionGuard(window=40, threshold=2.0)
    tokens = [1000] * run_len + text + period * copies
    keep = guard.cut(tokens)
    if keep is not None and keep < len(tokens):
        assert run_len < keep <= run_len + len(text) + len(period)
        assert _repeats(tokens, keep)


@settings(max_examples=150)
@given(st.integers(0, 2**16), st.integers(1, 8), st.integers(1, 8), st.booleans())
def test_a_beam_of_any_size_equals_the_textbook(
    seed: int, max_len: int, beam_size: int, length_norm: bool
) -> None:
    row = prefix_row(VOCAB_SIZE, seed)
    (hypotheses,) = _beam([row], [max_len], beam_size, length_norm=length_norm)
    expected = naive_beam(row, max_len, beam_size, length_norm=length_norm)
    assert [beam_of(h) for h in hypotheses] == [tokens for tokens, _ in expected]
    assert [h.score for h in hypotheses] == pytest.approx([s for _, s in expected], abs=1e-9)
