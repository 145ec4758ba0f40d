"""Constraints: which tokens may follow a hypothesis.

A constraint takes tokens out of the choice; what remains keeps the scores that it had, without
renormalisation. Shapes: B hypotheses of all rows, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol, final

import torch
from torch import Tensor
from typing_extensions import override

from wavellama.errors import ConfigError


class Constraint(Protocol):
    """Says which tokens may follow; it knows the tokens so far, and nothing of the batch."""

    def __call__(self, scores: Tensor, prefixes: Sequence[Sequence[int]]) -> Tensor:
        """Return ``scores`` with -inf for each token that may not follow.

        :param scores: what the search ranks the next tokens by, to be left as it is. *Shape:*
            (B, V).
        :param prefixes: the tokens of each hypothesis so far.
        """
        ...


@final
class AllowedTokens(Constraint):
    """Allows certain tokens alone (those of one script, say), and EOS."""

    def __init__(self, tokens: Iterable[int], eos_idx: int) -> None:
        self._ids = _to_ids([*tokens, eos_idx])

    @override
    def __call__(self, scores: Tensor, prefixes: Sequence[Sequence[int]]) -> Tensor:
        ids = _index(self._ids, scores)
        return torch.full_like(scores, -math.inf).index_copy(1, ids, scores[:, ids])


@final
class BannedTokens(Constraint):
    """Allows all tokens but some. Where EOS is one of them, texts only end by their length."""

    def __init__(self, tokens: Iterable[int]) -> None:
        self._ids = _to_ids(tokens)

    @override
    def __call__(self, scores: Tensor, prefixes: Sequence[Sequence[int]]) -> Tensor:
        return scores.index_fill(1, _index(self._ids, scores), -math.inf)


@final
class ForcedPrefix(Constraint):
    """Lets every text begin with the same tokens, which are scored like any others."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens, self._ids = list(tokens), _to_ids(tokens)

    @override
    def __call__(self, scores: Tensor, prefixes: Sequence[Sequence[int]]) -> Tensor:
        _index(self._ids, scores)
        places = [i for i, prefix in enumerate(prefixes) if len(prefix) < len(self._tokens)]
        forced = [self._tokens[len(prefixes[place])] for place in places]
        result = scores.clone()
        result[places] = -math.inf
        result[places, forced] = scores[places, forced]
        return result


def apply_constraints(
    constraints: Iterable[Constraint], scores: Tensor, prefixes: Sequence[Sequence[int]]
) -> Tensor:
    """Return the scores of the tokens that all constraints allow, and -inf for the others. (B, V).

    :raises ConfigError: a constraint names a token that is not in the vocabulary.
    """
    for constraint in constraints:
        scores = constraint(scores, prefixes)
    return scores


def no_token_left(prefix: Sequence[int]) -> ConfigError:
    """Return the error of a row that constraints have brought to a dead end."""
    after = f"after the tokens {list(prefix)}" if prefix else "at the beginning of the text"
    return ConfigError(f"The constraints leave no token {after}; let them allow more.")


def _to_ids(tokens: Iterable[int]) -> Tensor:
    return torch.tensor(sorted(set(tokens)), dtype=torch.int64)


def _index(ids: Tensor, scores: Tensor) -> Tensor:
    """Return ids, which are sorted, on the device of the scores, where they have a column."""
    vocab_size = scores.size(1)
    for token in (*ids[:1].tolist(), *ids[-1:].tolist()):
        if not 0 <= token < vocab_size:
            raise ConfigError(
                f"A constraint names the token {token}, but the vocabulary has {vocab_size} tokens."
            )
    return ids.to(scores.device)
