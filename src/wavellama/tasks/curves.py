"""The recorder that draws a training run's curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

from fairseq2.metrics.recorders import MetricDescriptorRegistry, MetricRecorder
from typing_extensions import override

from wavellama.tasks.history import read_history
from wavellama.tasks.plots import PANELS, draw_curves, drawing, save_figure

CURVES_FILE: Final = "curves.png"


@final
class CurveRecorder(MetricRecorder):
    """Draws ``curves.png`` after each validation, and at the end.

    It draws what fairseq2's own recorder has written as JSON lines, so that the curves of a resumed
    run begin at its first step. It has to be registered after that one.
    """

    def __init__(self, output_dir: Path, metric_descriptors: MetricDescriptorRegistry) -> None:
        self._output_dir = output_dir
        metrics = [curve.metric for curves in PANELS.values() for curve in curves]
        descriptors = {name: metric_descriptors.maybe_get(name) for name in metrics}
        self._names = {name: d.display_name if d else name for name, d in descriptors.items()}
        self._last_step: int | None = None
        """The last step that is recorded, but not drawn."""

    @override
    def record_metric_values(
        self, category: str, values: Mapping[str, object], step_nr: int | None = None
    ) -> None:
        self._last_step = step_nr
        if category == "valid":
            self._draw()

    @override
    def close(self) -> None:
        self._draw()

    def _draw(self) -> None:
        if self._last_step is None:
            return
        path = self._output_dir / CURVES_FILE
        with drawing(path):
            train, valid = (
                read_history(self._output_dir, category, self._last_step)
                for category in ("train", "valid")
            )
            title = self._output_dir.resolve().name
            save_figure(draw_curves(train, valid, self._names, title), path)
        self._last_step = None
