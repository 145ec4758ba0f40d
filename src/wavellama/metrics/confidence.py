"""How well confidences tell right words from wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import jiwer
import numpy as np

from wavellama.text.normalize import normalize_text

NUM_BINS: Final = 10
"""Ranges of confidence, all of the same width."""


class Bin(NamedTuple):
    """The words whose confidence lies in one range."""

    confidence: float
    """Their mean confidence."""

    accuracy: float
    """The share of them that is right."""

    num_words: int


@dataclass(frozen=True)
class ConfidenceScores:
    """How good the confidences of words are."""

    ece: float
    """The expected calibration error: how far the accuracy of a bin lies from its mean confidence,
    averaged over the words. 0 is best."""

    brier: float
    """The mean squared distance of the confidence from 1 (right words) or 0. 0 is best."""

    auc: float
    """How probable it is that a right word has a higher confidence than a wrong one. 1 is best;
    without words of both kinds it is not a number."""

    bins: tuple[Bin, ...]
    """The bins that have words, in ascending order."""


def right_words(reference: Sequence[str], hypothesis: Sequence[str]) -> list[bool]:
    """Return whether each word of a hypothesis is right: aligned with an equal one (jiwer).

    Words are compared normalised; one of punctuation alone is right.
    """
    shown = [_comparable(word) for word in hypothesis]
    places = [i for i, word in enumerate(shown) if word]
    said = [word for word in map(_comparable, reference) if word]
    are_right = [not word for word in shown]
    if not said or not places:
        return are_right
    aligned = jiwer.process_words(" ".join(said), " ".join(shown[i] for i in places))
    for chunk in aligned.alignments[0]:
        for i in places[chunk.hyp_start_idx : chunk.hyp_end_idx]:
            are_right[i] = chunk.type == "equal"
    return are_right


def score_confidences(confidences: Sequence[float], are_right: Sequence[bool]) -> ConfidenceScores:
    """Compare the confidences of words, at least one, with whether they are right."""
    values, right = np.array(confidences), np.array(are_right)
    bins = _bins(values, right)
    gaps = [row.num_words * abs(row.confidence - row.accuracy) for row in bins]
    return ConfidenceScores(
        ece=sum(gaps) / len(values),
        brier=float(np.mean((values - right) ** 2)),
        auc=_area(values[right], values[~right]),
        bins=bins,
    )


def _comparable(word: str) -> str:
    return normalize_text(word).replace(" ", "")


def _bins(values: np.ndarray, right: np.ndarray) -> tuple[Bin, ...]:
    places = np.minimum((values * NUM_BINS).astype(int), NUM_BINS - 1)
    members = [places == place for place in range(NUM_BINS)]
    return tuple(
        Bin(float(values[mask].mean()), float(right[mask].mean()), int(mask.sum()))
        for mask in members
        if mask.any()
    )


def _area(right: np.ndarray, wrong: np.ndarray) -> float:
    """Return the share of pairs of a right and a wrong word that are in order; equal ones half."""
    if not len(right) or not len(wrong):
        return float("nan")
    wrong = np.sort(wrong)
    below = np.searchsorted(wrong, right, "left") + np.searchsorted(wrong, right, "right")
    return float(below.mean() / (2 * len(wrong)))
