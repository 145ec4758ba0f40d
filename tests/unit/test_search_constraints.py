"""Constraints, case by case."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.fakes import EOS, TableDecoder, scripted_row
from tests.fakes_ctc import BLANK, random_frames
from wavellama.errors import ConfigError
from wavellama.search.beam import BeamSearch, SearchOptions
from wavellama.search.constraints import AllowedTokens, BannedTokens, Constraint, ForcedPrefix
from wavellama.search.ctc_prefix import CtcPrefixScorer
from wavellama.search.greedy import GreedySearch
from wavellama.search.scorers import WeightedScorer
from wavellama.search.types import Hypothesis

SCRIPT = [5, 6, 7, 8, EOS]
"""What the decoder below would write, each token with probability 0.9."""


def _greedy(*constraints: Constraint, max_len: int = 9) -> Hypothesis:
    search = GreedySearch(EOS, constraints=constraints)
    return search.run(TableDecoder([scripted_row(SCRIPT)]), [max_len])[0][0]


def _beam(*constraints: Constraint, beam_size: int = 3, max_len: int = 9) -> list[Hypothesis]:
    search = BeamSearch(SearchOptions(beam_size, EOS, constraints=constraints))
    return search.run(TableDecoder([scripted_row(SCRIPT)]), [max_len])[0]


def _all(*constraints: Constraint, max_len: int = 9) -> list[Hypothesis]:
    """Return what greedy search and beams of two sizes find best."""
    beams = [_beam(*constraints, beam_size=n, max_len=max_len)[0] for n in (1, 3)]
    return [_greedy(*constraints, max_len=max_len), *beams]


def test_only_allowed_tokens_are_written() -> None:
    for best in _all(AllowedTokens([5, 7, 9], EOS)):
        assert set(best.tokens) <= {5, 7, 9}
        assert best.finished


def test_eos_is_always_allowed() -> None:
    for best in _all(AllowedTokens([], EOS)):
        assert (best.tokens, best.stop_reason) == ([], "eos")


def test_banned_tokens_are_not_written() -> None:
    for best in _all(BannedTokens([6])):
        assert 6 not in best.tokens
        assert best.finished


def test_nothing_banned_changes_nothing() -> None:
    assert _beam(BannedTokens([])) == _beam()


def test_where_eos_is_banned_the_length_ends_the_text() -> None:
    for best in _all(BannedTokens([EOS]), max_len=7):
        assert (len(best.tokens), best.stop_reason) == (7, "length")


def test_a_forced_prefix_stands_first_and_is_scored() -> None:
    for best in _all(ForcedPrefix([9, 6])):
        assert best.tokens == [9, 6, 7, 8]
        assert best.token_logprobs[0] == pytest.approx(math.log(0.1 / 11))
        assert best.token_logprobs[1] == pytest.approx(math.log(0.9))
        assert best.score == pytest.approx(sum(best.token_logprobs))


def test_all_hypotheses_have_the_forced_prefix() -> None:
    hypotheses = _beam(ForcedPrefix([9, 6]), beam_size=8)
    assert len(hypotheses) == 8
    assert {tuple(h.tokens[:2]) for h in hypotheses} == {(9, 6)}


def test_a_forced_prefix_may_repeat_tokens_and_end_at_max_len() -> None:
    for best in _all(ForcedPrefix([9, 9, 9]), max_len=3):
        assert best.tokens == [9, 9, 9]


def test_scores_are_not_renormalised() -> None:
    """The log-probabilities of what is written are those without the constraint."""
    (constrained, *_) = _beam(BannedTokens([11]))
    (free, *_) = _beam()
    assert constrained == free
    forced = _greedy(BannedTokens([5]))
    assert forced.token_logprobs[0] == pytest.approx(math.log(0.1 / 11))


def test_constraints_hold_together() -> None:
    for best in _all(AllowedTokens([5, 6, 9], EOS), BannedTokens([6]), ForcedPrefix([9])):
        assert best.tokens[0] == 9
        assert set(best.tokens) <= {5, 9}


def test_the_decoders_scores_are_left_as_they_are() -> None:
    scores = torch.randn(2, 6, dtype=torch.float64)
    before = scores.clone()
    for constraint in (AllowedTokens([3], EOS), BannedTokens([3]), ForcedPrefix([3, 4])):
        constraint(scores, [(), (3,)])
        assert torch.equal(scores, before)


def test_forced_tokens_follow_the_length_of_each_hypothesis() -> None:
    scores = torch.zeros(3, 6)
    result = ForcedPrefix([3, 4])(scores, [(), (3,), (3, 4)])
    possible = [row.nonzero()[:, 0].tolist() for row in result.exp()]
    assert possible == [[3], [4], [0, 1, 2, 3, 4, 5]]


# Errors


def test_constraints_that_leave_no_token_are_an_error() -> None:
    nothing = [AllowedTokens([5], EOS), BannedTokens([5, EOS])]
    message = "leave no token at the beginning of the text"
    with pytest.raises(ConfigError, match=message):
        _greedy(*nothing)
    with pytest.raises(ConfigError, match=message):
        _beam(*nothing)


def test_a_dead_end_later_on_is_an_error_that_names_the_place() -> None:
    blocked = [ForcedPrefix([5, 6, 7]), BannedTokens([7])]
    for search in (_greedy, _beam):
        with pytest.raises(ConfigError, match=r"no token after the tokens \[5, 6\]"):
            search(*blocked)


class _OnlyEven:
    """Leaves a hypothesis that has an odd token nothing."""

    def __call__(self, scores: Tensor, prefixes: Sequence[Sequence[int]]) -> Tensor:
        dead = [any(token % 2 for token in prefix) for prefix in prefixes]
        return scores.masked_fill(torch.tensor(dead)[:, None], -math.inf)


def test_a_dead_end_of_one_hypothesis_is_the_end_of_that_one() -> None:
    """The likeliest beginning, 5, leads nowhere; a beam goes on with the others."""
    assert all(not any(token % 2 for token in h.tokens) for h in _beam(_OnlyEven()))
    with pytest.raises(ConfigError, match=r"after the tokens \[5\]"):
        _greedy(_OnlyEven())


@pytest.mark.parametrize("token", [-1, 12])
def test_a_token_outside_the_vocabulary_is_an_error(token: int) -> None:
    for constraint in (
        AllowedTokens([5, token], EOS),
        BannedTokens([5, token]),
        ForcedPrefix([5, token]),
    ):
        with pytest.raises(ConfigError, match=rf"token {token}, but the vocabulary has 12"):
            _greedy(constraint)


# With scorers


def test_constraints_hold_over_the_joint_score() -> None:
    frames = random_frames(6, 12, seed=4)
    for weight in (0.5, 1.0):
        scorer = WeightedScorer(CtcPrefixScorer([frames], BLANK, EOS), weight)
        options = SearchOptions(4, EOS, constraints=[BannedTokens([5]), ForcedPrefix([7])])
        decoder = TableDecoder([scripted_row(SCRIPT)])
        for h in BeamSearch(options, scorers=[scorer]).run(decoder, [9])[0]:
            assert h.tokens[0] == 7
            assert 5 not in h.tokens
            assert h.score > -math.inf


@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_a_forced_prefix_that_the_frames_cannot_say_is_left_to_the_decoder(
    beam_size: int, weight: float
) -> None:
    """The row's text goes on to the decoder's EOS; the other row has frames enough."""
    frames = [random_frames(n, 12, seed=4) for n in (2, 9)]
    forced = [5, 6, 9]

    def search(rows: Sequence[int]) -> list[list[Hypothesis]]:
        scorer = CtcPrefixScorer([frames[row] for row in rows], BLANK, EOS)
        options = SearchOptions(beam_size, EOS, constraints=[ForcedPrefix(forced)])
        decoder = TableDecoder([scripted_row(SCRIPT)] * len(rows))
        run = BeamSearch(options, scorers=[WeightedScorer(scorer, weight)])
        return run.run(decoder, [9] * len(rows))

    short, long = search([0, 1])
    assert (short[0].tokens, short[0].finished) == ([5, 6, 9, 8], True)
    assert -math.inf < short[0].score < 0.0
    assert [h.tokens for h in short] == [h.tokens for h in search([0])[0]]
    assert [h.tokens for h in long] == [h.tokens for h in search([1])[0]]
    assert all(h.tokens[:3] == forced for h in (*short, *long))


def test_without_eos_the_decoder_goes_on_where_the_frames_end() -> None:
    scorer = WeightedScorer(CtcPrefixScorer([random_frames(2, 12, seed=4)], BLANK, EOS), 0.5)
    options = SearchOptions(3, EOS, constraints=[BannedTokens([EOS])])
    (found,) = BeamSearch(options, scorers=[scorer]).run(TableDecoder([scripted_row(SCRIPT)]), [7])
    assert {(len(h.tokens), h.stop_reason) for h in found} == {(7, "length")}


def test_constraints_without_a_token_are_an_error_with_scorers_too() -> None:
    scorer = WeightedScorer(CtcPrefixScorer([random_frames(2, 12, seed=4)], BLANK, EOS), 0.5)
    options = SearchOptions(4, EOS, constraints=[ForcedPrefix([7, 8]), BannedTokens([8])])
    decoder = TableDecoder([scripted_row(SCRIPT)])
    with pytest.raises(ConfigError, match=r"no token after the tokens \[7\]"):
        BeamSearch(options, scorers=[scorer]).run(decoder, [9])
