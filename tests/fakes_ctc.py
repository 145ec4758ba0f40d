"""CTC by the enumeration of all alignments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import groupby, product
from typing import TypeAlias

import torch
from torch import Tensor

from tests.fakes import EOS, LogProbs

BLANK = 0

TextProbs: TypeAlias = Mapping[tuple[int, ...], float]
"""The probability of every text that some alignment says."""


def random_frames(num_frames: int, vocab_size: int, seed: int, sharpness: float = 1.5) -> Tensor:
    """Return random log-probabilities of the frames of one row. (S, V)."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_frames, vocab_size, generator=generator, dtype=torch.float64)
    return torch.log_softmax(logits * sharpness, -1)


def text_probs(frames: Tensor) -> TextProbs:
    """Return the probability of each text; frames are log-probabilities (S, V)."""
    probs: dict[tuple[int, ...], float] = {}
    for path in product(range(frames.size(1)), repeat=len(frames)):
        text = tuple(token for token, _ in groupby(path) if token != BLANK)
        total = sum(frames[i, token].item() for i, token in enumerate(path))
        probs[text] = probs.get(text, 0.0) + math.exp(total)
    return probs


def next_log_prob(texts: TextProbs, prefix: tuple[int, ...], token: int) -> float:
    """Return log p(text begins with prefix and token), or log p(text is prefix) for EOS."""
    if token == EOS:
        return _log(texts.get(prefix, 0.0))
    longer = (*prefix, token)
    return _log(sum(p for text, p in texts.items() if text[: len(longer)] == longer))


def joint_row(decoder: LogProbs, texts: TextProbs, weight: float) -> LogProbs:
    """Return a row whose scores are the joint ones, each token's gain over its hypothesis."""

    def scores(tokens: tuple[int, ...]) -> Tensor:
        log_probs = decoder(tokens)
        given = next_log_prob(texts, tokens[:-1], tokens[-1]) if tokens else 0.0
        ctc = [next_log_prob(texts, tokens, token) for token in range(len(log_probs))]
        gains = torch.tensor(ctc, dtype=log_probs.dtype) - given
        gains[torch.tensor(ctc) == -math.inf] = -math.inf
        return gains * weight + (log_probs * (1.0 - weight) if weight < 1.0 else 0.0)

    return scores


def _log(p: float) -> float:
    return math.log(p) if p > 0.0 else -math.inf
