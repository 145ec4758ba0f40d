"""The pictures: what they show, how they are written, and that no run fails for them."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fairseq2.file_system import LocalFileSystem
from fairseq2.metrics import format_as_float
from fairseq2.metrics.recorders import (
    JsonlMetricRecorder,
    MetricDescriptor,
    MetricDescriptorRegistry,
)
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from wavellama.metrics.error_rates import Scores
from wavellama.tasks import curves
from wavellama.tasks.curves import CurveRecorder
from wavellama.tasks.plots import (
    MAX_PIXELS,
    PANELS,
    draw_curves,
    draw_error_rates,
    drawing,
    save_figure,
)
from wavellama.tasks.report import write_report

NAMES = {
    "nll_loss": "NLL Loss",
    "ctc_loss": "CTC Loss",
    "cer": "Character Error Rate (CER)",
    "wer": "WER",
    "ctc_cer": "CTC CER",
    "ctc_wer": "CTC WER",
    "lr": "Learning Rate",
}
TRAIN = [{"Step": step, "NLL Loss": 10.0 / step, "Learning Rate": 1e-3} for step in range(1, 21)]
VALID = [{"Step": 10, "NLL Loss": 1.5, "WER": 90.0}, {"Step": 20, "NLL Loss": 2.5, "WER": 80.0}]


def points(axis: Axes) -> list[list[tuple[float, float]]]:
    """Return the points of each line."""
    return [[tuple(point) for point in np.asarray(line.get_xydata())] for line in axis.lines]


def labels(axis: Axes) -> list[str]:
    """Return what the legend says."""
    legend = axis.get_legend()
    return [text.get_text() for text in legend.texts] if legend else []


def png_size(path: Path) -> tuple[int, int]:
    """Return width and height of a PNG."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.rstrip().endswith(b"IEND\xaeB`\x82"), "cut off"
    width, height = struct.unpack(">II", content[16:24])
    return width, height


# Curves


def test_every_curve_is_a_known_metric() -> None:
    assert {curve.metric for panel in PANELS.values() for curve in panel} == NAMES.keys()


def test_the_curves_show_what_was_recorded() -> None:
    figure = draw_curves(TRAIN, VALID, NAMES, "my_run")
    losses, rates, learning_rate = figure.axes
    assert [axis.get_ylabel() for axis in figure.axes] == list(PANELS)
    assert points(losses) == [[(s, 10.0 / s) for s in range(1, 21)], [(10, 1.5), (20, 2.5)]]
    assert points(rates) == [[(10, 90.0), (20, 80.0)]]
    assert points(learning_rate) == [[(s, 1e-3) for s in range(1, 21)]]
    assert labels(losses) == ["decoder, training", "decoder, validation (lowest 1.5 at step 10)"]
    assert labels(rates) == ["WER, decoder, validation (lowest 80 at step 20)"]
    assert labels(learning_rate) == []
    assert figure.get_suptitle() == "my_run"


def test_panels_without_values_are_left_out() -> None:
    assert [axis.get_ylabel() for axis in draw_curves(TRAIN, [], NAMES, "").axes] == [
        "loss per token",
        "learning rate",
    ]


def test_the_first_steps_do_not_flatten_the_rest() -> None:
    losses = draw_curves(TRAIN, [], NAMES, "").axes[0]
    assert losses.get_ylim() == pytest.approx((0.0, 1.05 * 10.0 / 3))


def test_each_group_of_parameters_has_its_learning_rate() -> None:
    rows = [{"Step": step, "Learning Rate": [1e-4, 1e-3]} for step in (1, 2)]
    (axis,) = draw_curves(rows, [], NAMES, "").axes
    assert points(axis) == [[(1, 1e-4), (2, 1e-4)], [(1, 1e-3), (2, 1e-3)]]
    assert labels(axis) == ["group 0", "group 1"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_run_that_went_astray_is_drawn(bad: float, tmp_path: Path) -> None:
    train = [{"Step": 1, "NLL Loss": 2.0}, {"Step": 2, "NLL Loss": bad}]
    valid = [{"Step": 1, "NLL Loss": bad, "WER": bad}, {"Step": 2, "NLL Loss": 1.5, "WER": bad}]
    figure = draw_curves(train, valid, NAMES, "")
    assert labels(figure.axes[0])[-1] == "decoder, validation (lowest 1.5 at step 2)"
    assert labels(figure.axes[1]) == ["WER, decoder, validation"]
    save_figure(figure, tmp_path / "curves.png")
    assert png_size(tmp_path / "curves.png")[0] == 900


# The recorder


class Run:
    """One process of a run: fairseq2's recorder and ours after it, as in a recipe."""

    def __init__(self, folder: Path) -> None:
        descriptors = [
            MetricDescriptor(metric, name, 100, format_as_float) for metric, name in NAMES.items()
        ]
        registry = MetricDescriptorRegistry(descriptors)
        jsonl = JsonlMetricRecorder(folder, LocalFileSystem(), registry)
        self.recorders = (jsonl, CurveRecorder(folder, registry))

    def record(self, category: str, steps: Sequence[int], value: float) -> None:
        values = {"nll_loss": value, "data_epoch": 1}
        for step_nr in steps:
            for recorder in self.recorders:
                recorder.record_metric_values(category, values, step_nr)

    def close(self) -> None:
        for recorder in self.recorders:
            recorder.close()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that the recorder draws."""
    figures: list[Figure] = []
    monkeypatch.setattr(curves, "save_figure", lambda figure, path: figures.append(figure))
    return figures


def test_curves_are_drawn_after_validations_and_at_the_end(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    run = Run(tmp_path)
    run.record("train", [1, 2], 1.0)
    assert len(drawn) == 0
    run.record("valid", [2], 1.0)
    assert len(drawn) == 1
    run.record("train", [3], 1.0)
    assert len(drawn) == 1
    run.close()
    assert len(drawn) == 2
    assert points(drawn[-1].axes[0]) == [[(1, 1.0), (2, 1.0), (3, 1.0)], [(2, 1.0)]]


def test_nothing_new_is_not_drawn_again(tmp_path: Path, drawn: list[Figure]) -> None:
    run = Run(tmp_path)
    run.close()  # a run that was over before, and every process but the first
    run.record("train", [1], 1.0)
    run.record("valid", [1], 1.0)
    run.close()
    assert len(drawn) == 1


def test_a_resumed_run_draws_each_step_once(tmp_path: Path, drawn: list[Figure]) -> None:
    """Killed after the validation at step 4, resumed from the checkpoint at step 2."""
    killed = Run(tmp_path)
    killed.record("train", [1, 2], 1.0)
    killed.record("valid", [2], 1.0)
    killed.record("train", [3, 4], 2.0)
    killed.record("valid", [4], 2.0)
    resumed = Run(tmp_path)
    resumed.record("train", [3], 3.0)
    resumed.close()
    assert points(drawn[-1].axes[0]) == [[(1, 1.0), (2, 1.0), (3, 3.0)], [(2, 1.0)]]
    resumed = Run(tmp_path)
    resumed.record("train", [3, 4], 4.0)
    resumed.record("valid", [4], 4.0)
    assert points(drawn[-1].axes[0]) == [
        [(1, 1.0), (2, 1.0), (3, 4.0), (4, 4.0)],
        [(2, 1.0), (4, 4.0)],
    ]


def test_no_run_is_lost_for_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(tmp_path)
    run.record("valid", [1], 1.0)
    before = (tmp_path / "curves.png").read_bytes()

    def fail(*_: object) -> Figure:
        raise ValueError("no ink")

    monkeypatch.setattr(curves, "draw_curves", fail)
    with caplog.at_level(logging.WARNING, logger="fairseq2"):
        run.record("valid", [2], 1.0)
        run.close()
    assert f"{tmp_path / 'curves.png'} could not be drawn: ValueError: no ink" in caplog.text
    assert (tmp_path / "curves.png").read_bytes() == before


# Files


def test_a_picture_is_complete_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_text("before")
    broken = Figure(figsize=(1, 1))
    broken.text(0.5, 0.5, "$\\nonsense$")
    with pytest.raises(ValueError, match="nonsense"):
        save_figure(broken, path)
    assert path.read_text() == "before"
    save_figure(Figure(figsize=(2, 1)), path)
    assert png_size(path) == (200, 100)
    assert list(tmp_path.iterdir()) == [path]


def test_ctrl_c_is_not_a_failure_to_draw(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), drawing(tmp_path):
        raise KeyboardInterrupt


# Error rates


def scores(cer: float, low: float, high: float) -> Scores:
    return Scores(
        cer=cer, wer=cer, cer_ci95=[low, high], wer_ci95=[0.0, 1.0], num_utterances=9, audio_secs=1
    )


def bars(figure: Figure) -> list[list[float]]:
    """Return the lengths of the bars of each system, from the top down."""
    (axis,) = figure.axes
    return [
        [round(float(bar.get_width()), 6) for bar in container]
        for container in axis.containers
        if hasattr(container, "patches")
    ]


def languages(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


DECODER = {
    "eng_Latn": scores(0.3, 0.2, 0.4),
    "ita_Latn": scores(0.1, 0.1, 0.1),
    "rus_Cyrl": scores(0.2, 0.15, 0.3),
}
HEAD = {
    "eng_Latn": scores(0.05, 0.04, 0.06),
    "ita_Latn": scores(0.2, 0.1, 0.25),
    "rus_Cyrl": scores(0.1, 0.1, 0.1 - 1e-9),  # a rounding error of resampling
}


def test_languages_are_sorted_by_the_first_system() -> None:
    figure = draw_error_rates({"Decoder": DECODER, "CTC head": HEAD})
    assert languages(figure) == ["ita_Latn", "rus_Cyrl", "eng_Latn"]
    assert bars(figure) == [[10.0, 20.0, 30.0], [20.0, 10.0, 5.0]]
    top, bottom = figure.axes[0].get_ylim()[::-1]
    assert top < bottom, "the first language is on top"


def test_intervals_are_drawn_and_rates_are_written() -> None:
    (axis,) = draw_error_rates({"Decoder": DECODER}).axes
    (intervals,) = axis.collections
    assert isinstance(intervals, LineCollection)
    ends = [sorted(float(x) for x in np.asarray(line)[:, 0]) for line in intervals.get_segments()]
    assert ends == [
        pytest.approx([10.0, 10.0]),
        pytest.approx([15.0, 30.0]),
        pytest.approx([20.0, 40.0]),
    ]
    assert [text.get_text() for text in axis.texts] == ["10.0", "20.0", "30.0"]


def many(count: int) -> Mapping[str, Scores]:
    return {f"x{i:03}_Latn": scores(i / count, i / count, i / count) for i in range(count)}


@pytest.mark.parametrize("systems", [1, 2])
@pytest.mark.parametrize("count", [1, 30, 120])
def test_labels_and_numbers_never_overlap(count: int, systems: int) -> None:
    figure = draw_error_rates({f"System {i}": many(count) for i in range(systems)})
    figure.draw_without_rendering()
    (axis,) = figure.axes
    for texts in (axis.get_yticklabels(), axis.texts):
        boxes = sorted((text.get_window_extent() for text in texts), key=lambda box: box.y0)
        assert len(boxes) in (count, count * systems)
        assert all(a.y1 <= b.y0 + 1 for a, b in pairwise(boxes))
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)
    legend = figure.legends[0].get_window_extent()
    assert 0 <= legend.x0 < legend.x1 <= figure.bbox.width
    assert axis.get_window_extent().y1 <= legend.y0


def test_rates_above_100_percent_leave_room_for_the_others() -> None:
    wild = {"eng_Latn": scores(9.0, 8.0, 10.0), "ita_Latn": scores(0.5, 0.4, 0.6)}
    (axis,) = draw_error_rates({"Decoder": wild}).axes
    assert axis.get_xlim()[1] == pytest.approx(110.0)
    assert [text.get_text() for text in axis.texts] == ["50.0", "900.0"]
    assert all(text.get_position()[0] < 110.0 for text in axis.texts)


def test_a_perfect_model_has_a_picture(tmp_path: Path) -> None:
    figure = draw_error_rates({"Decoder": {"eng_Latn": scores(0.0, 0.0, 0.0)}})
    save_figure(figure, tmp_path / "report.png")
    assert png_size(tmp_path / "report.png")[0] == 800


def test_tall_pictures_lose_resolution_not_languages(tmp_path: Path) -> None:
    figure = Figure(figsize=(0.1, 2 * MAX_PIXELS / 100))
    save_figure(figure, tmp_path / "tall.png")
    assert png_size(tmp_path / "tall.png")[1] <= MAX_PIXELS


@pytest.mark.parametrize("columns", [["hypothesis"], ["ctc_hypothesis"], None])
def test_a_report_has_a_picture_of_each_system(tmp_path: Path, columns: list[str] | None) -> None:
    records = [
        {"lang": lang, "duration": 1.0, "reference": "a b c d"}
        | dict.fromkeys(columns or ["hypothesis", "ctc_hypothesis"], "a b c")
        for lang in ("eng_Latn", "ita_Latn")
    ]
    write_report(records, tmp_path)
    num_systems = len(columns or "ab")
    height = 1.5 + 0.2 * num_systems + 0.17 * 2 * (num_systems + 0.6)
    width, pixels = png_size(tmp_path / "report.png")
    assert width == 800
    assert pixels == pytest.approx(100 * height, abs=1)
