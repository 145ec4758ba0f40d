"""Drafts change how many tokens a call of the decoder yields, and nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.strategies import VOCAB_SIZE, Sizes, sizes
from tests.property.test_engine import EOS, create_prompts, lens_of_short_rows, long_model
from wavellama import Hypothesis
from wavellama.decoding.engine_view import find_engine
from wavellama.engine import EngineStepDecoder, EngineVerifier
from wavellama.search.constraints import AllowedTokens, Constraint
from wavellama.search.greedy import GreedySearch
from wavellama.search.speculative import Draft, SpeculativeSearch
from wavellama.search.stopping import RepetitionGuard

TOKENS = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=30)


@st.composite
def damaged(draw: st.DrawFn, tokens: list[int]) -> list[int]:
    """Draw a draft that is right, wrong in places, or has nothing to do with the text."""
    if draw(st.booleans()):
        return draw(TOKENS)
    draft = list(tokens)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(draft)))
        draft[place : place + draw(st.integers(0, 2))] = draw(TOKENS.filter(lambda t: len(t) < 3))
    return draft


@settings(max_examples=150, deadline=None)
@given(st.data(), sizes(), lens_of_short_rows, st.booleans(), st.integers(1, 9))
@torch.no_grad()
def test_equals_greedy_search(
    data: st.DataObject, shape: Sizes, lens: list[int], length_norm: bool, max_draft: int
) -> None:
    model = long_model(shape)
    prompts = create_prompts(model, lens, shape.seed)
    engine = find_engine(model)
    assert engine is not None
    max_lens = [data.draw(st.integers(1, 30)) for _ in lens]
    guard = data.draw(st.sampled_from([None, RepetitionGuard(8, 1.0)]))
    constraints: list[Constraint] = data.draw(
        st.sampled_from([[], [AllowedTokens(range(3, 8), EOS)]])
    )
    plain = GreedySearch(EOS, length_norm, guard, constraints)
    expected = plain.run(EngineStepDecoder(engine, prompts), max_lens)
    drafts = [data.draw(damaged(row[0].tokens)) for row in expected]
    search = SpeculativeSearch(EOS, length_norm, guard, constraints, max_draft)
    actual = search.run(EngineVerifier(engine, prompts), max_lens, drafts)
    assert_same(actual, expected)
    assert search.counts.num_calls <= search.counts.num_tokens


def assert_same(actual: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    for (one,), (other,) in zip(actual, expected, strict=True):
        assert one.tokens == other.tokens
        assert one.stop_reason == other.stop_reason
        assert one.finished == other.finished
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-9)
        assert one.score == pytest.approx(other.score, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(sizes(), st.integers(1, 9))
@torch.no_grad()
def test_a_right_draft_yields_all_that_is_read(shape: Sizes, max_draft: int) -> None:
    model = long_model(shape)
    prompts = create_prompts(model, [7], shape.seed)
    engine = find_engine(model)
    assert engine is not None
    ((expected,),) = GreedySearch(EOS).run(EngineStepDecoder(engine, prompts), [40])
    search = SpeculativeSearch(EOS, max_draft=max_draft)
    search.run(EngineVerifier(engine, prompts), [40], [expected.tokens])
    num_tokens = len(expected.tokens) + expected.finished
    assert search.counts.num_tokens == num_tokens
    repeats = len(set(expected.tokens)) < len(
        expected.tokens
    )  # then places may be taken for others
    if not repeats:
        assert search.counts.num_calls == 1 + -(-(num_tokens - 1) // (max_draft + 1))


@given(TOKENS, TOKENS)
def test_what_follows_is_a_part_of_the_draft(draft: list[int], emitted: list[int]) -> None:
    guide = Draft(draft)
    for token in emitted:
        guide.emit(token)
    following = guide.following(4)
    assert len(following) <= 4
    assert any(draft[i : i + len(following)] == following for i in range(len(draft) + 1))


@given(TOKENS, st.integers(0, 30))
def test_a_draft_that_was_right_goes_on_where_it_was(draft: list[int], num_emitted: int) -> None:
    guide = Draft(draft)
    for token in draft[:num_emitted]:
        guide.emit(token)
    assert guide.following(30) == draft[num_emitted:]


@pytest.mark.parametrize(
    ("emitted", "following"),
    [
        ([1, 2, 9], [4, 5, 6]),  # another token
        ([1, 2, 4], [5, 6]),  # one was left out
        ([1, 2, 9, 3], [4, 5, 6]),  # one was added, and the next one has shown it
        ([1, 2, 3, 4, 5, 6], []),
    ],
)
def test_a_draft_finds_back_after_a_mistake(emitted: list[int], following: list[int]) -> None:
    guide = Draft([1, 2, 3, 4, 5, 6])
    for token in emitted:
        guide.emit(token)
    assert guide.following(9) == following
