"""Pictures of a data set: how long its utterances are, how fast they are spoken, how they mix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wavellama.data.mixing import Mixture
from wavellama.data.utterance import Utterance
from wavellama.files import replacing

BINS: Final = 40
"""Bars of each histogram."""

_PANEL_INCHES: Final = (4.5, 1.4)
_SHOWN_PERCENT: Final = 99.5


def plot_dataset(utterances: Sequence[Utterance], path: Path) -> None:
    """Draw durations (left) and characters per second (right), a row per language, as PNG."""
    by_lang: defaultdict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        by_lang[utterance.lang or "-"].append(utterance)
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(2 * width, height * len(by_lang) + 0.8), layout="constrained")
    axes = figure.subplots(len(by_lang), 2, squeeze=False, sharex="col")
    columns = (_durations(utterances), _rates(utterances))
    for row, lang in zip(axes, sorted(by_lang), strict=True):
        members = by_lang[lang]
        row[0].set_ylabel(f"{lang}\n{len(members):,}", rotation=0, ha="right", va="center")
        for axis, values, every in zip(
            row, (_durations(members), _rates(members)), columns, strict=True
        ):
            _draw(axis, values, float(np.percentile(every, _SHOWN_PERCENT)))
    axes[-1][0].set_xlabel("seconds")
    axes[-1][1].set_xlabel("characters per second")
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=100)


def plot_shares(mixture: Mixture, path: Path) -> None:
    """Draw which share of an epoch each part has (bars), and has by the formula (lines), as PNG."""
    parts = sorted(mixture.shares, reverse=True)
    total = sum(mixture.num_draws.values())
    figure = Figure(figsize=(8, 0.25 * len(parts) + 1), layout="constrained")
    axis = figure.subplots()
    names = [f"{part.corpus} {part.lang}" for part in parts]
    axis.barh(names, [100 * mixture.num_draws[part] / total for part in parts], color="tab:blue")
    formula = [100 * mixture.shares[part] for part in parts]
    axis.plot(formula, names, "|", color="tab:orange", markersize=12, label="by the formula")
    axis.set_xlabel("% of the rows of an epoch")
    axis.legend()
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=100)


def _draw(axis: Axes, values: Sequence[float], limit: float) -> None:
    """Draw a histogram up to ``limit`` with its median; what is above counts in the last bar."""
    axis.hist(np.minimum(values, limit), bins=BINS, range=(0, limit), color="tab:blue")
    axis.axvline(float(np.median(values)), color="tab:orange", linewidth=1)
    axis.set_xlim(0, limit)
    axis.set_yticks([])


def _durations(utterances: Sequence[Utterance]) -> list[float]:
    return [utterance.duration for utterance in utterances]


def _rates(utterances: Sequence[Utterance]) -> list[float]:
    return [len(utterance.text) / utterance.duration for utterance in utterances]
