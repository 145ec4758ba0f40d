"""The reader: planned rows are bucketed by length, decoded, tokenised and collated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import cast

import torch
from fairseq2.data.data_pipeline import DataPipeline, read_sequence
from fairseq2.data.tokenizers import Tokenizer
from fairseq2.datasets import DataPipelineReader, DataReader, Seq2SeqBatch
from fairseq2.gang import Gang, Gangs, ReduceOperation
from torch import Tensor
from typing_extensions import Self, override

from wavellama.audio.load import change_speed, normalize
from wavellama.batch import Example
from wavellama.data.collate import Row, collate, join_words
from wavellama.data.failures import Failures
from wavellama.data.plan import Plan, Planner, ReaderOptions, bucket_sizes
from wavellama.data.utterance import Utterance
from wavellama.errors import AudioError, DataError
from wavellama.text.words import join_texts


def create_batch_reader(
    read_audio: Callable[[Utterance], Tensor],
    utterances: Sequence[Utterance],
    tokenizer: Tokenizer,
    gangs: Gangs,
    options: ReaderOptions,
) -> DataReader[Seq2SeqBatch]:
    """Return a reader of batches; its state resumes exactly where it was saved."""
    planner = Planner(utterances, options, gangs.dp.rank)
    loader = BatchLoader(read_audio, utterances, tokenizer, options)
    builder = read_sequence(list(range(len(utterances))))
    if options.shuffle:
        builder.shuffle(0, seed=options.seed)  # 0: the window is the whole split
    if gangs.dp.size > 1:
        builder.shard(gangs.dp.rank, gangs.dp.size, allow_uneven=True)
    numbered = DataPipeline.zip([builder.and_return(), DataPipeline.count().and_return()])
    numbered.map(planner.plan)
    numbered.bucket_by_length(bucket_sizes(options), selector="num_samples")
    numbered.map(loader.load).filter(lambda batch: batch is not None)
    pipeline = numbered.prefetch(2).and_return()
    reader: DataReader[Seq2SeqBatch] = DataPipelineReader(
        pipeline, gangs, num_accumulate=options.num_accumulate, sync_mode=options.sync_mode
    )
    return EpochReader(reader, planner, gangs.dp)


class BatchLoader:
    """Reads the audio of planned rows and collates them; bad audio is left out and noted."""

    def __init__(
        self,
        read_audio: Callable[[Utterance], Tensor],
        utterances: Sequence[Utterance],
        tokenizer: Tokenizer,
        options: ReaderOptions,
    ) -> None:
        self._read_audio, self._utterances = read_audio, utterances
        self._encode = tokenizer.create_encoder()
        self._pad_idx = tokenizer.vocab_info.pad_idx or 0
        self._lang_column, self._num_examples = options.language_column, options.num_examples
        self._skip_bad_texts = options.skip_bad_texts
        self._failures = Failures(options.failures_path, len(utterances), options.max_bad_share)

    def load(self, plans: list[Plan]) -> Seq2SeqBatch | None:
        """Return the batch of the planned rows, or None if none of them can be read."""
        rows = [row for plan in plans if (row := self._read_row(plan)) is not None]
        return collate(rows, self._pad_idx, self._lang_column) if rows else None

    def _read_row(self, plan: Plan) -> Row | None:
        utterances: list[Utterance] = []
        waveforms: list[Tensor] = []
        for index in plan["indices"]:
            waveform = self._read(self._utterances[index])
            if waveform is not None:
                utterances.append(self._utterances[index])
                waveforms.append(waveform)
        if not utterances:
            return None
        joined = torch.cat(waveforms)
        if plan["speed"] != 1.0:
            joined = change_speed(joined, plan["speed"])
        text = join_texts(utterance.text for utterance in utterances)
        words = join_words(utterances, plan["speed"])
        context = self._read_context(plan["examples"])
        return Row(utterances[0], normalize(joined), text, self._tokens(text), words, context)

    def _read_context(self, candidates: Sequence[int]) -> list[Example]:
        """Return the examples of a row: the first candidates that can be read, again if too few.

        :raises DataError: none of them can be read.
        """
        if not candidates:
            return []
        examples: list[Example] = []
        for index in candidates:
            waveform = self._read(self._utterances[index])
            if waveform is not None:
                tokens = self._tokens(self._utterances[index].text)
                examples.append(Example(normalize(waveform), tokens.tolist()))
            if len(examples) == self._num_examples:
                break
        if not examples:
            raise DataError("None of the context examples that were drawn can be read.")
        return list(islice(cycle(examples), self._num_examples))

    def _read(self, utterance: Utterance) -> Tensor | None:
        """Return the audio of an utterance; None, after it was noted, if it cannot be used."""
        fault = utterance.text_fault if self._skip_bad_texts else None
        if fault is None:
            try:
                return self._read_audio(utterance)
            except AudioError as ex:
                fault = ex.reason
        self._failures.add(utterance, fault)
        return None

    def _tokens(self, text: str) -> Tensor:
        # fairseq2's batch needs a target; audio without a transcript gets one padding token.
        return self._encode(text) if text else torch.tensor([self._pad_idx])


class EpochReader(DataReader[Seq2SeqBatch]):
    """A reader that tells its planner the epoch, and saves it with the rest of its state."""

    def __init__(self, reader: DataReader[Seq2SeqBatch], planner: Planner, gang: Gang) -> None:
        """Wrap a reader; the processes of ``gang`` read shards of the same split."""
        self._reader, self._planner, self._gang = reader, planner, gang
        self._num_batches = 0
        """Batches of this epoch."""

    @override
    def __iter__(self) -> Self:
        return self

    @override
    def __next__(self) -> list[Seq2SeqBatch]:
        """Return the next batches.

        :raises DataError: the epoch ends, and no process has read a single batch.
        """
        try:
            batches = next(self._reader)
        except StopIteration:
            self._check_epoch()
            raise
        self._num_batches += len(batches)
        return batches

    def _check_epoch(self) -> None:
        num_batches = torch.tensor(self._num_batches, device=self._gang.device)
        self._gang.all_reduce(num_batches, ReduceOperation.SUM)
        if int(num_batches) == 0:
            raise DataError("There is nothing to read: none of the split's audio can be used.")

    @override
    def reset(self) -> None:
        self._planner.epoch += 1
        self._num_batches = 0
        self._reader.reset()

    @override
    def state_dict(self) -> dict[str, object]:
        return {
            "epoch": self._planner.epoch,
            "num_batches": self._num_batches,
            "reader": self._reader.state_dict(),
        }

    @override
    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        self._planner.epoch = cast("int", state_dict["epoch"])
        self._num_batches = cast("int", state_dict["num_batches"])
        self._reader.load_state_dict(cast("dict[str, object]", state_dict["reader"]))

    @property
    @override
    def num_accumulate(self) -> int:
        return self._reader.num_accumulate
