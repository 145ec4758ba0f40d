"""The CTC prefix score: how probable it is, by CTC, that the text begins with given tokens.

Joint CTC/decoder decoding: Watanabe, Hori, Kim, Hershey, Hayashi: *Hybrid CTC/Attention
Architecture for End-to-End Speech Recognition* (IEEE JSTSP 11, 2017), algorithm 2. Two things are
done otherwise. The recursions over frames are cumulative sums in the log domain, so that there is
no loop; and the score of a new token, a sum over the frames in which it may begin, is a matrix
product, so that all tokens are scored and none has to be selected before.

Shapes: N rows, B hypotheses of all rows, S frames, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class _Prefixes:
    """The hypotheses, with their forward variables: column s is about the first s frames."""

    rows: list[int]
    """The row of each hypothesis; equal ones are adjacent."""

    last: Tensor
    """The last token; the blank where there is none yet. *Shape:* (B)."""

    in_token: Tensor
    """Log-probability that the frames say the hypothesis and end in its last token. (B, S + 1)."""

    in_blank: Tensor
    """Log-probability that they say the hypothesis and end in a blank. (B, S + 1)."""

    def select(self, parents: list[int]) -> _Prefixes:
        """Return other hypotheses: the i-th is the present one at ``parents[i]``."""
        index = torch.tensor(parents, device=self.last.device)
        rows = [self.rows[parent] for parent in parents]
        return _Prefixes(rows, self.last[index], self.in_token[index], self.in_blank[index])

    def spoken(self) -> Tensor:
        """Return the log-probability that the frames say the hypothesis. (B, S + 1)."""
        return torch.logaddexp(self.in_token, self.in_blank)


@final
class CtcPrefixScorer:
    """Scores the next token by how probable CTC finds the text with it, given the text so far.

    A hypothesis has the probability of all texts that begin with it; one that ends with EOS has
    that of itself as the whole text, so that the scores up to EOS sum to the log-likelihood that
    the CTC loss is about. The blank has -inf, as has a token for which no frame is left. Sums over
    frames are made in float64, but for the matrix product. (It is a ``search.scorers.Scorer``.)
    """

    def __init__(self, log_probs: Sequence[Tensor], blank_idx: int, eos_idx: int) -> None:
        """
        :param log_probs: the log-probabilities of each row's frames. *Shape of each:* (S, V).
        :param blank_idx: the token that stands for no token.
        :param eos_idx: the token that ends a hypothesis; what CTC says of it is not looked at.
        """
        probs = pad_sequence(list(log_probs), batch_first=True, padding_value=-math.inf).exp_()
        self._probs = probs.clamp_(min=torch.finfo(probs.dtype).tiny)  # (N, S, V), no log of 0
        self._blank_idx, self._eos_idx = blank_idx, eos_idx
        self._num_frames = torch.tensor([len(row) for row in log_probs], device=probs.device)
        self._blank_runs = _run(self._probs[:, :, blank_idx])  # (N, S + 1)
        self._prefixes = self._empty_prefixes()
        self._totals = self._blank_runs[:, :1]

    def prefill(self) -> Tensor:
        """Begin with one empty hypothesis per row; return the scores of its first token. (N, V)."""
        self._prefixes = self._empty_prefixes()
        return self._scores(self._blank_runs[:, :1])

    def reorder(self, parents: list[int]) -> None:
        """Replace the list: new hypothesis i continues the old hypothesis ``parents[i]``."""
        self._prefixes = self._prefixes.select(parents)
        self._totals = self._totals[torch.tensor(parents, device=self._totals.device)]

    def step(self, tokens: list[int]) -> Tensor:
        """Append one token to each hypothesis; return the scores of the next one. (B, V)."""
        old = self._prefixes
        last = torch.tensor(tokens, device=old.last.device)
        before = torch.where((last == old.last)[:, None], old.in_blank, old.spoken())
        in_token = _stay(before, _run(self._probs[old.rows, :, last]))
        in_blank = _stay(in_token, self._blank_runs[old.rows])
        self._prefixes = _Prefixes(old.rows, last, in_token, in_blank)
        return self._scores(self._totals.gather(1, last[:, None]))

    def _empty_prefixes(self) -> _Prefixes:
        runs = self._blank_runs
        last = torch.full((len(runs),), self._blank_idx, device=runs.device)
        return _Prefixes(list(range(len(runs))), last, torch.full_like(runs, -math.inf), runs)

    def _scores(self, given: Tensor) -> Tensor:
        """Return the scores of what may follow hypotheses with the log-probabilities (B, 1)."""
        self._totals = self._extend()
        return (self._totals - given).masked_fill(torch.isneginf(given), -math.inf)

    def _extend(self) -> Tensor:
        """Return the log-probability of each hypothesis with each token appended. (B, V)."""
        prefixes = self._prefixes
        num_frames = self._num_frames[prefixes.rows, None]
        spoken = prefixes.spoken()
        places = torch.arange(spoken.size(1) - 1, device=spoken.device)
        is_frame = places < num_frames  # (B, S)
        before = spoken[:, :-1].masked_fill(~is_frame, -math.inf)
        peak = before.amax(1, keepdim=True).clamp_min(torch.finfo(before.dtype).min)
        sums = self._sum_frames((before - peak).exp())
        # The last token begins anew only after a blank.
        after_blank = (prefixes.in_blank[:, :-1] - peak).exp().where(is_frame, 0.0)
        again = after_blank * self._probs[prefixes.rows, :, prefixes.last]
        sums.scatter_(1, prefixes.last[:, None], again.sum(1, keepdim=True))
        totals = sums.log() + peak
        totals[:, self._blank_idx] = -math.inf
        totals[:, self._eos_idx] = spoken.gather(1, num_frames)[:, 0]
        return totals

    def _sum_frames(self, weights: Tensor) -> Tensor:
        """Return the probability of each token, summed over weighted frames. (B, S) -> (B, V)."""
        sums, begin = [], 0
        weights = weights.to(self._probs.dtype)
        for row, group in groupby(self._prefixes.rows):
            end = begin + len(list(group))
            sums.append(weights[begin:end] @ self._probs[row])
            begin = end
        return torch.cat(sums).double()


def _run(probs: Tensor) -> Tensor:
    """Return the log-probability of the same token in the first s frames. (B, S) -> (B, S + 1)."""
    return pad(probs.double().log().cumsum(1), (1, 0))


def _stay(before: Tensor, runs: Tensor) -> Tensor:
    """Return the log-probability of being in a token that begins some time and does not end.

    :param before: log-probability of what comes before the token. *Shape:* (B, S + 1).
    :param runs: what ``_run`` says of the token. *Shape:* (B, S + 1).
    """
    begun = torch.logcumsumexp(before - runs, 1)[:, :-1]
    return pad(begun, (1, 0), value=-math.inf) + runs
