"""Early stopping: a run ends when its score has not improved for some validations in a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from fairseq2.early_stopper import EarlyStopper
from fairseq2.gang import broadcast_flag
from fairseq2.logging import log
from fairseq2.metrics.recorders import MetricDescriptor
from fairseq2.recipe import RecipeContext, TaskStopException
from typing_extensions import override

from wavellama.faults import Checked, within
from wavellama.tasks.history import read_history


@dataclass(kw_only=True)
class EarlyStoppingSection(Checked):
    """When to end a run before its last step."""

    patience: int = within("[1, inf)", 5)
    """After how many validations in a row without a better ``regime.score_metric``."""

    min_delta: float = within("[0, inf)", 0.0)
    """A score is better if it gains more than this on the best one, in the metric's own unit."""


@final
class PatienceStopper(EarlyStopper):
    """Stops a run whose score does not improve any more.

    It remembers nothing. The scores are those that the validations have recorded, so that a resumed
    run decides as an uninterrupted one would.
    """

    def __init__(
        self, section: EarlyStoppingSection, output_dir: Path, metric: MetricDescriptor
    ) -> None:
        """Judge the run in ``output_dir`` by the values of ``metric``."""
        self._section, self._output_dir, self._metric = section, output_dir, metric
        self._sign = 1.0 if metric.higher_better else -1.0

    @override
    def should_stop(self, step_nr: int, score: float) -> bool:
        """Decide after a validation; a higher score is better, as fairseq2 has it."""
        return self._is_over([*self._recorded(step_nr - 1), (step_nr, score)])

    def has_stopped(self, step_nr: int) -> bool:
        """Tell whether the run was over by the checkpoint at ``step_nr``."""
        return self._is_over(self._recorded(step_nr))

    def _recorded(self, last_step: int) -> list[tuple[int, float]]:
        """Return steps and scores of the validations up to ``last_step``."""
        name = self._metric.display_name
        rows = read_history(self._output_dir, "valid", last_step)
        return [(row["Step"], self._sign * row[name]) for row in rows if name in row]

    def _is_over(self, scores: Sequence[tuple[int, float]]) -> bool:
        best_step, best, num_waited = 0, -math.inf, 0
        for step_nr, score in scores:
            if score > best + self._section.min_delta:
                best_step, best, num_waited = step_nr, score, 0
            else:
                num_waited += 1
        if num_waited < self._section.patience:
            return False
        last_step, last = scores[-1]
        log.info(
            "Stopping early: {} has not improved by more than {:g} for {} validation(s). It was"
            " best at step {} ({:g}), and is {:g} at step {}.",
            *(self._metric.display_name, self._section.min_delta, num_waited),
            *(best_step, self._sign * best, self._sign * last, last_step),
        )
        return True


def create_stopper(
    context: RecipeContext, section: EarlyStoppingSection | None
) -> PatienceStopper | None:
    """Create the stopper that the configuration asks for, if it does.

    :raises TaskStopException: the run that would go on here has stopped early before.
    """
    if section is None:
        return None
    metric = context.resolver.resolve(MetricDescriptor)
    stopper = PatienceStopper(section, context.output_dir, metric)
    manager, gangs = context.get_checkpoint_manager(), context.gangs
    step_nr = manager.maybe_get_last_step_number(exclude_model_only=True)
    is_over = gangs.root.rank == 0 and step_nr is not None and stopper.has_stopped(step_nr)
    if broadcast_flag(gangs.root, is_over):
        log.info("To go on, raise `early_stopping.patience` or leave `early_stopping` out.")
        gangs.close()
        raise TaskStopException
    return stopper
