"""One typed batch: what fairseq2's ``Seq2SeqBatch`` and its ``example`` hold for this model.

Shapes: N rows, T samples, S target tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairseq2.datasets import Seq2SeqBatch
from torch import Tensor

from wavellama.errors import BatchError


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

    @property
    def num_rows(self) -> int:
        """The number of utterances."""
        return len(self.audio_lens)

    @property
    def num_target_tokens(self) -> int:
        """The number of tokens that the loss covers: the text and one EOS of each row."""
        return sum(len(row) + 1 for row in self.targets)


def to_asr_batch(batch: Seq2SeqBatch, language_column: str | None = "lang") -> AsrBatch:
    """Read fairseq2's batch, its metadata included, without changing it.

    :param language_column: the metadata column of language codes; None: the model reads none.
    :raises BatchError: the batch is packed, or a column does not have one entry per row.
    """
    if batch.packed:
        raise BatchError("A packed batch cannot be used; give one row per utterance, padded.")
    audio_lens = list(batch.source_seq_lens)
    targets = [
        row[:length]
        for row, length in zip(batch.target_seqs.tolist(), batch.target_seq_lens, strict=True)
    ]
    langs = None
    if language_column is not None:
        langs = _read_langs(batch.example, language_column, len(audio_lens))
    return AsrBatch(batch.source_seqs, audio_lens, targets, langs)


def _read_langs(example: object, column: str, num_rows: int) -> list[str | None] | None:
    if example is None:
        return None
    if not isinstance(example, Mapping):
        raise BatchError(
            f"`batch.example` must be a mapping of columns, but is a {type(example).__name__}."
        )
    langs = example.get(column)
    if langs is None:
        return None
    if not _is_list_of_codes(langs) or len(langs) != num_rows:
        raise BatchError(
            f"`{column}` must be a list with one language code or None for each of the"
            f" {num_rows} rows, but is {langs!r}."
        )
    return list(langs)


def _is_list_of_codes(langs: object) -> bool:
    return isinstance(langs, Sequence) and all(
        code is None or (isinstance(code, str) and not isinstance(langs, str)) for code in langs
    )
