"""What the recipes need of a model, for each of the families that they train and evaluate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import cast, final

import torch
from fairseq2.data.tokenizers import Tokenizer
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrModel
from fairseq2.nn import BatchLayout
from torch import Tensor
from torch.nn import Module
from typing_extensions import override

from wavellama.checkpoints.hub import check_recognises
from wavellama.decoding.ctc import ctc_generate, ctc_head_generate
from wavellama.errors import ConfigError
from wavellama.model.draws import all_draws
from wavellama.model.loss import Objective, TrainingLoss
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.text.languages import LanguageTable


class ModelAdapter(ABC):
    """A model as the recipes see it."""

    _model: Module
    has_decoder: bool
    has_ctc: bool
    encoder_dim: int
    language_column_name: str = "lang"
    """The column of language codes in a batch's metadata."""

    languages: LanguageTable = LanguageTable({})
    """The languages that it knows; none if it reads none."""

    num_examples: int = 0
    reads_language: bool = False
    """Whether its prompt has a place for the language."""

    reads_segments: bool = False

    @abstractmethod
    def compute_loss(
        self, dp_model: Module, batch: Seq2SeqBatch, objective: Objective
    ) -> TrainingLoss:
        """Return the losses of a batch.

        :param dp_model: the model as fairseq2 wrapped it for data parallelism, or the model itself.
        """

    @abstractmethod
    def ctc_paths(self, batch: Seq2SeqBatch) -> list[list[int]]:
        """Return the tokens of each row's best CTC path."""

    @abstractmethod
    def check_objective(self, objective: Objective) -> None:
        """Refuse an objective for which the model lacks something: a ConfigError."""

    @abstractmethod
    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Check that the tokenizer makes the tokens that the model knows, and let it encode.

        :raises ConfigError: their vocabularies differ in size or in control tokens.
        """

    def has_idle_parts(self, objective: Objective) -> bool:
        """Tell whether the objective leaves parameters without gradients."""
        return False

    def start_step(self, step_nr: int, rank: int) -> None:
        """Begin a training step: fixes the random draws of the model itself until the next one."""
        for draws in all_draws(self._model):
            draws.start_step(step_nr, rank)

    def reseed(self, seed: int) -> None:
        """Let the random draws of the model itself come from ``seed``; fairseq2 seeds others."""
        for draws in all_draws(self._model):
            draws.reseed(seed)


@final
class LlamaAdapter(ModelAdapter):
    """The family ``wav2vec2_llama``."""

    _model: Wav2Vec2LlamaModel
    has_decoder = True

    def __init__(self, model: Wav2Vec2LlamaModel) -> None:
        self._model = model
        self.has_ctc = model.ctc_head is not None
        self.encoder_dim = model.encoder_proj.input_dim // model.encoder_stacking
        self.language_column_name = model.language_column_name
        self.languages = model.lang_mapping
        self.num_examples = model.n_context_examples if model.syntax.needs_examples else 0
        self.reads_language = model.syntax.needs_language
        self.reads_segments = model.syntax.is_streaming

    @override
    def compute_loss(
        self, dp_model: Module, batch: Seq2SeqBatch, objective: Objective
    ) -> TrainingLoss:
        loss: TrainingLoss = dp_model(batch, objective=objective)
        return loss

    @override
    def ctc_paths(self, batch: Seq2SeqBatch) -> list[list[int]]:
        return ctc_head_generate(self._model, self._model.read_batch(batch))

    @override
    def check_objective(self, objective: Objective) -> None:
        if objective.ctc_weight > 0.0 and not self.has_ctc:
            raise ConfigError(
                f"`objective.ctc_weight` is {objective.ctc_weight:g}, but the model has no CTC"
                " head; set `model.config_overrides.ctc_head: true`."
            )

    @override
    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        ours, theirs = self._model.target_vocab_info, tokenizer.vocab_info
        _check_vocab_size(ours.size, tokenizer)
        if (ours.bos_idx, ours.eos_idx, ours.pad_idx) != (
            theirs.bos_idx,
            theirs.eos_idx,
            theirs.pad_idx,
        ):
            raise ConfigError(
                f"BOS, EOS and padding are {ours.bos_idx}, {ours.eos_idx}, {ours.pad_idx} in the"
                f" model, but {theirs.bos_idx}, {theirs.eos_idx}, {theirs.pad_idx} in the"
                " tokenizer."
            )
        if self._model.syntax.is_streaming:
            self._model.text_encoder = tokenizer.create_encoder()

    @override
    def has_idle_parts(self, objective: Objective) -> bool:
        weight = objective.ctc_weight
        return weight == 1.0 or (weight == 0.0 and self.has_ctc)


@final
class CtcAdapter(ModelAdapter):
    """fairseq2's family ``wav2vec2_asr``: an encoder with a CTC output layer."""

    _model: Wav2Vec2AsrModel
    has_decoder = False
    has_ctc = True

    def __init__(self, model: Wav2Vec2AsrModel) -> None:
        self._model = model
        self.encoder_dim = model.model_dim

    @override
    def compute_loss(
        self, dp_model: Module, batch: Seq2SeqBatch, objective: Objective
    ) -> TrainingLoss:
        loss: Tensor = dp_model(
            *(batch.source_seqs, BatchLayout.of(batch.source_seqs, list(batch.source_seq_lens))),
            *(batch.target_seqs, BatchLayout.of(batch.target_seqs, list(batch.target_seq_lens))),
        )
        num_targets = sum(length + 1 for length in batch.target_seq_lens)
        return TrainingLoss(loss, loss.new_zeros(()), loss.detach(), num_targets)

    @override
    def ctc_paths(self, batch: Seq2SeqBatch) -> list[list[int]]:
        return ctc_generate(self._model, batch.source_seqs, list(batch.source_seq_lens))

    @override
    def check_objective(self, objective: Objective) -> None:
        if objective.ctc_weight != 1.0:
            raise ConfigError(
                f"`objective.ctc_weight` is {objective.ctc_weight:g}, but a CTC model has no"
                " decoder to train; set it to 1."
            )

    @override
    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        _check_vocab_size(self._model.final_proj.output_dim, tokenizer)


def adapt(model: Module) -> ModelAdapter:
    """Return a model as the recipes see it; one of another family is a ConfigError."""
    if isinstance(model, Wav2Vec2LlamaModel):
        return LlamaAdapter(model)
    check_recognises(type(model))
    return CtcAdapter(cast("Wav2Vec2AsrModel", model))


def model_device(model: Module) -> torch.device:
    """Return the device of a model's weights."""
    return next(model.parameters()).device


def _check_vocab_size(size: int, tokenizer: Tokenizer) -> None:
    if size != tokenizer.vocab_info.size:
        raise ConfigError(
            f"The model has a vocabulary of {size} tokens, but the tokenizer has"
            f" {tokenizer.vocab_info.size}. Choose the model's own tokenizer, or set the model's"
            " vocabulary with `model.config_overrides`."
        )
