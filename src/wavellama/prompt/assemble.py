"""From a syntax and a batch to the sequence of spans that each row of the decoder reads.

Spans say what stands where, in ids and row numbers; the model turns them into embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from wavellama.prompt.parts import Audio, Language, Part, Text, Token, is_covered


@dataclass(frozen=True)
class AudioSpan:
    """All frames of one clip."""

    clip: int


@dataclass(frozen=True)
class LanguageSpan:
    """One row of the language embedding."""

    row: int


@dataclass(frozen=True)
class TokenSpan:
    """Tokens to embed; where the loss covers them, also to predict from the position before."""

    ids: tuple[int, ...]

    labels: tuple[int, ...] | None = None
    """What to predict, as many as ``ids``; None where the loss does not cover them."""


Span: TypeAlias = AudioSpan | LanguageSpan | TokenSpan
Prompt: TypeAlias = tuple[Span, ...]


@dataclass(frozen=True)
class PromptRow:
    """The inputs of one row, as ids."""

    clip: int
    """The row's clip among the embedded ones."""

    language: int = 0
    """The row of the language embedding to show."""

    target: Sequence[int] = ()
    """Token ids of the transcript; empty in inference."""

    shown: Sequence[int] | None = None
    """What the decoder reads in place of ``target``, for token noise; None: the target itself."""


def assemble(
    parts: Sequence[Part], token_ids: Mapping[str, int], rows: Sequence[PromptRow]
) -> list[Prompt]:
    """Return each row's spans in the order of ``parts``.

    :param parts: ``Syntax.parts`` for training, ``Syntax.prompt`` for inference.
    :param token_ids: ``Syntax.token_ids(...)``.
    """
    return [tuple(_span(part, token_ids, row) for part in parts) for row in rows]


def _span(part: Part, token_ids: Mapping[str, int], row: PromptRow) -> Span:
    return _SPANS[type(part)](part, token_ids, row)


def _token_span(part: Part, token_ids: Mapping[str, int], row: PromptRow) -> Span:
    name = part.name if isinstance(part, Token) else ""
    ids = (token_ids[name],)
    return TokenSpan(ids, ids if is_covered(part) else None)


def _text_span(part: Part, token_ids: Mapping[str, int], row: PromptRow) -> Span:
    target = tuple(row.target)
    shown = target if row.shown is None else tuple(row.shown)
    return TokenSpan(shown, target if is_covered(part) else None)


_SPANS: Mapping[type, Callable[[Part, Mapping[str, int], PromptRow], Span]] = {
    Audio: lambda part, token_ids, row: AudioSpan(row.clip),
    Language: lambda part, token_ids, row: LanguageSpan(row.language),
    Token: _token_span,
    Text: _text_span,
}
