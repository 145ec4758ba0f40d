"""From a syntax and a batch to the sequence of spans that each row of the decoder reads.

Spans say what stands where, in ids and row numbers; the model turns them into embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from wavellama.prompt.parts import Audio, Items, Language, Mark, Part, Repeat, Simple, Text, Token


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

    is_given: bool = False
    """Whether the decoder reads something that the syntax put there, not what it predicted."""


Span: TypeAlias = AudioSpan | LanguageSpan | TokenSpan
Prompt: TypeAlias = tuple[Span, ...]


@dataclass(frozen=True)
class Item:
    """A clip and its text, as ids: an utterance, an example, or a segment."""

    clip: int = -1
    """The clip's place among the embedded ones; -1: none (an example of text alone)."""

    target: Sequence[int] = ()
    """Token ids of the text; empty where it is to be found."""

    shown: Sequence[int] | None = None
    """What the decoder reads in place of ``target``, for token noise; None: the target itself."""

    is_last: bool = True
    """Whether no other segment follows."""


@dataclass(frozen=True)
class PromptRow:
    """The inputs of one row."""

    own: Item
    """The utterance; in streaming inference, the current segment."""

    language: int = 0
    """The row of the language embedding to show."""

    items: Mapping[Items, Sequence[Item]] = field(default_factory=dict)
    """What the row has several of."""


def assemble(
    parts: Sequence[Part], token_ids: Mapping[str, int], rows: Sequence[PromptRow]
) -> list[Prompt]:
    """Return each row's spans in the order of ``parts``.

    :param parts: ``Syntax.parts`` for training, ``Syntax.prompt`` for inference.
    :param token_ids: ``Syntax.token_ids(...)``.
    """
    return [tuple(_spans(parts, token_ids, row)) for row in rows]


def _spans(parts: Sequence[Part], token_ids: Mapping[str, int], row: PromptRow) -> Iterator[Span]:
    for part in parts:
        if isinstance(part, Repeat):
            for item in row.items[part.items]:
                yield from (_span(inner, token_ids, row, item) for inner in part.parts)
        else:
            yield _span(part, token_ids, row, row.own)


def _span(part: Simple, token_ids: Mapping[str, int], row: PromptRow, item: Item) -> Span:
    match part:
        case Audio():
            return AudioSpan(item.clip)
        case Language():
            return LanguageSpan(row.language)
        case Mark():
            return TokenSpan((token_ids[part.last if item.is_last else part.regular],))
        case Text():
            return _text_span(part, item)
        case Token():
            return _token_span(part, token_ids)


def _token_span(part: Token, token_ids: Mapping[str, int]) -> TokenSpan:
    label = (token_ids[part.name],)
    read = label if part.reads is None else (token_ids[part.reads],)
    return TokenSpan(read, label if part.loss else None, part.reads is not None)


def _text_span(part: Text, item: Item) -> TokenSpan:
    target = tuple(item.target)
    shown = target if item.shown is None else tuple(item.shown)
    return TokenSpan(shown, target if part.loss else None)
