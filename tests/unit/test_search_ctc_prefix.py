"""The CTC prefix score, case by case, and how it joins the decoder's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.fakes import EOS, TableDecoder, prefix_row, scripted_row
from tests.fakes_ctc import BLANK, random_frames, text_probs
from wavellama.errors import DecodingError
from wavellama.search.beam import BeamSearch, SearchOptions
from wavellama.search.ctc_prefix import CtcPrefixScorer
from wavellama.search.scorers import WeightedScorer
from wavellama.search.stopping import RepetitionGuard
from wavellama.search.types import Hypothesis

VOCAB_SIZE = 6


def _frames(*tokens: int, p: float = 0.999_999) -> Tensor:
    """Return the log-probabilities of frames that say one token each. (S, V)."""
    probs = torch.full((len(tokens), VOCAB_SIZE), (1 - p) / (VOCAB_SIZE - 1), dtype=torch.float64)
    probs[torch.arange(len(tokens)), list(tokens)] = p
    return probs.log()


def _totals(frames: Tensor, *tokens: int) -> Tensor:
    """Return the log-probability of ``tokens`` with each further token. (V)."""
    scorer = CtcPrefixScorer([frames], BLANK, EOS)
    scores, total = scorer.prefill(), 0.0
    for token in tokens:
        total += scores[0, token].item()
        scorer.reorder([0])
        scores = scorer.step([token])
    return scores[0] + total


def _search(
    frames: list[Tensor], weight: float, beam_size: int, decoder: TableDecoder, max_len: int = 9
) -> list[list[Hypothesis]]:
    scorer = WeightedScorer(CtcPrefixScorer(frames, BLANK, EOS), weight)
    search = BeamSearch(SearchOptions(beam_size, EOS), scorers=[scorer])
    return search.run(decoder, [max_len] * len(frames))


def test_eos_after_nothing_is_silence() -> None:
    frames = random_frames(4, VOCAB_SIZE, seed=3)
    assert _totals(frames)[EOS].item() == pytest.approx(frames[:, BLANK].sum().item())


def test_the_blank_is_no_token() -> None:
    frames = random_frames(4, VOCAB_SIZE, seed=3)
    assert _totals(frames)[BLANK] == _totals(frames, 4)[BLANK] == -math.inf


def test_a_token_is_repeated_only_after_a_blank() -> None:
    assert _totals(_frames(4, 4, 4), 4)[EOS].exp() > 0.99
    assert _totals(_frames(4, 4, 4), 4)[4].exp() < 0.01
    assert _totals(_frames(4, BLANK, 4), 4)[4].exp() > 0.99
    assert _totals(_frames(4, BLANK, 4), 4)[EOS].exp() < 0.01


def test_two_frames_cannot_say_the_same_token_twice() -> None:
    frames = random_frames(2, VOCAB_SIZE, seed=3)
    assert _totals(frames, 4)[4] == -math.inf
    assert _totals(frames, 4)[5] > -math.inf


@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_no_more_tokens_than_frames(num_frames: int) -> None:
    tokens = [4, 5, 4, 5, 4][:num_frames]
    totals = _totals(random_frames(num_frames, VOCAB_SIZE, seed=3), *tokens)
    assert totals[EOS] > -math.inf
    assert torch.isneginf(torch.cat([totals[:EOS], totals[EOS + 1 :]])).all()


def test_an_impossible_hypothesis_stays_impossible() -> None:
    """Its scores are -inf, not the difference of two infinities."""
    scorer = CtcPrefixScorer([_frames(4)], BLANK, EOS)
    scorer.prefill()
    for token in (4, 5, 4):
        scorer.reorder([0])
        scores = scorer.step([token])
        if token == 4:
            continue
        assert torch.isneginf(scores).all()


def test_a_token_that_is_ruled_out_for_certain_does_no_harm() -> None:
    """exp(-200) is 0 in float32."""
    frames = torch.full((3, VOCAB_SIZE), -200.0)
    frames[[0, 1, 2], [4, BLANK, 5]] = 0.0
    totals = _totals(frames, 4)
    assert totals[5].item() == pytest.approx(0.0, abs=1e-6)
    assert not torch.isnan(_totals(frames, 3, 4)).any()


def test_long_audio_keeps_its_precision() -> None:
    """3000 frames: the sums over frames reach -10000 and more. Against torch's CTC loss."""
    frames = random_frames(3000, VOCAB_SIZE, seed=1, sharpness=4.0)
    tokens = [3 + i % 3 for i in range(400)]
    total = _totals(frames.float(), *tokens)[EOS].item()
    expected = -torch.nn.functional.ctc_loss(
        *(frames[:, None], torch.tensor([tokens]), torch.tensor([3000]), torch.tensor([400])),
        blank=BLANK,
        reduction="sum",
    ).item()
    assert expected < -1000
    assert total == pytest.approx(expected, abs=1e-3)


def test_the_precision_of_float32_frames() -> None:
    frames = random_frames(200, VOCAB_SIZE, seed=5)
    double, single = _totals(frames, 3, 4, 4, 5), _totals(frames.float(), 3, 4, 4, 5)
    assert torch.allclose(double, single, atol=1e-4, rtol=0)


def test_prefill_begins_anew() -> None:
    scorer = CtcPrefixScorer([_frames(4, 5)], BLANK, EOS)
    first = scorer.prefill()
    scorer.reorder([0, 0])
    scorer.step([4, 5])
    assert torch.equal(scorer.prefill(), first)


# With a decoder


def test_ctc_keeps_the_decoder_from_stopping_early() -> None:
    """A decoder that finds EOS likelier than any token, at each step."""
    frames = [_frames(3, 4, BLANK, 4, 5)]
    hasty = TableDecoder([scripted_row([EOS], VOCAB_SIZE, p=0.5)])
    assert _search(frames, 0.3, 3, hasty)[0][0].tokens == [3, 4, 4, 5]


def test_ctc_keeps_the_decoder_from_looping() -> None:
    frames = [_frames(3, 4, BLANK, 4, 5)]
    loop = TableDecoder([scripted_row([3], VOCAB_SIZE, p=0.9)])
    ((best, *_),) = _search(frames, 0.5, 3, loop)
    assert (best.tokens, best.stop_reason) == ([3, 4, 4, 5], "eos")


def test_the_score_is_joint_and_the_log_probabilities_are_the_decoders() -> None:
    frames, row = random_frames(3, VOCAB_SIZE, seed=2), prefix_row(VOCAB_SIZE, seed=2)
    texts = text_probs(frames)
    (hypotheses,) = _search([frames], 0.3, 8, TableDecoder([row]))
    assert len(hypotheses) == 8
    for h in hypotheses:
        emitted = [*h.tokens, EOS]
        expected = [row(tuple(emitted[:i]))[token].item() for i, token in enumerate(emitted)]
        assert h.token_logprobs == pytest.approx(expected)
        ctc = math.log(texts[tuple(h.tokens)])
        assert h.score == pytest.approx(0.7 * sum(expected) + 0.3 * ctc)


def test_a_cut_hypothesis_has_the_joint_score_at_the_cut() -> None:
    """The score of a prefix, for it has not ended."""
    frames = _frames(*[5, BLANK] * 30, p=0.9)
    loop = TableDecoder([scripted_row([5], VOCAB_SIZE, p=0.99)])
    scorer = WeightedScorer(CtcPrefixScorer([frames], BLANK, EOS), 0.4)
    options = SearchOptions(1, EOS, guard=RepetitionGuard(20, 2.0))
    ((best,),) = BeamSearch(options, scorers=[scorer]).run(loop, [40])
    assert (best.tokens, best.stop_reason) == ([5], "repetition")
    ctc = _totals(frames)[5].item()
    assert best.score == pytest.approx(0.6 * math.log(0.99) + 0.4 * ctc)


def test_at_weight_one_the_decoder_has_no_say() -> None:
    """Not even where it finds a token impossible."""
    frames = [_frames(3, 4, BLANK, 4, 5)]
    impossible = torch.full((VOCAB_SIZE,), -math.inf, dtype=torch.float64)
    ((best, *_),) = _search(frames, 1.0, 3, TableDecoder([lambda tokens: impossible]))
    assert best.tokens == [3, 4, 4, 5]


def test_scorers_share_the_score() -> None:
    """Two halves of a scorer are one; a second decoder can be a scorer, too."""
    frames, rows = random_frames(3, VOCAB_SIZE, seed=2), [prefix_row(VOCAB_SIZE, seed=2)]
    whole = _search([frames], 0.6, 4, TableDecoder(rows))
    halves = [WeightedScorer(CtcPrefixScorer([frames], BLANK, EOS), 0.3) for _ in range(2)]
    search = BeamSearch(SearchOptions(4, EOS), scorers=halves)
    (together,) = search.run(TableDecoder(rows), [9])
    assert [h.tokens for h in together] == [h.tokens for h in whole[0]]
    assert [h.score for h in together] == pytest.approx([h.score for h in whole[0]])
    twin = BeamSearch(SearchOptions(4, EOS), scorers=[WeightedScorer(TableDecoder(rows), 0.3)])
    alone = BeamSearch(SearchOptions(4, EOS)).run(TableDecoder(rows), [9])[0]
    assert [h.tokens for h in twin.run(TableDecoder(rows), [9])[0]] == [h.tokens for h in alone]


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_nan_of_the_decoder_is_an_error_at_any_weight(weight: float) -> None:
    unknown = torch.full((VOCAB_SIZE,), math.nan, dtype=torch.float64)
    with pytest.raises(DecodingError, match="NaN"):
        _search([_frames(3, 4)], weight, 2, TableDecoder([lambda tokens: unknown]))


def test_nan_of_a_scorer_is_an_error() -> None:
    frames = random_frames(3, VOCAB_SIZE, seed=2)
    frames[1, 4] = math.nan
    with pytest.raises(DecodingError, match="NaN"):
        _search([frames], 0.5, 2, TableDecoder([scripted_row([3], VOCAB_SIZE)]))
