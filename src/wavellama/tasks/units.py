"""What training and validation do with one batch."""

from __future__ import annotations

import fairseq2.recipe  # noqa: F401  # isort: skip  # before fairseq2.evaluator, which needs it loaded

from collections.abc import MutableMapping
from time import perf_counter
from typing import final

import torch
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.evaluator import EvalUnit
from fairseq2.logging import log
from fairseq2.metrics import Mean, MetricBag, Sum
from fairseq2.trainer import TrainUnit
from torch import Tensor
from torch.nn import Module
from typing_extensions import override

from wavellama.metrics.error_rates import count_edits
from wavellama.model.loss import Objective, TrainingLoss
from wavellama.tasks.adapters import ModelAdapter
from wavellama.tasks.setup import Freezer
from wavellama.tasks.transcriber import Transcriber, Transcription
from wavellama.units import samples_to_seconds

NUM_SHOWN = 3
"""Transcriptions that a validation shows beside their references."""


@final
class LossUnit(TrainUnit[Seq2SeqBatch]):
    """Computes the loss of a training batch."""

    def __init__(
        self,
        dp_model: Module,
        adapter: ModelAdapter,
        objective: Objective,
        freezer: Freezer,
        rank: int,
    ) -> None:
        """Train ``dp_model``, which is the adapter's model as fairseq2 wrapped it."""
        self._dp_model, self._adapter, self._rank = dp_model, adapter, rank
        self._objective, self._freezer = objective, freezer
        self._published_at = perf_counter()

    @override
    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        add_loss_metrics(metric_bag, self._objective)
        metric_bag.add("audio_secs", Sum())

    @override
    def set_step_nr(self, step_nr: int) -> None:
        self._adapter.start_step(step_nr, self._rank)
        self._freezer.start_step(step_nr)

    @override
    def process_batch(
        self, batch: Seq2SeqBatch, metric_bag: MetricBag
    ) -> tuple[Tensor, int | None]:
        loss = self._adapter.compute_loss(self._dp_model, batch, self._objective)
        update_loss_metrics(metric_bag, self._objective, loss)
        audio_secs = samples_to_seconds(sum(batch.source_seq_lens))
        metric_bag.get("audio_secs", Sum).update(audio_secs)
        return loss.total, loss.num_targets

    @override
    def process_metric_values(self, values: MutableMapping[str, object]) -> None:
        """Add how many seconds of audio were trained on per second, on all ranks together."""
        now = perf_counter()
        audio_secs = values.get("audio_secs")
        if isinstance(audio_secs, Tensor | int | float):
            values["audio_secs_per_sec"] = float(audio_secs) / (now - self._published_at)
        self._published_at = now


@final
class ValidationUnit(EvalUnit[Seq2SeqBatch]):
    """Computes the loss of a validation batch, decodes it, and counts the errors."""

    def __init__(
        self,
        dp_model: Module,
        adapter: ModelAdapter,
        objective: Objective,
        transcriber: Transcriber,
    ) -> None:
        self._dp_model, self._adapter, self._transcriber = dp_model, adapter, transcriber
        self._objective = Objective(ctc_weight=objective.ctc_weight)  # nothing random, no smoothing
        self._num_shown = 0

    @override
    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        add_loss_metrics(metric_bag, self._objective)
        self._num_shown = 0
        for prefix in self._transcriber.systems:
            for rate in ("cer", "wer"):
                metric_bag.add(f"{prefix}{rate}", Mean())

    @override
    def process_batch(self, batch: Seq2SeqBatch, metric_bag: MetricBag) -> None:
        loss = self._adapter.compute_loss(self._dp_model, batch, self._objective)
        update_loss_metrics(metric_bag, self._objective, loss)
        rows = self._transcriber.transcribe(batch)
        for row in rows:
            for prefix in self._transcriber.systems:
                text = row.ctc_text if prefix else row.text
                edits = count_edits(row.reference, text or "", lang=row.lang)
                _update_rate(metric_bag, f"{prefix}cer", edits.char_edits, edits.num_chars)
                _update_rate(metric_bag, f"{prefix}wer", edits.word_edits, edits.num_words)
        for row in rows[: NUM_SHOWN - self._num_shown]:
            self._show(row)

    def _show(self, row: Transcription) -> None:
        self._num_shown += 1
        lines = [f"{row.lang}  reference: {row.reference}"]
        lines += [f"decoder: {row.text}"] if row.text is not None else []
        lines += [f"CTC head: {row.ctc_text}"] if row.ctc_text is not None else []
        log.info("{}", " | ".join(lines))


def add_loss_metrics(metric_bag: MetricBag, objective: Objective) -> None:
    """Add the losses that the objective has."""
    if objective.ctc_weight < 1.0:
        metric_bag.add("nll_loss", Mean())
    if objective.ctc_weight > 0.0:
        metric_bag.add("ctc_loss", Mean())


def update_loss_metrics(metric_bag: MetricBag, objective: Objective, loss: TrainingLoss) -> None:
    """Update the mean losses per target token."""
    num_targets = loss.num_targets
    if objective.ctc_weight < 1.0:
        metric_bag.get("nll_loss", Mean).update(loss.nll / num_targets, weight=num_targets)
    if objective.ctc_weight > 0.0:
        metric_bag.get("ctc_loss", Mean).update(loss.ctc / num_targets, weight=num_targets)


def _update_rate(metric_bag: MetricBag, name: str, edits: int, length: int) -> None:
    """Add one utterance to a rate in percent: all edits over all reference units."""
    length = max(length, 1)
    metric_bag.get(name, Mean).update(torch.tensor(100 * edits / length), weight=length)
