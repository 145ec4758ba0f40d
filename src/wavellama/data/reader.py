"""The reader: utterances are bucketed by length, decoded, tokenised and collated.

Shapes: N rows, T samples, S target tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from fairseq2.data.data_pipeline import read_sequence
from fairseq2.data.tokenizers import Tokenizer
from fairseq2.datasets import DataPipelineReader, DataReader, Seq2SeqBatch, SyncMode
from fairseq2.gang import Gangs
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wavellama.audio.load import normalize
from wavellama.data.utterance import Utterance
from wavellama.units import seconds_to_samples


@dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """How a split is read."""

    batch_audio_secs: float = 40.0
    """The most audio in a batch in seconds, padding included."""

    min_audio_secs: float = 0.1
    """Shorter utterances are left out."""

    max_audio_secs: float = 30.0
    """Longer utterances are left out."""

    shuffle: bool = False
    """Whether to draw a new order in every epoch."""

    seed: int = 2
    """The seed of that order."""

    num_accumulate: int = 1
    """Batches per step."""

    sync_mode: SyncMode = SyncMode.UNTIL_LAST
    """When the ranks of a run stop: with the first one out of data, or with the last."""


def create_batch_reader(
    read_audio: Callable[[Utterance], Tensor],
    utterances: Sequence[Utterance],
    tokenizer: Tokenizer,
    gangs: Gangs,
    options: ReaderOptions,
) -> DataReader[Seq2SeqBatch]:
    """Return a reader of batches; its state resumes exactly where it was saved."""
    encode = tokenizer.create_encoder()
    pad_idx = tokenizer.vocab_info.pad_idx or 0

    def to_example(index: int) -> dict[str, int]:
        return {"index": index, "length": seconds_to_samples(utterances[index].duration)}

    def to_batch(examples: list[dict[str, int]]) -> Seq2SeqBatch:
        chosen = [utterances[example["index"]] for example in examples]
        waveforms = [normalize(read_audio(utterance)) for utterance in chosen]
        texts = [encode(utterance.text) for utterance in chosen]
        return _collate(chosen, waveforms, texts, pad_idx)

    builder = read_sequence(list(range(len(utterances))))
    if options.shuffle:
        builder.shuffle(0, seed=options.seed)  # 0: the window is the whole split
    if gangs.dp.size > 1:
        builder.shard(gangs.dp.rank, gangs.dp.size, allow_uneven=True)
    builder.map(to_example)
    builder.bucket_by_length(bucket_sizes(options), selector="length")
    pipeline = builder.map(to_batch).prefetch(2).and_return()
    return DataPipelineReader(
        pipeline,
        gangs,
        num_accumulate=options.num_accumulate,
        sync_mode=options.sync_mode,
    )


def bucket_sizes(options: ReaderOptions, ratio: float = 1.25) -> list[tuple[int, int]]:
    """Return (rows, samples) of each bucket: rows x samples never exceeds the budget.

    The limits of length grow by ``ratio`` from bucket to bucket, so at most a fifth of a batch is
    padding.
    """
    sizes: list[tuple[int, int]] = []
    limit_secs, longest = max(options.min_audio_secs, 0.5), options.max_audio_secs
    while True:
        limit_secs = min(limit_secs, longest)
        rows = max(1, int(options.batch_audio_secs / limit_secs))
        sizes.append((rows, seconds_to_samples(limit_secs)))
        if limit_secs == longest:
            return sizes
        limit_secs *= ratio


def _collate(
    utterances: Sequence[Utterance], waveforms: list[Tensor], texts: list[Tensor], pad_idx: int
) -> Seq2SeqBatch:
    return Seq2SeqBatch(
        pad_sequence(waveforms, batch_first=True),  # (N, T)
        [len(waveform) for waveform in waveforms],
        pad_sequence(texts, batch_first=True, padding_value=pad_idx).to(torch.int64),  # (N, S)
        [len(text) for text in texts],
        example={
            "lang": [utterance.lang for utterance in utterances],
            "text": [utterance.text for utterance in utterances],
            "audio": [str(utterance.audio) for utterance in utterances],
            "duration": [utterance.duration for utterance in utterances],
        },
    )
