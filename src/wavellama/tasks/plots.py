"""Pictures: the curves of a training run, the error rates of an evaluation, confidences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from fairseq2.logging import log
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wavellama.files import replacing
from wavellama.metrics.confidence import NUM_BINS, ConfidenceScores
from wavellama.metrics.error_rates import Scores
from wavellama.tasks.history import Row

DPI: Final = 100
"""Pixels per inch, where the picture does not get too tall."""

MAX_PIXELS: Final = 60_000
"""The tallest picture; the renderer takes less than 65,536 pixels."""

_BAR_INCHES: Final = 0.17
_MAX_PERCENT: Final = 100.0
_SETTLED: Final = 0.1
"""The share of a run after which its losses decide how high a panel is."""

Series: TypeAlias = tuple[Sequence[int], Sequence[float]]
"""Steps and values."""


class Curve(NamedTuple):
    """How one metric is drawn."""

    metric: str
    label: str
    color: str
    line: str = "-"


PANELS: Final[Mapping[str, Sequence[Curve]]] = {
    "loss per token": (
        Curve("nll_loss", "decoder", "tab:blue"),
        Curve("ctc_loss", "CTC head", "tab:orange"),
    ),
    "error rate, %": (
        Curve("cer", "CER, decoder", "tab:blue"),
        Curve("ctc_cer", "CER, CTC head", "tab:orange"),
        Curve("wer", "WER, decoder", "tab:blue", ":"),
        Curve("ctc_wer", "WER, CTC head", "tab:orange", ":"),
    ),
    "learning rate": (Curve("lr", "", "tab:gray"),),
}
"""The panels of a training run from top to bottom: the label of the axis, and the curves."""


@contextmanager
def drawing(path: Path) -> Iterator[None]:
    """Log what goes wrong while ``path`` is drawn: no run may be lost for a picture."""
    try:
        yield
    except Exception as ex:
        log.warning("{} could not be drawn: {}: {}", path, type(ex).__name__, ex)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG that is either complete or as it was before."""
    buffer = BytesIO()
    height = float(figure.get_figheight())
    figure.savefig(buffer, format="png", dpi=min(DPI, MAX_PIXELS / height))
    with replacing(path) as part:
        part.write_bytes(buffer.getvalue())


def draw_curves(
    train: Sequence[Row], valid: Sequence[Row], names: Mapping[str, str], title: str
) -> Figure:
    """Draw losses, error rates and learning rate over the steps; what was not recorded is left out.

    :param names: the display names of the metrics, which the rows have as keys.
    """
    keys = {key for row in (*train, *valid) for key in row}
    shown = {
        label: [curve for curve in curves if names[curve.metric] in keys]
        for label, curves in PANELS.items()
    }
    panels = [(label, curves) for label, curves in shown.items() if curves]
    figure = Figure(figsize=(9, 3 * len(panels) + 0.6), layout="constrained")
    axes = figure.subplots(len(panels), squeeze=False, sharex=True)[:, 0]
    for axis, (label, curves) in zip(axes, panels, strict=True):
        for curve in curves:
            _draw_curve(axis, curve, _series(train, names[curve.metric]), is_valid=False)
            _draw_curve(axis, curve, _series(valid, names[curve.metric]), is_valid=True)
        _finish_panel(axis, label)
    axes[-1].set_xlabel("step")
    figure.suptitle(title)
    return figure


def draw_error_rates(systems: Mapping[str, Mapping[str, Scores]]) -> Figure:
    """Draw the CER of each language, best first, as one bar per system with its 95 % interval.

    :param systems: what to call a system -> its scores per language. All have the same languages;
        those of the first one decide the order.
    """
    first = next(iter(systems.values()))
    languages = sorted(first, key=lambda lang: first[lang]["cer"])
    highest = max(s["cer_ci95"][1] for scores in systems.values() for s in scores.values())
    limit = min(100 * highest, _MAX_PERCENT) or 1.0
    height = 1.5 + 0.2 * len(systems) + _BAR_INCHES * len(languages) * (len(systems) + 0.6)
    figure = Figure(figsize=(8, height), layout="constrained")
    axis = figure.subplots()
    for place, (name, scores) in enumerate(systems.items()):
        shift = 0.8 * ((place + 0.5) / len(systems) - 0.5)
        _draw_bars(axis, [scores[lang] for lang in languages], shift, 0.8 / len(systems), limit)
        axis.containers[-1].set_label(name)
    axis.set_yticks(range(len(languages)), languages)
    axis.set_ylim(len(languages) - 0.4, -0.6)
    axis.set_xlim(0, 1.1 * limit)
    axis.set_xlabel("CER in % with 95 % intervals")
    axis.tick_params(axis="x", top=True, labeltop=True)
    figure.legend(loc="outside upper left", title="CER in % (normalised texts)")
    return figure


def _series(rows: Sequence[Row], name: str) -> Series:
    rows = [row for row in rows if name in row]
    return [row["Step"] for row in rows], [row[name] for row in rows]


def _draw_curve(axis: Axes, curve: Curve, series: Series, *, is_valid: bool) -> None:
    """Draw a curve pale for training, with its points for validation."""
    steps, values = series
    if not steps:
        return
    if np.ndim(values) == 2:  # a learning rate for each group of parameters
        axis.plot(steps, values, label=[f"group {i}" for i in range(np.shape(values)[1])])
    elif is_valid:
        label = f"{curve.label}, validation{_lowest(series)}"
        axis.plot(steps, values, curve.line, color=curve.color, marker=".", label=label)
    else:
        label = f"{curve.label}, training" if curve.label else ""
        axis.plot(steps, values, curve.line, color=curve.color, alpha=0.4, label=label)


def _lowest(series: Series) -> str:
    value, step = min(
        ((value, step) for step, value in zip(*series, strict=True) if math.isfinite(value)),
        default=(math.nan, 0),
    )
    return "" if math.isnan(value) else f" (lowest {value:.3g} at step {step})"


def _finish_panel(axis: Axes, label: str) -> None:
    """Label a panel; what the first steps lose may leave it at the top."""
    axis.set_ylabel(label)
    axis.grid(alpha=0.3)
    lines = [np.asarray(line.get_xydata()) for line in axis.lines]
    points = np.concatenate(lines)
    settled = points[points[:, 0] > _SETTLED * points[:, 0].max(), 1]
    highest = max((value for value in settled if math.isfinite(value)), default=0.0)
    if highest > 0.0:
        axis.set_ylim(0.0, 1.05 * highest)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize="small")


def _draw_bars(
    axis: Axes, scores: Sequence[Scores], shift: float, thickness: float, limit: float
) -> None:
    """Draw one system's bars and write its rates beside them; what exceeds the axis is cut."""
    rates = np.array([[s["cer"], *s["cer_ci95"]] for s in scores]) * 100
    middle, low, high = rates.T
    places = np.arange(len(scores)) + shift
    # Resampling can miss the rate itself by a rounding error, which would be a negative length.
    error = np.maximum([middle - low, high - middle], 0.0)
    style = {"elinewidth": 0.8, "ecolor": "black"}
    axis.barh(places, middle, thickness, xerr=error, error_kw=style)
    for place, rate, end in zip(places, middle, np.minimum(high, limit), strict=True):
        # The layout need not measure the numbers: they lie within the axes.
        at = (end + 0.01 * limit, place)
        axis.text(*at, f"{rate:.1f}", va="center", fontsize=7, in_layout=False)


def draw_reliability(systems: Mapping[str, ConfidenceScores], title: str) -> Figure:
    """Draw the accuracy of words over their confidence, and below how many words there are.

    :param systems: what to call a way to compute confidences -> its scores.
    """
    figure = Figure(figsize=(6, 6.5), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color="tab:gray", linestyle=":", label="as it should be")
    for place, (name, scores) in enumerate(systems.items()):
        label = f"{name}: ECE {scores.ece:.3f}, Brier {scores.brier:.3f}"
        points = [(row.confidence, row.accuracy) for row in scores.bins]
        above.plot(*zip(*points, strict=True), marker="o", label=label)
        _draw_counts(below, scores, place, len(systems))
    above.set_ylabel("share of words that are right")
    above.legend(loc="upper left")
    above.grid(alpha=0.3)
    below.set_xlabel("confidence")
    below.set_ylabel("words")
    below.set_xlim(0, 1)
    figure.suptitle(title)
    return figure


def _draw_counts(axis: Axes, scores: ConfidenceScores, place: int, num_systems: int) -> None:
    counts = np.zeros(NUM_BINS)
    for row in scores.bins:
        counts[min(int(row.confidence * NUM_BINS), NUM_BINS - 1)] += row.num_words
    width = 0.8 / NUM_BINS / num_systems
    starts = (np.arange(NUM_BINS) + 0.1) / NUM_BINS + place * width
    axis.bar(starts, counts, width, align="edge")
