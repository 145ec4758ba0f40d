"""Scorers: what rates hypotheses beside the decoder.

Shapes: N rows, B hypotheses of all rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias, final

from torch import Tensor

from wavellama.errors import ConfigError
from wavellama.search.joined import JoinedDecoder
from wavellama.search.types import StepDecoder

Scorer: TypeAlias = StepDecoder
"""A scorer is used as a decoder is, over the same vocabulary; what it says of the next tokens need
not sum to one. A second decoder, such as a language model, can be a scorer as it is."""


class WeightedScorer(NamedTuple):
    """A scorer and what it counts in the joint score."""

    scorer: Scorer

    weight: float
    """Above 0."""

    is_additive: bool = False
    """Whether the weighted scores are added to those of the decoder, which keeps its own weight.
    Otherwise ``weight`` is a share of the joint score: the decoder has what all shares leave of 1.
    """


ScorerFactory: TypeAlias = Callable[[int], WeightedScorer]
"""Creates a scorer for a search of so many rows."""


class StepScores(NamedTuple):
    """What may follow each hypothesis."""

    log_probs: Tensor
    """The decoder's log-probabilities. *Shape:* (B, V)."""

    joint: Tensor
    """What the search ranks by: the weighted sum of decoder and scorers. *Shape:* (B, V)."""


@final
class JointDecoder:
    """A decoder and scorers, moved on together."""

    def __init__(self, decoder: StepDecoder, scorers: Sequence[WeightedScorer]) -> None:
        """:param scorers: the shares among their weights sum to 1 at most."""
        self._decoder = JoinedDecoder(decoder)
        self._scorers = [
            (JoinedDecoder(one.scorer), one.weight, one.is_additive) for one in scorers
        ]
        shares = [weight for _, weight, is_additive in scorers if not is_additive]
        self._decoder_weight = 1.0 - sum(shares)

    def prefill(self) -> StepScores:
        """Begin; return the scores of each row's first token. (N, V)."""
        others = [scorer.prefill() for scorer, _, _ in self._scorers]
        return self._join(self._decoder.prefill(), others)

    def join(self, other: JointDecoder) -> None:
        """List the hypotheses of another one, which has the same scorers, behind its own."""
        self._decoder.join(other._decoder)
        for (own, *_), (behind, *_) in zip(self._scorers, other._scorers, strict=True):
            own.join(behind)

    def reorder(self, parents: list[int]) -> None:
        """Replace the list: new hypothesis i continues the old hypothesis ``parents[i]``."""
        self._decoder.reorder(parents)
        for scorer, _, _ in self._scorers:
            scorer.reorder(parents)

    def step(self, tokens: list[int]) -> StepScores:
        """Append one token to each hypothesis; return the next scores. (B, V)."""
        others = [scorer.step(tokens) for scorer, _, _ in self._scorers]
        return self._join(self._decoder.step(tokens), others)

    def _join(self, log_probs: Tensor, others: Sequence[Tensor]) -> StepScores:
        if not others:
            return StepScores(log_probs, log_probs)
        parts: list[Tensor] = []
        for scores, (_, weight, is_additive) in zip(others, self._scorers, strict=True):
            # What is added comes from a table on the CPU, not from the model.
            part = _fitted(scores, log_probs) if is_additive else scores
            parts.append(part * weight)
        if self._decoder_weight > 0.0:  # 0 times -inf is not a number
            parts.append(log_probs * self._decoder_weight)
        joint = parts[0]
        for part in parts[1:]:
            joint = joint + part
        return StepScores(log_probs, joint)


def _fitted(scores: Tensor, log_probs: Tensor) -> Tensor:
    """Return ``scores`` in the type and on the device of ``log_probs``.

    :raises ConfigError: they are about another vocabulary.
    """
    if scores.shape != log_probs.shape:
        raise ConfigError(
            f"The decoder has {log_probs.size(1)} tokens, but hotwords and language model were"
            f" made for a tokenizer of {scores.size(1)}; use the model's own tokenizer."
        )
    return scores.to(log_probs)
