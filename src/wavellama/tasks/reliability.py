"""A picture of confidence: how often words are right that a model is so sure of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wavellama.metrics.confidence import NUM_BINS, ConfidenceScores


def draw_reliability(systems: Mapping[str, ConfidenceScores], title: str) -> Figure:
    """Draw the accuracy of words over their confidence, and below how many words there are.

    :param systems: what to call a way to compute confidences -> its scores.
    """
    figure = Figure(figsize=(6, 6.5), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color="tab:gray", linestyle=":", label="as it should be")
    for place, (name, scores) in enumerate(systems.items()):
        _draw_curve(above, name, scores)
        _draw_counts(below, scores, place, len(systems))
    above.set_ylabel("share of words that are right")
    above.legend(loc="upper left")
    above.grid(alpha=0.3)
    below.set_xlabel("confidence")
    below.set_ylabel("words")
    below.set_xlim(0, 1)
    figure.suptitle(title)
    return figure


def _draw_curve(axis: Axes, name: str, scores: ConfidenceScores) -> None:
    label = f"{name}: ECE {scores.ece:.3f}, Brier {scores.brier:.3f}"
    points = [(row.confidence, row.accuracy) for row in scores.bins]
    axis.plot(*zip(*points, strict=True), marker="o", label=label)


def _draw_counts(axis: Axes, scores: ConfidenceScores, place: int, num_systems: int) -> None:
    """Draw one bar per bin, beside those of the other systems."""
    counts = np.zeros(NUM_BINS)
    for row in scores.bins:
        counts[min(int(row.confidence * NUM_BINS), NUM_BINS - 1)] += row.num_words
    width = 0.8 / NUM_BINS / num_systems
    starts = (np.arange(NUM_BINS) + 0.1) / NUM_BINS + place * width
    axis.bar(starts, counts, width, align="edge")
