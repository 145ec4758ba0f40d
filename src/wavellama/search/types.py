"""What a search needs from a decoder, and what it returns.

Shapes: N rows, B hypotheses of all rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

StopReason: TypeAlias = Literal["eos", "length", "repetition", "context"]
"""``context`` is ``eos`` after less context than a streaming model reads: more had no room."""


@dataclass(frozen=True)
class Hypothesis:
    """One transcription of a row, as tokens."""

    tokens: list[int]
    """Token ids, without BOS, EOS and padding."""

    score: float
    """The sum of the log-probabilities, or their mean with length normalisation; with scorers
    (``search.scorers``), that of the joint scores of decoder and scorers."""

    token_logprobs: list[float]
    """The decoder's log-probability of each emitted token: of those in ``tokens``, of the final EOS
    where there is one, and of a BOS or padding token should the model emit one."""

    finished: bool
    """Whether it ended with EOS."""

    stop_reason: StopReason
    """Why it ended: ``eos``, ``length``, ``repetition`` or ``context``."""


class StepDecoder(Protocol):
    """A decoder as a search sees it: next-token log-probabilities of a list of hypotheses.

    The hypotheses of a row are adjacent in the list, in the order of the rows. After ``prefill``
    the list has one empty hypothesis per row.
    """

    def prefill(self) -> Tensor:
        """Read the prompts; return log-probabilities of each row's first token. (N, V)."""
        ...

    def reorder(self, parents: list[int]) -> None:
        """Replace the list: new hypothesis i continues the old hypothesis ``parents[i]``.

        A hypothesis may be continued several times or not at all; a row without any is dropped.
        """
        ...

    def step(self, tokens: list[int]) -> Tensor:
        """Append one token to each hypothesis; return the next log-probabilities. (B, V)."""
        ...


@runtime_checkable
class Follower(Protocol):
    """A decoder that follows the likeliest tokens by itself, without the host choosing each."""

    steps_ahead: int
    """How many tokens it follows at a time; 1 where nobody waits for the host's choice."""

    def follow(self, log_probs: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
        """Let each hypothesis go on by its likeliest tokens, of which the last is not read yet.

        :param log_probs: of the next token of each hypothesis. *Shape:* (B, V).
        :returns: the tokens and their log-probabilities. *Shape of each:* (B, num_tokens).
        """
        ...


class Verifier(Protocol):
    """A decoder as a search with drafts sees it: it reads several tokens of a row in one call."""

    def prefill(self) -> Tensor:
        """Read the prompts; return log-probabilities of each row's first token. (N, V)."""
        ...

    def verify(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Read tokens of each row; return the log-probabilities after each of them. (N, K, V).

        :param tokens: at least one per row; K is the most. What is returned beyond a row's own
            tokens means nothing.
        """
        ...

    def accept(self, counts: Sequence[int]) -> None:
        """Keep the first tokens of what was just read, of each row at least one."""
        ...

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        ...
