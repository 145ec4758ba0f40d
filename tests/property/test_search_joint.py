"""The CTC prefix score and the joint search, against the enumeration of all alignments."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.fakes import EOS, LogProbs, TableDecoder, enumerate_paths, prefix_row
from tests.fakes_ctc import BLANK, joint_row, next_log_prob, random_frames, text_probs
from tests.property.strategies import search_joined
from tests.property.textbook import beam_of, naive_beam
from wavellama.search.beam import BeamRun, BeamSearch, SearchOptions
from wavellama.search.biasing import HotwordScorer, HotwordTree, Joints
from wavellama.search.constraints import AllowedTokens, BannedTokens, Constraint, ForcedPrefix
from wavellama.search.ctc_prefix import CtcPrefixScorer
from wavellama.search.scorers import WeightedScorer
from wavellama.search.types import Hypothesis

WIDE = 90
"""A beam that prunes nothing of the sequences below."""

VOCAB_SIZE = 4

FRAMES = st.builds(
    random_frames,
    num_frames=st.integers(1, 5),
    vocab_size=st.just(VOCAB_SIZE),
    seed=st.integers(0, 2**16),
    sharpness=st.sampled_from([0.3, 1.5, 4.0]),
)
ROWS = st.builds(prefix_row, vocab_size=st.just(VOCAB_SIZE), seed=st.integers(0, 2**16))
WEIGHTS = st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0])


def _joint(
    rows: list[tuple[LogProbs, Tensor]],
    max_lens: list[int],
    beam_size: int,
    weight: float,
    *,
    length_norm: bool = False,
) -> list[list[Hypothesis]]:
    ctc = CtcPrefixScorer([frames for _, frames in rows], BLANK, EOS)
    options = SearchOptions(beam_size, EOS, length_norm)
    search = BeamSearch(options, scorers=[WeightedScorer(ctc, weight)])
    return search.run(TableDecoder([row for row, _ in rows]), max_lens)


@settings(max_examples=80)
@given(st.lists(FRAMES, min_size=1, max_size=3), st.data())
def test_prefix_scores_are_sums_over_all_alignments(
    rows: list[Tensor], data: st.DataObject
) -> None:
    """Rows of different lengths together; hypotheses doubled, dropped and swapped."""
    texts = [text_probs(frames) for frames in rows]
    scorer = CtcPrefixScorer(rows, BLANK, EOS)
    hypotheses: list[tuple[int, tuple[int, ...], float]] = [(i, (), 0.0) for i in range(len(rows))]
    scores = scorer.prefill()
    for _ in range(4):
        assert scores.shape == (len(hypotheses), VOCAB_SIZE)
        for (row, tokens, total), gains in zip(hypotheses, scores.tolist(), strict=True):
            expected = [next_log_prob(texts[row], tokens, token) for token in range(VOCAB_SIZE)]
            expected[BLANK] = -math.inf
            assert [total + gain for gain in gains] == pytest.approx(expected, abs=1e-9)
        possible = [
            (parent, token)
            for parent, gains in enumerate(scores.tolist())
            for token in range(VOCAB_SIZE)
            if token != EOS and gains[token] > -math.inf
        ]
        if not possible:
            break
        chosen = data.draw(st.lists(st.sampled_from(possible), min_size=1, max_size=5))
        chosen.sort(key=lambda move: hypotheses[move[0]][0])  # rows stay together, in order
        hypotheses = [
            (row, (*tokens, token), total + scores[parent, token].item())
            for parent, token in chosen
            for row, tokens, total in [hypotheses[parent]]
        ]
        scorer.reorder([parent for parent, _ in chosen])
        scores = scorer.step([token for _, token in chosen])


@given(ROWS, FRAMES, WEIGHTS, st.integers(1, 3), st.booleans())
def test_a_wide_beam_finds_everything_in_order(
    row: LogProbs, frames: Tensor, weight: float, max_len: int, length_norm: bool
) -> None:
    ((*hypotheses,),) = _joint([(row, frames)], [max_len], WIDE, weight, length_norm=length_norm)
    joint = joint_row(row, text_probs(frames), weight)
    paths = {
        (path.tokens, path.finished): path.score(length_norm=length_norm)
        for path in enumerate_paths(joint, max_len, VOCAB_SIZE)
        if path.score() > -math.inf
    }
    assert {(tuple(h.tokens), h.finished) for h in hypotheses} == set(paths)
    expected = sorted(paths.values(), reverse=True)
    assert [h.score for h in hypotheses] == pytest.approx(expected, abs=1e-9)


@settings(max_examples=80)
@given(ROWS, FRAMES, WEIGHTS, st.integers(1, 6), st.integers(1, 8), st.booleans())
def test_a_beam_of_any_size_equals_the_textbook(
    row: LogProbs, frames: Tensor, weight: float, max_len: int, beam_size: int, length_norm: bool
) -> None:
    (hypotheses,) = _joint([(row, frames)], [max_len], beam_size, weight, length_norm=length_norm)
    joint = joint_row(row, text_probs(frames), weight)
    expected = naive_beam(joint, max_len, beam_size, length_norm=length_norm)
    assert [beam_of(h) for h in hypotheses] == [tokens for tokens, _ in expected]
    assert [h.score for h in hypotheses] == pytest.approx([s for _, s in expected], abs=1e-9)
    for h in hypotheses:
        own = [row(beam_of(h)[:i])[token].item() for i, token in enumerate(beam_of(h))]
        assert h.token_logprobs == pytest.approx(own, abs=1e-9)


@given(ROWS, FRAMES)
def test_at_weight_one_the_best_text_is_that_of_ctc(row: LogProbs, frames: Tensor) -> None:
    ((best, *_),) = _joint([(row, frames)], [len(frames) + 1], 400, 1.0)
    texts = text_probs(frames)
    likeliest = max((text for text in texts if EOS not in text), key=lambda text: texts[text])
    assert tuple(best.tokens) == likeliest
    assert best.score == pytest.approx(math.log(texts[likeliest]), abs=1e-9)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(ROWS, FRAMES), min_size=2, max_size=4),
    st.data(),
    WEIGHTS,
    st.integers(1, 5),
)
def test_a_row_does_not_know_of_other_rows(
    rows: list[tuple[LogProbs, Tensor]], data: st.DataObject, weight: float, beam_size: int
) -> None:
    max_lens = [data.draw(st.integers(1, 7)) for _ in rows]
    order = data.draw(st.permutations(range(len(rows))))
    together = _joint([rows[i] for i in order], [max_lens[i] for i in order], beam_size, weight)
    for place, i in enumerate(order):
        (alone,) = _joint([rows[i]], [max_lens[i]], beam_size, weight)
        assert [h.tokens for h in together[place]] == [h.tokens for h in alone]
        assert [h.stop_reason for h in together[place]] == [h.stop_reason for h in alone]
        assert [h.score for h in together[place]] == pytest.approx([h.score for h in alone])


@given(ROWS, FRAMES, WEIGHTS, st.integers(1, 6))
def test_a_beam_of_one_takes_the_best_joint_token_each_time(
    row: LogProbs, frames: Tensor, weight: float, max_len: int
) -> None:
    ((h,),) = _joint([(row, frames)], [max_len], 1, weight)
    joint, tokens = joint_row(row, text_probs(frames), weight), tuple[int, ...]()
    while len(tokens) < max_len and EOS not in tokens:
        tokens = (*tokens, int(joint(tokens).argmax()))
    assert beam_of(h) == tokens


@given(st.integers(0, 2**16), st.integers(1, 40), st.integers(0, 12))
def test_whole_texts_have_the_probability_of_the_ctc_loss(
    seed: int, num_frames: int, num_tokens: int
) -> None:
    frames = random_frames(num_frames, 7, seed)
    generator = torch.Generator().manual_seed(seed)
    tokens = (torch.randint(4, (num_tokens,), generator=generator) + 3).tolist()
    scorer = CtcPrefixScorer([frames], BLANK, EOS)
    scores, total = scorer.prefill(), 0.0
    for token in tokens:
        total += scores[0, token].item()
        scorer.reorder([0])
        scores = scorer.step([token])
    total += scores[0, EOS].item()
    loss = torch.nn.functional.ctc_loss(
        frames[:, None],
        torch.tensor([tokens], dtype=torch.int64),
        torch.tensor([num_frames]),
        torch.tensor([num_tokens]),
        blank=BLANK,
        reduction="sum",
    )
    assert total == pytest.approx(-loss.item(), abs=1e-9)


WORDS = [token for token in range(VOCAB_SIZE) if token not in (BLANK, EOS)]
JOINTS = Joints([1] * VOCAB_SIZE, [1] * VOCAB_SIZE)
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6)
CONSTRAINTS: st.SearchStrategy[Constraint] = st.one_of(
    st.builds(AllowedTokens, st.sets(st.sampled_from(WORDS)), st.just(EOS)),
    st.builds(BannedTokens, st.sets(st.sampled_from([*WORDS[1:], EOS]))),
    st.builds(ForcedPrefix, TEXTS),
)


@settings(max_examples=80)
@given(
    st.lists(st.tuples(ROWS, FRAMES, st.integers(1, 9)), min_size=1, max_size=4),
    WEIGHTS,
    st.lists(TEXTS, min_size=1, max_size=3),
    CONSTRAINTS,
    st.integers(1, 5),
    st.lists(st.integers(0, 6), min_size=4, max_size=4),
)
def test_rows_do_not_meet_whatever_steers_them(
    rows: list[tuple[LogProbs, Tensor, int]],
    weight: float,
    hotwords: list[list[int]],
    constraint: Constraint,
    beam_size: int,
    delays: list[int],
) -> None:
    """Rows that begin together, and rows that join others that have begun before.

    CTC, hotwords and a constraint together; rows may have fewer frames than forced tokens.
    """
    tree = HotwordTree(hotwords, JOINTS)
    options = SearchOptions(beam_size, EOS, constraints=[constraint])

    def start(rows: list[tuple[LogProbs, Tensor, int]]) -> BeamRun:
        decoders, frames, max_lens = zip(*rows, strict=True)
        scorers = [
            WeightedScorer(CtcPrefixScorer(frames, BLANK, EOS), weight),
            WeightedScorer(HotwordScorer(tree, len(rows)), 1.5, is_additive=True),
        ]
        return BeamSearch(options, scorers=scorers).start(TableDecoder(decoders), max_lens)

    alone = [start([row]).finish()[0] for row in rows]
    assert_alike(start(rows).finish(), alone)
    starts = [partial(start, rows[:1]), *(partial(start, [row, row]) for row in rows[1:])]
    joined = search_joined(starts, delays[1 : len(starts)])
    assert_alike([*joined[:1], *joined[1::2]], alone)
    assert_alike(joined[2::2], alone[1:])
    # The first of each two that join leaves after some steps, if it has not ended before.
    leaving = {2 * place + 1: steps + 1 for place, steps in enumerate(delays[: len(rows) - 1])}
    left = search_joined(starts, delays[1 : len(starts)], leaving)
    assert_alike([*left[:1], *left[2::2]], alone)


def assert_alike(actual: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    for row, expected_row in zip(actual, expected, strict=True):
        assert [beam_of(h) for h in row] == [beam_of(h) for h in expected_row]
        for one, other in zip(row, expected_row, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-9)
            assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-9)
