"""The beam search as fairseq2's generator component, chosen in YAML by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, cast, final

import torch
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.generation import (
    GenerationCounters,
    Seq2SeqGenerator,
    SequenceGeneratorOutput,
    StepHook,
)
from fairseq2.generation import Hypothesis as Fairseq2Hypothesis
from fairseq2.models.seq2seq import Seq2SeqModel
from fairseq2.nn import BatchLayout
from fairseq2.runtime.dependency import DependencyResolver
from torch import Tensor
from torch.nn import Module
from torch.utils.hooks import RemovableHandle
from typing_extensions import override

from wavellama.batch import AsrBatch
from wavellama.decoding.generate import generate
from wavellama.errors import BatchError, ConfigError
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.search.beam import Row
from wavellama.search.types import Hypothesis

BEAM_GENERATOR: Final = "wav2vec2_llama_beam"


@final
class Wav2Vec2LlamaGenerator(Seq2SeqGenerator):
    """Generates with a fixed configuration."""

    def __init__(self, model: Wav2Vec2LlamaModel, config: Wav2Vec2LlamaBeamSearchConfig) -> None:
        self._model = model
        self._config = config
        self._step_hooks: OrderedDict[int, StepHook] = OrderedDict()

    def generate_batch(self, batch: Seq2SeqBatch | AsrBatch) -> list[list[Hypothesis]]:
        """Return the hypotheses of each row, best first; languages in the batch are used."""
        observer = self._call_hooks if self._step_hooks else None
        return generate(self._model, batch, self._config, observer=observer)

    @override
    def __call__(
        self,
        source_seqs: Tensor,
        source_seqs_layout: BatchLayout,
        prompt_seqs: Tensor,
        prompt_seqs_layout: BatchLayout,
    ) -> SequenceGeneratorOutput:
        """fairseq2's four-tensor call: audio alone, no language.

        :param source_seqs: waveforms. *Shape:* (N, T).
        :param prompt_seqs: one BOS per row; the model writes its own prompt. *Shape:* (N, 1).
        :raises BatchError: a text prompt beyond BOS is asked for.
        """
        if prompt_seqs.size(1) != 1:
            raise BatchError(
                "This generator takes a prompt of one BOS per row, but got"
                f" {prompt_seqs.size(1)} tokens."
            )
        results = self.generate_batch(
            AsrBatch(source_seqs, list(source_seqs_layout.seq_lens), targets=[], langs=None)
        )
        counters = GenerationCounters(
            num_generated_elements=sum(len(h.token_logprobs) for row in results for h in row)
        )
        converted = [[_to_fairseq2(hypothesis) for hypothesis in row] for row in results]
        return SequenceGeneratorOutput(converted, counters)

    @override
    def register_step_hook(self, hook: StepHook) -> RemovableHandle:
        """Let a hook see the live hypotheses after each step, until the handle is removed.

        :raises ConfigError: the model is a streaming one, which searches segment by segment.
        """
        if self._model.syntax.is_streaming:
            raise ConfigError(
                "Step hooks need a model that is not streaming: this one searches each segment of a"
                " row by itself; generate without hooks."
            )
        handle = RemovableHandle(self._step_hooks)
        self._step_hooks[handle.id] = hook
        return handle

    @property
    @override
    def model(self) -> Seq2SeqModel:
        return cast("Seq2SeqModel", self._model)  # it is used as any module that has parameters

    def _call_hooks(self, rows: Sequence[Row]) -> None:
        """Show the live hypotheses, which have the same length in all rows, to the hooks."""
        live = [(row.index, beam) for row in rows for beam in row.live]
        if not live:
            return
        indices = torch.tensor([index for index, _ in live])
        seqs = torch.tensor([beam.tokens for _, beam in live])
        scores = torch.tensor([beam.logprobs for _, beam in live])
        for hook in self._step_hooks.values():
            hook(indices, seqs, scores, seqs.size(1) == 1)


def create_generator(
    resolver: DependencyResolver, config: Wav2Vec2LlamaBeamSearchConfig
) -> Seq2SeqGenerator:
    """Create the component for the recipe's model.

    :raises ConfigError: the model is of another family.
    """
    model: Any = resolver.resolve(Module, key="model")
    if not isinstance(model, Wav2Vec2LlamaModel):
        raise ConfigError(
            f"The generator {BEAM_GENERATOR} needs a wav2vec2_llama model, but the model is a"
            f" {type(model).__name__}."
        )
    return Wav2Vec2LlamaGenerator(model, config)


def _to_fairseq2(hypothesis: Hypothesis) -> Fairseq2Hypothesis:
    return Fairseq2Hypothesis(
        torch.tensor(hypothesis.tokens, dtype=torch.int64),
        torch.tensor(hypothesis.score),
        torch.tensor(hypothesis.token_logprobs[: len(hypothesis.tokens)]),
    )
