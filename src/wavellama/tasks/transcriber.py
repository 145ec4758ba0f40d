"""From a batch to the texts that a recipe compares or writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, Protocol, cast, runtime_checkable

import torch
from fairseq2.data.tokenizers import TokenDecoder, VocabularyInfo
from fairseq2.datasets import DataReader, Seq2SeqBatch
from fairseq2.generation import Hypothesis as Fairseq2Hypothesis
from fairseq2.generation import Seq2SeqGenerator
from fairseq2.nn import BatchLayout
from fairseq2.recipe import RecipeContext

from wavellama.data.dataset import AsrDataset
from wavellama.data.utterance import Utterance
from wavellama.decoding.component import BEAM_GENERATOR
from wavellama.errors import BatchError, ConfigError
from wavellama.search.types import Hypothesis
from wavellama.tasks.adapters import ModelAdapter, adapt
from wavellama.tasks.inference_config import InferenceConfig


@runtime_checkable
class BatchGenerator(Protocol):
    """What the recipes ask of a generator component: hypotheses for batches with metadata."""

    def generate_batch(self, batch: Seq2SeqBatch) -> Sequence[Sequence[Hypothesis]]:
        """Return the hypotheses of each row, best first; metadata in the batch is used."""
        ...


class AudioGenerator:
    """A generator that has fairseq2's four-tensor call alone, which carries audio and no metadata.

    Its sequences may hold BOS, EOS and padding; one without EOS is one that has become too long.
    """

    def __init__(self, generator: Seq2SeqGenerator, vocab_info: VocabularyInfo) -> None:
        self._generator = generator
        self._bos = cast("int", vocab_info.bos_idx)  # `ModelAdapter.use_tokenizer` has compared it
        self._eos = vocab_info.eos_idx
        self._control = {self._bos, self._eos, vocab_info.pad_idx}

    def generate_batch(self, batch: Seq2SeqBatch) -> list[list[Hypothesis]]:
        """Return the hypotheses of each row; the prompt of a row is one BOS."""
        audio = batch.source_seqs
        prompts = torch.full((len(audio), 1), self._bos, device=audio.device)
        layouts = BatchLayout.of(audio, list(batch.source_seq_lens)), BatchLayout.of(prompts)
        output = self._generator(audio, layouts[0], prompts, layouts[1])
        return [[self._convert(hypothesis) for hypothesis in row] for row in output.hypotheses]

    def _convert(self, found: Fairseq2Hypothesis) -> Hypothesis:
        tokens, scores = found.seq.tolist(), found.step_scores
        finished = self._eos in tokens
        return Hypothesis(
            tokens=[token for token in tokens if token not in self._control],
            score=nan if found.score is None else float(found.score),
            token_logprobs=[] if scores is None else scores.tolist(),
            finished=finished,
            stop_reason="eos" if finished else "length",
        )


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
    ctc_text: str | None
    """What the CTC head, or the CTC model, says; None without one."""


class Transcriber:
    """Decodes batches with the generator of the recipe, and with the CTC head where there is one.

    ``systems`` are the prefixes of their metrics: empty for the decoder, ``ctc_`` for the head.
    """

    def __init__(
        self,
        adapter: ModelAdapter,
        generator: BatchGenerator | None,
        decode: TokenDecoder,
    ) -> None:
        """Decode with a generator (None: without the decoder); ``decode`` makes text of tokens."""
        self._adapter, self._generator, self._decode = adapter, generator, decode
        self.systems = [""] if generator is not None else []
        self.systems += ["ctc_"] if adapter.has_ctc else []

    def transcribe(self, batch: Seq2SeqBatch) -> list[Transcription]:
        """Return the best transcription of each row.

        :raises BatchError: the generator leaves out a row.
        """
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
        rows = self._generator.generate_batch(batch)
        if len(rows) != batch.num_examples or not all(rows):
            raise BatchError(
                f"The generator has {sum(map(bool, rows))} rows with hypotheses for"
                f" {batch.num_examples} utterances; it must return at least one for each."
            )
        return [row[0] for row in rows]

    def _ctc_best(self, batch: Seq2SeqBatch) -> Sequence[list[int] | None]:
        return (
            self._adapter.ctc_paths(batch)
            if self._adapter.has_ctc
            else [None] * len(batch.source_seq_lens)
        )

    def _to_text(self, tokens: list[int] | None) -> str | None:
        if not tokens:
            return None if tokens is None else ""
        return self._decode(torch.tensor(tokens, dtype=torch.int64))


def create_transcriber(context: RecipeContext, split: str, decode: bool = True) -> Transcriber:
    """Create the transcriber that the recipe's configuration describes.

    :param split: what it is to transcribe.
    :param decode: whether to run the decoder, not the CTC head alone.
    :raises ConfigError: the generator cannot be given what the model reads beside audio.
    """
    adapter = adapt(context.get_model())
    to_text = context.get_tokenizer().create_decoder()
    if not decode or not adapter.has_decoder:
        return Transcriber(adapter, None, to_text)
    generator: Seq2SeqGenerator = context.get_seq2seq_generator()
    if isinstance(generator, BatchGenerator):
        return Transcriber(adapter, generator, to_text)
    if unheard := _beside_audio(adapter, context.get_dataset_as(AsrDataset).utterances(split)):
        raise ConfigError(
            f"The generator {type(generator).__name__} has no `generate_batch(batch)`, so it is"
            f" given audio alone, but the model reads {' and '.join(unheard)}, too. Choose"
            f" `seq2seq_generator: {{name: {BEAM_GENERATOR}}}`, or add that method (see"
            " docs/recipes.md)."
        )
    audio_generator = AudioGenerator(generator, context.get_tokenizer().vocab_info)
    return Transcriber(adapter, audio_generator, to_text)


def _beside_audio(adapter: ModelAdapter, utterances: Sequence[Utterance]) -> list[str]:
    """Return what the model reads of these utterances, audio aside."""
    reads = {
        "context examples": adapter.num_examples > 0,
        "segments": adapter.reads_segments,
        "languages": adapter.reads_language and any(u.lang is not None for u in utterances),
    }
    return [what for what, is_read in reads.items() if is_read]


def open_split(
    context: RecipeContext, config: InferenceConfig
) -> tuple[DataReader[Seq2SeqBatch], Transcriber]:
    """Open the split that a recipe transcribes, and create its transcriber.

    :raises ConfigError: model, tokenizer and generator do not fit each other.
    """
    tokenizer, section = context.get_tokenizer(), config.dataset
    adapter = adapt(context.get_model())
    adapter.use_tokenizer(tokenizer)
    dataset = context.get_dataset_as(AsrDataset)
    options = section.reader_options(context.output_dir, section.valid_split, adapter)
    reader = dataset.create_reader(section.valid_split, tokenizer, context.gangs, options)
    return reader, create_transcriber(context, section.valid_split)
