"""The picture of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from wavellama.data.mixing import Betas, Mixture
from wavellama.data.plot import plot_dataset, plot_shares
from wavellama.data.utterance import Utterance


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """What is drawn while a test runs."""
    figures: list[Figure] = []
    save = Figure.savefig

    def savefig(figure: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def _utterances(lang: str, durations: list[float]) -> list[Utterance]:
    return [
        Utterance(audio=Path(f"{lang}{i}.wav"), text="abcd", duration=secs, lang=lang)
        for i, secs in enumerate(durations)
    ]


def test_each_language_has_a_row_that_counts_all_its_utterances(
    drawn: list[Figure], tmp_path: Path
) -> None:
    durations = {"deu_Latn": [1.0, 2.0, 2.0, 30.0], "eng_Latn": [0.5] * 200}
    plot_dataset([u for item in durations.items() for u in _utterances(*item)], tmp_path / "a.png")
    (figure,) = drawn
    axes: Any = np.array(figure.axes).reshape(2, 2)
    for row, (lang, values) in zip(axes, durations.items(), strict=True):
        assert row[0].get_ylabel() == f"{lang}\n{len(values)}"
        for axis in row:
            bars = axis.patches
            assert sum(bar.get_height() for bar in bars) == len(values)
            end = bars[-1].get_x() + bars[-1].get_width()
            assert axis.get_xlim() == pytest.approx((0.0, end))
        assert row[0].lines[0].get_xdata()[0] == np.median(values)
    width, height = figure.get_size_inches()
    assert width > 2 * height > 2, "rows are flat, and have room"


def test_a_mixture_is_drawn_beside_its_formula(drawn: list[Figure], tmp_path: Path) -> None:
    rows = [*_utterances("deu_Latn", [1.0] * 30), *_utterances("eng_Latn", [1.0] * 10)]

    plot_shares(Mixture(rows, Betas(language=0.0)), tmp_path / "mixture.png")

    (axis,) = drawn[0].axes
    bars: Any = axis.patches
    assert [bar.get_width() for bar in bars] == [50.0, 50.0]
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "(none) eng_Latn",
        "(none) deu_Latn",
    ]
    assert axis.lines[0].get_xdata() == pytest.approx([50.0, 50.0])
    assert (tmp_path / "mixture.png").stat().st_size > 1000
