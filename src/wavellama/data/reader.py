"""The reader: planned examples are bucketed by length, decoded, tokenised and collated.

Shapes: N rows, T samples, S target tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from fairseq2.data.data_pipeline import DataPipeline, read_sequence
from fairseq2.data.tokenizers import Tokenizer
from fairseq2.datasets import DataPipelineReader, DataReader, Seq2SeqBatch
from fairseq2.gang import Gangs
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import Self, override

from wavellama.audio.augment import change_speed
from wavellama.audio.load import normalize
from wavellama.data.failures import AudioFailures
from wavellama.data.plan import Plan, Planner, ReaderOptions, bucket_sizes
from wavellama.data.utterance import Utterance
from wavellama.errors import AudioError


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
    return EpochReader(reader, planner)


class BatchLoader:
    """Reads the audio of planned examples and collates them; bad audio is left out and noted."""

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
        self._lang_column = options.language_column
        self._failures = AudioFailures(
            options.failures_path, len(utterances), options.max_bad_share
        )

    def load(self, plans: list[Plan]) -> Seq2SeqBatch | None:
        """Return the batch of the planned examples, or None if none of them can be read."""
        examples = [example for plan in plans if (example := self._read(plan)) is not None]
        return _collate(examples, self._pad_idx, self._lang_column) if examples else None

    def _read(self, plan: Plan) -> Example | None:
        utterances = [self._utterances[index] for index in plan["indices"]]
        waveforms: list[Tensor] = []
        for utterance in utterances:
            try:
                waveforms.append(self._read_audio(utterance))
            except AudioError as ex:
                self._failures.add(utterance, ex)
                return None
        waveform = torch.cat(waveforms)
        if plan["speed"] != 1.0:
            waveform = change_speed(waveform, plan["speed"])
        text = " ".join(utterance.text for utterance in utterances)
        # fairseq2's batch needs a target; audio without a transcript gets one padding token.
        tokens = self._encode(text) if text else torch.tensor([self._pad_idx])
        return Example(utterances[0], normalize(waveform), text, tokens)


class Example(NamedTuple):
    """One row of a batch."""

    utterance: Utterance
    """Whose language it is; the first of those that were joined."""

    waveform: Tensor
    """Normalised. *Shape:* (T)."""

    text: str
    tokens: Tensor


class EpochReader(DataReader[Seq2SeqBatch]):
    """A reader that tells its planner the epoch, and saves it with the rest of its state."""

    def __init__(self, reader: DataReader[Seq2SeqBatch], planner: Planner) -> None:
        self._reader, self._planner = reader, planner

    @override
    def __iter__(self) -> Self:
        return self

    @override
    def __next__(self) -> list[Seq2SeqBatch]:
        return next(self._reader)

    @override
    def reset(self) -> None:
        self._planner.epoch += 1
        self._reader.reset()

    @override
    def state_dict(self) -> dict[str, object]:
        return {"epoch": self._planner.epoch, "reader": self._reader.state_dict()}

    @override
    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        self._planner.epoch = cast("int", state_dict["epoch"])
        self._reader.load_state_dict(cast("dict[str, object]", state_dict["reader"]))

    @property
    @override
    def num_accumulate(self) -> int:
        return self._reader.num_accumulate


def _collate(examples: Sequence[Example], pad_idx: int, lang_column: str) -> Seq2SeqBatch:
    waveforms = [example.waveform for example in examples]
    tokens = [example.tokens.to(torch.int64) for example in examples]
    utterances = [example.utterance for example in examples]
    langs = [utterance.lang for utterance in utterances]
    return Seq2SeqBatch(
        pad_sequence(waveforms, batch_first=True),  # (N, T)
        [len(waveform) for waveform in waveforms],
        pad_sequence(tokens, batch_first=True, padding_value=pad_idx),  # (N, S)
        [len(row) for row in tokens],
        example={
            "lang": langs,
            lang_column: langs,
            "text": [example.text for example in examples],
            "audio": [str(utterance.audio) for utterance in utterances],
            "offset": [utterance.offset for utterance in utterances],
            "duration": [utterance.duration for utterance in utterances],
        },
    )
