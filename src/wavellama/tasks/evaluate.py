"""The recipe ``eval``: error rates per language, as tables and as JSON."""

from __future__ import annotations

import fairseq2.recipe  # noqa: F401  # isort: skip  # before fairseq2.evaluator, which needs it loaded

from pathlib import Path
from typing import final

from fairseq2.datasets import Seq2SeqBatch
from fairseq2.evaluator import EvalUnit
from fairseq2.gang import Gangs
from fairseq2.metrics import MetricBag
from fairseq2.recipe import Recipe, RecipeContext
from fairseq2.task import Task
from torch.nn import Module
from typing_extensions import override

from wavellama.model.loss import Objective
from wavellama.tasks.adapters import adapt
from wavellama.tasks.inference_config import EvalConfig
from wavellama.tasks.output import RankFiles
from wavellama.tasks.report import write_report
from wavellama.tasks.transcriber import Transcriber, open_split
from wavellama.tasks.units import add_loss_metrics, update_loss_metrics


@final
class EvaluationUnit(EvalUnit[Seq2SeqBatch]):
    """Decodes a batch and keeps what was said beside what was recognised."""

    def __init__(
        self, model: Module, transcriber: Transcriber, output_dir: Path, gangs: Gangs
    ) -> None:
        self._model, self._adapter, self._transcriber = model, adapt(model), transcriber
        self._objective = Objective(ctc_weight=0.0 if self._adapter.has_decoder else 1.0)
        self._output_dir, self._gangs = output_dir, gangs
        self._files = RankFiles(output_dir, "hypotheses", gangs)

    @override
    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        add_loss_metrics(metric_bag, self._objective)

    @override
    def process_batch(self, batch: Seq2SeqBatch, metric_bag: MetricBag) -> None:
        loss = self._adapter.compute_loss(self._model, batch, self._objective)
        update_loss_metrics(metric_bag, self._objective, loss)
        self._files.write(self._transcriber.transcribe(batch))

    @override
    def finalize(self, metric_bag: MetricBag) -> None:
        records = self._files.merge()
        if self._gangs.root.rank == 0:
            print(write_report(records, self._output_dir))


class AsrEvaluation(Recipe):
    """Evaluates a model on one split."""

    config_kls = EvalConfig

    @override
    def create_task(self, context: RecipeContext) -> Task:
        config = context.get_config_as(EvalConfig)
        config.check_model()
        reader, transcriber = open_split(context, config)
        unit = EvaluationUnit(context.get_model(), transcriber, context.output_dir, context.gangs)
        return context.create_evaluator([unit], [reader])
