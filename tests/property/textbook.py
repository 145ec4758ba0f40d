"""Beam search as a textbook has it, slow and short."""

from __future__ import annotations

from tests.fakes import EOS, LogProbs
from wavellama.search.types import Hypothesis


def naive_beam(
    row: LogProbs, max_len: int, beam_size: int, *, length_norm: bool
) -> list[tuple[tuple[int, ...], float]]:
    """Return tokens and scores: every finished hypothesis and every continuation competes.

    What is impossible drops out, unless nothing else is there.
    """
    beams: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    for _ in range(max_len):
        candidates = []
        for tokens, score in beams:
            if tokens and tokens[-1] == EOS:
                candidates.append((tokens, score))
                continue
            n = len(tokens)
            for token, logprob in enumerate(row(tokens).tolist()):
                new = (score * n + logprob) / (n + 1) if length_norm else score + logprob
                candidates.append(((*tokens, token), new))
        candidates = [beam for beam in candidates if beam[1] > float("-inf")] or candidates
        beams = sorted(candidates, key=lambda beam: -beam[1])[:beam_size]
    return beams


def beam_of(hypothesis: Hypothesis) -> tuple[int, ...]:
    """Return all that a hypothesis emitted, EOS included."""
    return (*hypothesis.tokens, EOS) if hypothesis.finished else tuple(hypothesis.tokens)
