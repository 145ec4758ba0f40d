"""What training and validation do with one batch."""

from __future__ import annotations

import fairseq2.recipe  # noqa: F401  # isort: skip  # before fairseq2.evaluator, which needs it loaded

from typing import final

import torch
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.evaluator import EvalUnit
from fairseq2.metrics import Mean, MetricBag
from fairseq2.trainer import TrainUnit
from torch import Tensor
from torch.nn import Module
from typing_extensions import override

from wavellama.metrics.error_rates import count_edits
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.tasks.transcriber import Transcriber


@final
class LossUnit(TrainUnit[Seq2SeqBatch]):
    """Computes the loss of a training batch."""

    def __init__(self, dp_model: Module, model: Wav2Vec2LlamaModel, rank: int) -> None:
        """
        :param dp_model: the model as fairseq2 wrapped it for data parallelism.
        :param model: the same model, unwrapped.
        :param rank: the data-parallel rank of this process.
        """
        self._dp_model, self._model, self._rank = dp_model, model, rank

    @override
    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        metric_bag.add("nll_loss", Mean())

    @override
    def set_step_nr(self, step_nr: int) -> None:
        self._model.draws.start_step(step_nr, self._rank)

    @override
    def process_batch(
        self, batch: Seq2SeqBatch, metric_bag: MetricBag
    ) -> tuple[Tensor, int | None]:
        nll, num_targets = summed_nll(self._dp_model, batch)
        metric_bag.get("nll_loss", Mean).update(nll.detach() / num_targets, weight=num_targets)
        return nll, num_targets


@final
class ValidationUnit(EvalUnit[Seq2SeqBatch]):
    """Computes the loss of a validation batch, decodes it, and counts the errors."""

    def __init__(self, dp_model: Module, transcriber: Transcriber) -> None:
        self._dp_model, self._transcriber = dp_model, transcriber

    @override
    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        for name in ("nll_loss", "cer", "wer"):
            metric_bag.add(name, Mean())

    @override
    def process_batch(self, batch: Seq2SeqBatch, metric_bag: MetricBag) -> None:
        nll, num_targets = summed_nll(self._dp_model, batch)
        metric_bag.get("nll_loss", Mean).update(nll / num_targets, weight=num_targets)
        for row in self._transcriber.transcribe(batch):
            edits = count_edits(row.reference, row.text)
            _update_rate(metric_bag, "cer", edits.char_edits, edits.num_chars)
            _update_rate(metric_bag, "wer", edits.word_edits, edits.num_words)


def summed_nll(dp_model: Module, batch: Seq2SeqBatch) -> tuple[Tensor, int]:
    """Return the sum of negative log-likelihoods and the number of target tokens.

    The model's loss is their mean times the number of rows.
    """
    num_targets = sum(length + 1 for length in batch.target_seq_lens)
    loss: Tensor = dp_model(batch)
    return loss * (num_targets / batch.num_examples), num_targets


def _update_rate(metric_bag: MetricBag, name: str, edits: int, length: int) -> None:
    """Add one utterance to a rate in percent: all edits over all reference units."""
    length = max(length, 1)
    metric_bag.get(name, Mean).update(torch.tensor(100 * edits / length), weight=length)
