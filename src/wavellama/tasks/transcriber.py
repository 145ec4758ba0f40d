"""From a batch to the texts that a recipe compares or writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast, runtime_checkable

import torch
from fairseq2.data.tokenizers import TokenDecoder, Tokenizer
from fairseq2.datasets import DataReader, Seq2SeqBatch
from fairseq2.generation import Seq2SeqGenerator
from fairseq2.recipe import RecipeContext

from wavellama.data.dataset import AsrDataset
from wavellama.decoding.ctc import ctc_head_generate
from wavellama.errors import ConfigError
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.search.types import Hypothesis
from wavellama.tasks.config import InferenceConfig


@runtime_checkable
class BatchGenerator(Protocol):
    """What a generator component needs beside fairseq2's four-tensor call."""

    def generate_batch(self, batch: Seq2SeqBatch) -> list[list[Hypothesis]]:
        """Return the hypotheses of each row, best first; metadata in the batch is used."""
        ...


@dataclass(frozen=True)
class Transcription:
    """One utterance: what was said and what was recognised."""

    audio: str
    offset: float | None
    lang: str | None
    duration: float
    reference: str

    hypothesis: Hypothesis | None
    """The decoder's best hypothesis; None where the decoder was not asked."""

    text: str | None
    """Its text."""

    ctc_text: str | None
    """What the CTC head says; None without one."""


class Transcriber:
    """Decodes batches with the generator of the recipe, and with the CTC head where there is one.

    ``systems`` are the prefixes of their metrics: empty for the decoder, ``ctc_`` for the head.
    """

    def __init__(
        self,
        model: Wav2Vec2LlamaModel,
        generator: BatchGenerator | None,
        decode: TokenDecoder,
    ) -> None:
        """
        :param generator: decodes batches; None leaves the decoder out.
        :param decode: turns tokens into text.
        """
        self._model, self._generator, self._decode = model, generator, decode
        self.systems = [""] if generator is not None else []
        self.systems += ["ctc_"] if model.ctc_head is not None else []

    def transcribe(self, batch: Seq2SeqBatch) -> list[Transcription]:
        """Return the best transcription of each row."""
        columns = cast("Mapping[str, list[Any]]", batch.example)
        best = self._decoder_best(batch)
        ctc = self._ctc_best(batch)
        return [
            Transcription(
                audio=columns["audio"][i],
                offset=columns["offset"][i],
                lang=columns["lang"][i],
                duration=columns["duration"][i],
                reference=columns["text"][i],
                hypothesis=best[i],
                text=self._to_text(best[i].tokens if best[i] is not None else None),
                ctc_text=self._to_text(ctc[i]),
            )
            for i in range(batch.num_examples)
        ]

    def _decoder_best(self, batch: Seq2SeqBatch) -> list[Any]:
        if self._generator is None:
            return [None] * batch.num_examples
        return [row[0] for row in self._generator.generate_batch(batch)]

    def _ctc_best(self, batch: Seq2SeqBatch) -> Sequence[list[int] | None]:
        if self._model.ctc_head is None:
            return [None] * batch.num_examples
        return ctc_head_generate(self._model, self._model.read_batch(batch))

    def _to_text(self, tokens: list[int] | None) -> str | None:
        if not tokens:
            return None if tokens is None else ""
        return self._decode(torch.tensor(tokens, dtype=torch.int64))


def create_transcriber(context: RecipeContext, decode: bool = True) -> Transcriber:
    """Create the transcriber that the recipe's configuration describes.

    :param decode: whether to run the decoder, not the CTC head alone.
    :raises ConfigError: the generator cannot decode batches with metadata.
    """
    model = context.get_model_as(Wav2Vec2LlamaModel)
    to_text = context.get_tokenizer().create_decoder()
    if not decode:
        return Transcriber(model, None, to_text)
    generator: Seq2SeqGenerator = context.get_seq2seq_generator()
    if not isinstance(generator, BatchGenerator):
        raise ConfigError(
            f"The generator {type(generator).__name__} has no `generate_batch(batch)`, which"
            " recipes call."
        )
    return Transcriber(model, generator, to_text)


def open_split(
    context: RecipeContext, config: InferenceConfig
) -> tuple[DataReader[Seq2SeqBatch], Transcriber]:
    """Open the split that a recipe transcribes, and create its transcriber.

    :raises ConfigError: model and tokenizer do not fit each other.
    """
    tokenizer, section = context.get_tokenizer(), config.dataset
    model = context.get_model_as(Wav2Vec2LlamaModel)
    check_vocabulary(model, tokenizer)
    dataset = context.get_dataset_as(AsrDataset)
    options = replace(
        section.reader_options(context.output_dir, section.valid_split),
        language_column=model.language_column_name,
    )
    reader = dataset.create_reader(section.valid_split, tokenizer, context.gangs, options)
    return reader, create_transcriber(context)


def check_vocabulary(model: Wav2Vec2LlamaModel, tokenizer: Tokenizer) -> None:
    """Check that the tokenizer makes the tokens that the model knows.

    :raises ConfigError: their vocabularies differ in size or in control tokens.
    """
    ours, theirs = model.target_vocab_info, tokenizer.vocab_info
    if ours.size != theirs.size:
        raise ConfigError(
            f"The model has a vocabulary of {ours.size} tokens, but the tokenizer has"
            f" {theirs.size}. Choose the model's own tokenizer, or set the model's vocabulary with"
            " `model.config_overrides`."
        )
    if (ours.bos_idx, ours.eos_idx, ours.pad_idx) != (
        theirs.bos_idx,
        theirs.eos_idx,
        theirs.pad_idx,
    ):
        raise ConfigError(
            f"BOS, EOS and padding are {ours.bos_idx}, {ours.eos_idx}, {ours.pad_idx} in the model,"
            f" but {theirs.bos_idx}, {theirs.eos_idx}, {theirs.pad_idx} in the tokenizer."
        )
