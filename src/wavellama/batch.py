"""One typed batch: what fairseq2's ``Seq2SeqBatch`` and its ``example`` hold for this model.

Shapes: N rows, K examples, T samples, S target tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from fairseq2.datasets import Seq2SeqBatch
from torch import Tensor

from wavellama.errors import BatchError


@dataclass(frozen=True)
class Example:
    """One context example of a row."""

    audio: Tensor | None
    """Its waveform, normalised; None where the model reads text alone. *Shape:* (T)."""

    tokens: list[int]
    """Token ids of its text; none where the model reads audio alone."""


@dataclass(frozen=True)
class TimedWords:
    """The words of a row, and how long each of them lasts."""

    words: list[str]
    """Each but the first one with its leading space."""

    durations: list[float]
    """Seconds; their running sum says where each word ends."""


@dataclass(frozen=True)
class AsrBatch:
    """A batch of utterances; nothing in it is ever changed."""

    audio: Tensor
    """Waveforms, normalised and padded. *Shape:* (N, T)."""

    audio_lens: list[int]
    """Samples per row."""

    targets: list[list[int]]
    """Token ids of each row's transcript, without BOS and EOS."""

    langs: list[str | None] | None
    """Language code of each row (None: not given), or None if the batch carries no column."""

    examples: list[list[Example]] | None = None
    words: list[TimedWords] | None = None
    """The timed words of each row (training of streaming models)."""

    @property
    def num_rows(self) -> int:
        """The number of utterances."""
        return len(self.audio_lens)


@dataclass(frozen=True, kw_only=True)
class BatchColumns:
    """Which columns of a batch's metadata a model reads."""

    language: str | None = "lang"
    """The column of language codes; None: the model reads none."""

    example_text: bool = False
    """Whether it reads the text of context examples (``context_text``)."""

    example_audio: bool = False
    """Whether it reads the audio of context examples (``context_audio``)."""

    words: bool = False
    """Whether it reads timed words (``text_words_merged``, ``word_duration``), if there are any."""


def to_asr_batch(batch: Seq2SeqBatch, columns: BatchColumns | None = None) -> AsrBatch:
    """Read fairseq2's batch, its metadata included, without changing it.

    :param columns: the metadata to read; by default languages alone.
    :raises BatchError: the batch is packed, or a column does not have one entry per row.
    """
    if batch.packed:
        raise BatchError("A packed batch cannot be used; give one row per utterance, padded.")
    columns = columns or BatchColumns()
    read = columns.example_text, columns.example_audio
    audio_lens = list(batch.source_seq_lens)
    example = _Metadata(batch.example, len(audio_lens))
    return AsrBatch(
        batch.source_seqs,
        audio_lens,
        [seq[:n] for seq, n in zip(batch.target_seqs.tolist(), batch.target_seq_lens, strict=True)],
        example.langs(columns.language) if columns.language is not None else None,
        example.examples(*read) if any(read) else None,
        example.words() if columns.words else None,
    )


class _Metadata:
    """The columns of ``batch.example``, checked as they are read."""

    def __init__(self, example: object, num_rows: int) -> None:
        self._example, self._num_rows = example, num_rows

    def langs(self, column: str) -> list[str | None] | None:
        langs = self._column(column)
        if langs is None:
            return None
        if not _is_list_of_codes(langs) or len(langs) != self._num_rows:
            raise BatchError(
                f"`{column}` must be a list with one language code or None for each of the"
                f" {self._num_rows} rows, but is {langs!r}."
            )
        return list(langs)

    def examples(self, with_text: bool, with_audio: bool) -> list[list[Example]]:
        if not with_audio:
            texts = self._seqs("context_text")
            return [[Example(None, ids.tolist()) for ids in row] for row in texts]
        clips = self._seqs("context_audio")
        if not with_text:
            return [[Example(audio, []) for audio in row] for row in clips]
        rows = enumerate(zip(clips, self._seqs("context_text"), strict=True))
        return [_examples(i, audio, texts) for i, (audio, texts) in rows]

    def words(self) -> list[TimedWords] | None:
        if self._column("text_words_merged") is None:
            return None
        words, durations = self._rows("text_words_merged"), self._rows("word_duration")
        rows = [TimedWords(*map(list, pair)) for pair in zip(words, durations, strict=True)]
        for i, row in enumerate(rows):
            if len(row.words) != len(row.durations):
                raise BatchError(
                    f"Row {i} has {len(row.words)} words in `text_words_merged`, but"
                    f" {len(row.durations)} in `word_duration`."
                )
        return rows

    def _column(self, name: str) -> object:
        if self._example is None:
            return None
        if not isinstance(self._example, Mapping):
            raise BatchError(
                "`batch.example` must be a mapping of columns, but is a"
                f" {type(self._example).__name__}."
            )
        return self._example.get(name)

    def _seqs(self, name: str) -> list[list[Tensor]]:
        """Return what a column holds of each row's examples, without padding."""
        return [_seqs(row, name) for row in self._rows(name)]

    def _rows(self, name: str) -> Sequence[Any]:
        """Return a column that the model cannot do without."""
        rows = self._column(name)
        if not isinstance(rows, Sequence) or len(rows) != self._num_rows:
            found = "is missing" if rows is None else f"is {rows!r}"
            raise BatchError(
                f"`{name}` must be a list with one entry for each of the {self._num_rows} rows,"
                f" but {found}."
            )
        return rows


def _examples(row: int, clips: Sequence[Tensor], texts: Sequence[Tensor]) -> list[Example]:
    if len(clips) != len(texts):
        raise BatchError(f"Row {row} has {len(clips)} examples of audio, but {len(texts)} of text.")
    return [Example(audio, ids.tolist()) for audio, ids in zip(clips, texts, strict=True)]


def _seqs(row: object, name: str) -> list[Tensor]:
    """Return the sequences of one row's examples, without padding."""
    if not isinstance(row, Mapping) or not {"seqs", "seq_lens"} <= row.keys():
        raise BatchError(f"A row of `{name}` must be a mapping with `seqs` and `seq_lens`.")
    seqs, lens = row["seqs"], [int(length) for length in row["seq_lens"]]
    if seqs.dim() != 2 or len(seqs) != len(lens) or any(n > seqs.size(1) for n in lens):
        raise BatchError(
            f"The `seqs` of a row of `{name}` have the shape {tuple(seqs.shape)}, which does not"
            f" fit `seq_lens` {lens}."
        )
    return [seq[:length] for seq, length in zip(seqs, lens, strict=True)]


def _is_list_of_codes(langs: object) -> TypeGuard[Sequence[str | None]]:
    return isinstance(langs, Sequence) and all(
        code is None or (isinstance(code, str) and not isinstance(langs, str)) for code in langs
    )
