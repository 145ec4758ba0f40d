"""From the rows that were read to fairseq2's batch.

Shapes: N rows, K context examples, T samples, S tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from fairseq2.datasets import Seq2SeqBatch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wavellama.batch import Example, TimedWords
from wavellama.data.utterance import Utterance
from wavellama.data.words import merged_texts, word_durations
from wavellama.text.words import needs_space


class Row(NamedTuple):
    """One row of a batch."""

    utterance: Utterance
    """Whose language it is; the first of those that were joined."""

    waveform: Tensor
    """Normalised. *Shape:* (T)."""

    text: str
    tokens: Tensor
    """*Shape:* (S)."""

    words: TimedWords | None
    """None if the data set does not know them."""

    context: list[Example]
    """What ZERO_SHOT reads before the utterance."""


def collate(rows: Sequence[Row], pad_idx: int, lang_column: str) -> Seq2SeqBatch:
    """Return the rows as one batch with the metadata that models and recipes read."""
    audio, tokens = (
        _pad([row.waveform for row in rows]),
        _pad([row.tokens for row in rows], pad_idx),
    )
    utterances = [row.utterance for row in rows]
    langs = [utterance.lang for utterance in utterances]
    columns: dict[str, Any] = {
        "lang": langs,
        lang_column: langs,
        "text": [row.text for row in rows],
        "audio": [str(utterance.audio) for utterance in utterances],
        "offset": [utterance.offset for utterance in utterances],
        "duration": [utterance.duration for utterance in utterances],
    }
    words = [row.words for row in rows if row.words is not None]
    if len(words) == len(rows):
        columns["text_words_merged"] = [timed.words for timed in words]
        columns["word_duration"] = [timed.durations for timed in words]
    if rows[0].context:
        columns["context_audio"] = [
            _pad([e.audio for e in row.context if e.audio is not None]) for row in rows
        ]
        texts = [[torch.tensor(example.tokens) for example in row.context] for row in rows]
        columns["context_text"] = [_pad(text, pad_idx) for text in texts]
    return Seq2SeqBatch(
        audio["seqs"], audio["seq_lens"], tokens["seqs"], tokens["seq_lens"], example=columns
    )


def join_words(utterances: Sequence[Utterance], speed: float) -> TimedWords | None:
    """Return the timed words of utterances that are read one after another; None if unknown.

    :param speed: how many times faster the audio was made.
    """
    texts: list[str] = []
    durations: list[float] = []
    pause = 0.0
    for utterance in utterances:
        if utterance.words is None:
            return None
        spaced = merged_texts(utterance.text, utterance.words)
        own = word_durations(utterance.words)
        if spaced:
            begins = bool(texts) and needs_space(texts[-1], spaced[0])
            texts += [f" {spaced[0]}" if begins else spaced[0], *spaced[1:]]
            durations += [pause + own[0], *own[1:]]
            pause = 0.0
        pause += utterance.duration - sum(own)
    return TimedWords(texts, [duration / speed for duration in durations])


def _pad(rows: Sequence[Tensor], value: int = 0) -> dict[str, Any]:
    rows = [row if row.is_floating_point() else row.to(torch.int64) for row in rows]
    seqs = pad_sequence(list(rows), batch_first=True, padding_value=value)
    return {"seqs": seqs, "seq_lens": [len(row) for row in rows]}
