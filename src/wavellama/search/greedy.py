"""Greedy search: the likeliest token at every step. Equals a beam search of one beam."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from wavellama.errors import NAN_FOUND, DecodingError
from wavellama.search.constraints import Constraint, apply_constraints, no_token_left
from wavellama.search.joined import JoinedDecoder
from wavellama.search.running import SearchRun
from wavellama.search.stopping import RepetitionGuard
from wavellama.search.types import Hypothesis, StepDecoder, StopReason


@dataclass
class Path:
    """The tokens of one row so far."""

    index: int
    max_len: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop_reason: StopReason | None = None


@dataclass(frozen=True)
class GreedyRules:
    """Which token follows, and where a path ends."""

    eos_idx: int
    length_norm: bool = False
    guard: RepetitionGuard | None = None
    constraints: Sequence[Constraint] = ()

    def choose(
        self, log_probs: Tensor, prefixes: Sequence[Sequence[int]]
    ) -> list[tuple[int, float]]:
        """Return the likeliest token after each prefix, and its log-probability.

        :param log_probs: *Shape:* (B, V).
        :raises DecodingError: the decoder produced NaN.
        """
        if bool(torch.isnan(log_probs).any()):
            raise DecodingError(NAN_FOUND)
        best = apply_constraints(self.constraints, log_probs, prefixes).max(-1)
        return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))

    def append(self, path: Path, token: int, logprob: float) -> None:
        """Let a path go on by a token, and end where it has to.

        :raises ConfigError: the constraints had left no token to choose.
        :raises DecodingError: the decoder produced NaN.
        """
        if math.isnan(logprob):
            raise DecodingError(NAN_FOUND)
        if self.constraints and logprob == -math.inf:
            raise no_token_left(path.tokens)
        path.tokens.append(token)
        path.logprobs.append(logprob)
        if token == self.eos_idx:
            path.stop_reason = "eos"
        elif self.guard and (keep := self.guard.cut(path.tokens)) is not None:
            del path.tokens[keep:], path.logprobs[keep:]
            path.stop_reason = "repetition"
        elif len(path.tokens) >= path.max_len:
            path.stop_reason = "length"

    def to_hypothesis(self, path: Path) -> Hypothesis:
        """Return an ended path as a result."""
        finished = path.stop_reason == "eos"
        tokens = path.tokens[:-1] if finished else path.tokens
        score = sum(path.logprobs) / (len(path.logprobs) if self.length_norm else 1)
        reason = path.stop_reason or "length"
        return Hypothesis(tokens, score, path.logprobs, finished, reason)


class GreedySearch(GreedyRules):
    """Follows the likeliest token of each row; a finished row leaves the batch."""

    def run(self, decoder: StepDecoder, max_lens: Sequence[int]) -> list[list[Hypothesis]]:
        """Return one hypothesis per row.

        :param max_lens: the most tokens that each row may emit, at least 1.
        :raises ConfigError: the constraints leave a row no token.
        :raises DecodingError: the decoder produced NaN.
        """
        return self.start(decoder, max_lens).finish()

    def start(self, decoder: StepDecoder, max_lens: Sequence[int]) -> GreedyRun:
        """Read the prompts; return the search before its first step. Otherwise as ``run``."""
        return GreedyRun(self, decoder, max_lens)


@final
class GreedyRun(SearchRun[Path]):
    """A greedy search between two steps."""

    def __init__(self, rules: GreedyRules, decoder: StepDecoder, max_lens: Sequence[int]) -> None:
        super().__init__([Path(i, max_len) for i, max_len in enumerate(max_lens)])
        self._rules, self._decoder = rules, JoinedDecoder(decoder)
        self._log_probs = self._decoder.prefill()

    @override
    def step(self) -> dict[int, list[Hypothesis]]:
        paths = self.rows
        for chosen in self._choose():
            for path, (token, logprob) in zip(paths, chosen, strict=True):
                if path.stop_reason is None:
                    self._rules.append(path, token, logprob)
        places = [i for i, path in enumerate(paths) if path.stop_reason is None]
        self.rows = [paths[i] for i in places]
        if self.rows:
            self._decoder.reorder(places)
            self._log_probs = self._decoder.step([path.tokens[-1] for path in self.rows])
        ended = [path for path in paths if path.stop_reason is not None]
        return {path.index: [self._rules.to_hypothesis(path)] for path in ended}

    @override
    def join(self, other: GreedyRun) -> None:
        self._decoder.join(other._decoder)
        self._log_probs = torch.cat([self._log_probs, other._log_probs])
        self.rows += [replace(path, index=self.num_begun + path.index) for path in other.rows]
        self.num_begun += other.num_begun

    @override
    def leave(self, numbers: Collection[int]) -> None:
        places = [i for i, path in enumerate(self.rows) if path.index not in numbers]
        self.rows = [self.rows[place] for place in places]
        self._decoder.reorder(places)
        self._log_probs = self._log_probs[places]

    def _choose(self) -> list[list[tuple[int, float]]]:
        """Return the next tokens of all paths with their log-probabilities, one step or several.

        A path may end before the last of them; what follows its end means nothing.
        """
        num_ahead = self._decoder.steps_ahead
        if self._rules.constraints or num_ahead == 1:
            return [self._rules.choose(self._log_probs, [path.tokens for path in self.rows])]
        room = min(path.max_len - len(path.tokens) for path in self.rows)
        followed = self._decoder.follow(self._log_probs, min(room, num_ahead))
        columns = zip(*(part.T.tolist() for part in followed), strict=True)
        return [list(zip(*column, strict=True)) for column in columns]
