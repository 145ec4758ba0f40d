"""Fusion with an n-gram model of words, against the scores of whole sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile

import pytest
import torch
from torch import Tensor

from tests.fakes import EOS, LogProbs, TableDecoder, enumerate_paths, prefix_row
from tests.property.textbook import beam_of, naive_beam
from wavellama.search.beam import BeamSearch, SearchOptions
from wavellama.search.biasing import Joints
from wavellama.search.ngram import NgramScorer, Pieces, WordModel
from wavellama.search.scorers import WeightedScorer
from wavellama.search.types import Hypothesis

ARPA = """\\data\\
ngram 1=6
ngram 2=4

\\1-grams:
-1.5\t<unk>
-99\t<s>\t-0.3
-0.8\t</s>
-0.7\tthe\t-0.2
-0.9\tcat\t-0.1
-1.0\tcut

\\2-grams:
-0.2\t<s> the
-0.3\tthe cat
-1.9\tthe cut
-0.4\tcat </s>

\\end\\
"""
"""A bigram model in which cats are likelier than cuts."""


class ArpaModel:
    """A bigram model with the methods of ``kenlm.Model``; a state is a list of the last word."""

    def __init__(self, arpa: str) -> None:
        lines = [line.split("\t") for line in arpa.splitlines() if "\t" in line]
        self._log_probs = {tuple(line[1].split()): float(line[0]) for line in lines}
        self._backoffs = {tuple(line[1].split()): float(line[2]) for line in lines if line[2:]}
        self.asked: list[str] = []

    def BeginSentenceWrite(self, state: list[str], /) -> None:
        state[:] = ["<s>"]

    def BaseScore(self, before: list[str], word: str, after: list[str], /) -> float:
        self.asked.append(word)
        known = word if (word,) in self._log_probs else "<unk>"
        after[:] = [known]
        pair = (*before, known)
        if pair in self._log_probs:
            return self._log_probs[pair]
        return self._backoffs.get(tuple(before), 0.0) + self._log_probs[(known,)]


def word_model(arpa: str = ARPA) -> WordModel:
    return WordModel(ArpaModel(arpa), list)


SPACE, THE, CAT, CUT, S, DOG, HAN = range(3, 10)
TEXTS = ["", "", "", " ", "the", " cat", " cut", "s", "dog", "漢"]
VOCAB_SIZE = len(TEXTS)
PIECES = Pieces(TEXTS, Joints([0, 0, 0, 0, 1, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1, 1, 1, 1, 0]), EOS)


def _sentence_score(words: Sequence[str]) -> float:
    """Return the natural log-probability of the words of a sentence."""
    model, state, total = ArpaModel(ARPA), ["<s>"], 0.0
    for word in words:
        after = list[str]()
        total += model.BaseScore(state, word, after)
        state = after
    return total * math.log(10)


def _words(tokens: Sequence[int]) -> list[str]:
    """Return the words of a text, the last one included."""
    written = takewhile(lambda token: token != EOS, tokens)
    return "".join(f" {TEXTS[i]} " if i == HAN else TEXTS[i] for i in written).split()


def _score(tokens: Sequence[int], bonus: float) -> float:
    """Return the log-probability and the bonuses of the words that have ended."""
    words = _words(tokens)
    if EOS in tokens:
        return _sentence_score([*words, "</s>"]) + bonus * len(words)
    if tokens and TEXTS[tokens[-1]] not in ("", " "):  # the last word may go on, or end here
        words = words[:-1]
    return _sentence_score(words) + bonus * len(words)


def _fused(row: LogProbs, weight: float, bonus: float = 0.0) -> LogProbs:
    """Return a row whose scores are those of the search with the language model."""

    def scores(tokens: tuple[int, ...]) -> Tensor:
        given = _score(tokens, bonus)
        gains = [_score((*tokens, token), bonus) - given for token in range(VOCAB_SIZE)]
        return row(tokens) + torch.tensor(gains, dtype=torch.float64) * weight

    return scores


def _search(
    rows: Sequence[LogProbs],
    weight: float,
    *,
    bonus: float = 0.0,
    beam_size: int = 3,
    max_len: int = 6,
) -> list[list[Hypothesis]]:
    scorer = NgramScorer(word_model(), PIECES, len(rows), bonus)
    scorers = [WeightedScorer(scorer, weight, is_additive=True)]
    search = BeamSearch(SearchOptions(beam_size, EOS), scorers=scorers)
    return search.run(TableDecoder(rows), [max_len] * len(rows))


@pytest.mark.parametrize("beam_size", [1, 2, 5])
@pytest.mark.parametrize(("seed", "bonus"), [(i, i % 3 * 1.5) for i in range(9)])
def test_a_beam_equals_the_textbook(seed: int, bonus: float, beam_size: int) -> None:
    row = _writing(prefix_row(VOCAB_SIZE, seed))
    (found,) = _search([row], 0.4, bonus=bonus, beam_size=beam_size)
    expected = naive_beam(_fused(row, 0.4, bonus), 6, beam_size, length_norm=False)
    assert [beam_of(h) for h in found] == [tokens for tokens, _ in expected]
    assert [h.score for h in found] == pytest.approx([score for _, score in expected])


def test_a_wide_beam_finds_everything_in_order() -> None:
    row = _writing(prefix_row(VOCAB_SIZE, 3))
    (found,) = _search([row], 0.3, beam_size=2000, max_len=3)
    paths = [p for p in enumerate_paths(_fused(row, 0.3), 3, VOCAB_SIZE) if p.score() > -math.inf]
    assert len(found) == len(paths) > 300
    expected = sorted((path.score() for path in paths), reverse=True)
    assert [h.score for h in found] == pytest.approx(expected)


def _writing(row: LogProbs) -> LogProbs:
    """Return a row that writes no control token but EOS."""

    def log_probs(tokens: tuple[int, ...]) -> Tensor:
        return row(tokens).index_fill(0, torch.tensor([0, 1]), -math.inf)

    return log_probs


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([], []),
        ([THE, CAT], ["the", "cat"]),
        ([THE, CAT, S], ["the", "cats"]),
        ([SPACE, THE, SPACE, SPACE, DOG, SPACE], ["the", "dog"]),
        ([HAN, HAN, S, HAN], ["漢", "漢", "s", "漢"]),
    ],
)
def test_a_finished_text_has_the_score_of_the_sentence(tokens: list[int], words: list[str]) -> None:
    scorer, total = NgramScorer(word_model(), PIECES, 1), 0.0
    scores = scorer.prefill()
    for token in tokens:
        total += scores[0, token].item()
        scorer.reorder([0])
        scores = scorer.step([token])
    total += scores[0, EOS].item()
    assert total == pytest.approx(_sentence_score([*words, "</s>"]))


def test_a_word_is_scored_where_the_next_one_begins() -> None:
    scorer = NgramScorer(word_model(), PIECES, 1)
    assert scorer.prefill()[0].count_nonzero() == 1  # the end of an empty sentence
    the = -0.2 * math.log(10)
    (scores,) = scorer.step([THE])
    assert scores[[SPACE, CAT, CUT, HAN]].tolist() == pytest.approx([the] * 4)
    assert scores[[THE, S, DOG]].tolist() == [0.0] * 3
    assert scores[EOS].item() == pytest.approx(the + (-0.2 - 0.8) * math.log(10))


def test_the_model_is_asked_twice_per_hypothesis_and_step() -> None:
    """The word, and the end of the sentence: not once for each token."""
    ngrams = ArpaModel(ARPA)
    scorer = NgramScorer(WordModel(ngrams, list), PIECES, 2)
    scorer.prefill()
    assert ngrams.asked == ["</s>"] * 2
    scorer.step([THE, DOG])
    assert ngrams.asked[2:] == ["the", "</s>", "dog", "</s>"]


def test_hypotheses_fork_without_meeting() -> None:
    scorer = NgramScorer(word_model(), PIECES, 1)
    scorer.prefill()
    scorer.step([THE])
    scorer.reorder([0, 0])
    cat, cut = scorer.step([CAT, CUT])[:, SPACE].tolist()
    assert cat == pytest.approx(-0.3 * math.log(10))
    assert cut == pytest.approx(-1.9 * math.log(10))


def _ambiguous(cat: float) -> LogProbs:
    """Return a row that writes "the", then "cat" with a probability, else "cut"."""
    steps: list[dict[int, float]] = [{THE: 1.0}, {CAT: cat, CUT: 1.0 - cat}, {EOS: 1.0}]

    def log_probs(tokens: tuple[int, ...]) -> Tensor:
        probs = torch.full((VOCAB_SIZE,), 1e-12, dtype=torch.float64)
        for token, p in steps[min(len(tokens), 2)].items():
            probs[token] = p
        return probs.log()

    return log_probs


@pytest.mark.parametrize(
    ("weight", "cat", "best"), [(1e-9, 0.4, CUT), (0.3, 0.4, CAT), (0.3, 0.01, CUT)]
)
def test_the_language_model_decides_what_the_decoder_leaves_open(
    weight: float, cat: float, best: int
) -> None:
    hypotheses = _search([_ambiguous(cat)], weight)[0]
    assert hypotheses[0].tokens == [THE, best]
    own = math.log(cat if best == CAT else 1.0 - cat)
    assert sum(hypotheses[0].token_logprobs) == pytest.approx(own)


@pytest.mark.parametrize(("bonus", "tokens"), [(0.0, [THE]), (4.0, [THE, DOG])])
def test_a_bonus_makes_up_for_the_cost_of_a_word(bonus: float, tokens: list[int]) -> None:
    """Where the decoder finds the end as likely as a word that the model does not know."""
    even = {(): {THE: 1.0}, (THE,): {EOS: 0.5, SPACE: 0.5}, (THE, SPACE): {DOG: 1.0}}

    def row(so_far: tuple[int, ...]) -> Tensor:
        probs = torch.full((VOCAB_SIZE,), 1e-12, dtype=torch.float64)
        for token, p in even.get(so_far, {EOS: 1.0}).items():
            probs[token] = p
        return probs.log()

    best = _search([row], 0.5, bonus=bonus)[0][0]
    assert [token for token in best.tokens if token != SPACE] == tokens


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0], [1]])
def test_rows_do_not_know_of_each_other(order: list[int]) -> None:
    rows = [_writing(prefix_row(VOCAB_SIZE, seed)) for seed in range(3)]
    together = _search(rows, 0.4)
    assert _search([rows[i] for i in order], 0.4) == [together[i] for i in order]
