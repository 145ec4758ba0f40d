"""From a batch to the texts that a recipe compares or writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

from fairseq2.data.tokenizers import TokenDecoder, Tokenizer
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.generation import Seq2SeqGenerator
from fairseq2.recipe import RecipeContext

from wavellama.errors import ConfigError
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.search.types import Hypothesis


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
    lang: str | None
    duration: float
    reference: str
    hypothesis: Hypothesis
    text: str
    """The text of the hypothesis."""


class Transcriber:
    """Decodes batches with the generator that the recipe's configuration names."""

    def __init__(self, generator: BatchGenerator, decode: TokenDecoder) -> None:
        self._generator = generator
        self._decode = decode

    def transcribe(self, batch: Seq2SeqBatch) -> list[Transcription]:
        """Return the best transcription of each row."""
        columns = cast("Mapping[str, list[Any]]", batch.example)
        best = [row[0] for row in self._generator.generate_batch(batch)]
        return [
            Transcription(
                audio=columns["audio"][i],
                lang=columns["lang"][i],
                duration=columns["duration"][i],
                reference=columns["text"][i],
                hypothesis=hypothesis,
                text=self._decode_tokens(hypothesis.tokens),
            )
            for i, hypothesis in enumerate(best)
        ]

    def _decode_tokens(self, tokens: list[int]) -> str:
        import torch

        return self._decode(torch.tensor(tokens, dtype=torch.int64)) if tokens else ""


def create_transcriber(context: RecipeContext) -> Transcriber:
    """Create the transcriber that the recipe's configuration describes.

    :raises ConfigError: the generator cannot decode batches with metadata.
    """
    generator: Seq2SeqGenerator = context.get_seq2seq_generator()
    if not isinstance(generator, BatchGenerator):
        raise ConfigError(
            f"The generator {type(generator).__name__} has no `generate_batch(batch)`, which"
            " recipes call."
        )
    return Transcriber(generator, context.get_tokenizer().create_decoder())


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
