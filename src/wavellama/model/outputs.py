"""What the model returns.

Shapes: N rows, T frames, T' embedded frames, S decoder positions, M decoder width, E encoder width,
V target vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from fairseq2.nn import BatchLayout
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wavellama.prompt.layout import PromptLayout

T = TypeVar("T")
R = TypeVar("R")


class DecoderInputs(NamedTuple):
    """What the decoder reads, without running it."""

    decoder_context_inputs: list[Tensor]
    """The context of each decoded segment, zero-padded. *Shape of each:* (N, S_ctx, M)."""

    decoder_context_seq_lens: list[list[int]]
    """Per decoded segment, the length of each row's context; 0 where a row has no such segment."""

    audio_embeddings: Tensor
    """What ``embed_audio`` returns for the batch's audio. *Shape:* (N, T', M)."""


class ForwardOutput(NamedTuple):
    """The loss and all that led to it."""

    loss: Tensor
    logits: Tensor
    decoder_inputs_layout: BatchLayout
    decoder_context_inputs: list[Tensor]
    decoder_context_seq_lens: list[list[int]]
    audio_embeddings: Tensor


class SharedPrefix:
    """What the prompts of many batches begin with, such as context examples."""

    def __init__(self, seqs: Tensor) -> None:
        """:param seqs: the embedded positions. *Shape:* (S, M)."""
        self.seqs = seqs
        self._read: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def read_by(self, reader: T, read: Callable[[Tensor], R]) -> R:
        """Return what ``read`` makes of the positions; each reader is asked once."""
        if reader not in self._read:
            self._read[reader] = read(self.seqs)
        result: R = self._read[reader]
        return result


class EmbeddedPrompt(NamedTuple):
    """The decoder's input as embeddings, with its layout."""

    seqs: Tensor
    """*Shape:* (N, S, M)."""

    layout: PromptLayout
    audio: Sequence[Tensor] = ()
    """Each row's own clip as the decoder reads it, where it does. *Shape of each:* (T', M)."""

    frames: Sequence[Tensor] = ()
    """In inference, the encoder's frames of each row's own clip. *Shape of each:* (T, E)."""

    languages: Sequence[int] = ()
    """In inference, the language that each row is told, as a row of its embedding."""

    prefix: SharedPrefix | None = None
    """What stands before each row and is not part of ``seqs``."""

    @property
    def prefix_len(self) -> int:
        """The number of positions before each row."""
        return 0 if self.prefix is None else len(self.prefix.seqs)

    def contexts(self) -> list[Tensor]:
        """Return what is given rather than predicted, per decoded segment. (N, S_ctx, M) each."""
        columns = range(len(self.layout.context_lens))
        return [pad_sequence(self._column(i), batch_first=True) for i in columns]

    def _column(self, place: int) -> list[Tensor]:
        rows = zip(self.seqs, self.layout.contexts, strict=True)
        return [seq[row[place]] if place < len(row) else seq[:0] for seq, row in rows]
