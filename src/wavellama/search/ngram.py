"""Shallow fusion with an n-gram language model of words.

Shapes: N rows, B hypotheses of all rows, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, final

import torch
from torch import Tensor

from wavellama.search.biasing import Joints

END_OF_SENTENCE: Final = "</s>"

_LN_10: Final = math.log(10.0)


State: TypeAlias = Any
"""What a language model knows of the words so far, in its own form."""


class Ngrams(Protocol):
    """The part of ``kenlm.Model`` that is used."""

    def BeginSentenceWrite(self, state: State, /) -> None:  # noqa: N802
        """Write the state at the beginning of a sentence to ``state``."""
        ...

    def BaseScore(self, before: State, word: str, after: State, /) -> float:  # noqa: N802
        """Return the log10-probability of ``word``; write the state after it to ``after``."""
        ...


@dataclass(frozen=True)
class WordModel:
    """A language model of words."""

    ngrams: Ngrams

    create_state: Callable[[], State]
    """Returns a state to write to, such as ``kenlm.State``."""

    def begin(self) -> State:
        """Return the state at the beginning of a sentence."""
        state = self.create_state()
        self.ngrams.BeginSentenceWrite(state)
        return state

    def follow(self, state: State, word: str) -> tuple[float, State]:
        """Return the natural log-probability of ``word`` after a state, and the state after it."""
        after = self.create_state()
        return self.ngrams.BaseScore(state, word, after) * _LN_10, after


@dataclass(frozen=True)
class Pieces:
    """What tokens write."""

    texts: Sequence[str]
    """The text of each token, spaces included."""

    joints: Joints
    """The ends of words; a space belongs to no word."""

    eos_idx: int


class _Text(NamedTuple):
    """The end of a hypothesis."""

    before: State
    """The language model's state before the last word."""

    word: str
    """The last word, as far as it is written; may be empty."""

    end: int
    """The number of the last token's end (see ``Joints``)."""


class _Ending(NamedTuple):
    """What follows if the last word of a hypothesis ends."""

    score: float
    """The log-probability and the bonus of the word; 0 where there is none."""

    after: State
    """The language model's state."""

    eos_score: float
    """``score`` and the log-probability of the end of the sentence."""


@final
class NgramScorer:
    """Scores each word by its log-probability, at the token with which the next one begins.

    The scores of a whole text, up to EOS, sum to the log-probability of the sentence and the
    bonuses of its words. All tokens that end a word have the same score, and all that go on with it
    have none. (It is a ``search.scorers.Scorer``, to be added to the decoder's scores.)
    """

    def __init__(
        self, model: WordModel, pieces: Pieces, num_rows: int, word_bonus: float = 0.0
    ) -> None:
        """
        :param word_bonus: what each word has in addition to its log-probability. As that is
            negative, texts of few words would win without it.
        """
        self._model, self._pieces, self._num_rows = model, pieces, num_rows
        self._word_bonus = word_bonus
        self._texts: list[_Text] = []
        self._endings: list[_Ending] = []

    def prefill(self) -> Tensor:
        """Begin with one empty hypothesis per row; return the scores of its first token. (N, V)."""
        self._texts = [_Text(self._model.begin(), "", 0)] * self._num_rows
        return self._scores()

    def reorder(self, parents: list[int]) -> None:
        """Replace the list: new hypothesis i continues the old hypothesis ``parents[i]``."""
        self._texts = [self._texts[parent] for parent in parents]
        self._endings = [self._endings[parent] for parent in parents]

    def step(self, tokens: list[int]) -> Tensor:
        """Append one token to each hypothesis; return the scores of the next one. (B, V)."""
        triples = zip(self._texts, self._endings, tokens, strict=True)
        self._texts = [self._append(text, ending, token) for text, ending, token in triples]
        return self._scores()

    def _append(self, text: _Text, ending: _Ending, token: int) -> _Text:
        piece, joints = self._pieces.texts[token].strip(), self._pieces.joints
        if joints.goes_on(text.end, token):
            return _Text(text.before, text.word + piece, joints.ends[token])
        return _Text(ending.after, piece, joints.ends[token])

    def _scores(self) -> Tensor:
        self._endings = [self._find_ending(text) for text in self._texts]
        scores = torch.tensor([ending.score for ending in self._endings], dtype=torch.float64)
        going_on = self._pieces.joints.going_on([text.end for text in self._texts])
        scores = scores[:, None].masked_fill(going_on, 0.0)  # (B, V)
        eos_scores = [ending.eos_score for ending in self._endings]
        scores[:, self._pieces.eos_idx] = torch.tensor(eos_scores, dtype=torch.float64)
        return scores

    def _find_ending(self, text: _Text) -> _Ending:
        score, after = 0.0, text.before
        if text.word:
            log_prob, after = self._model.follow(text.before, text.word)
            score = log_prob + self._word_bonus
        end_score, _ = self._model.follow(after, END_OF_SENTENCE)
        return _Ending(score, after, score + end_score)
