"""The parts that a syntax is made of: immutable descriptions, without any data in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

BOS: Final = "bos"
EOS: Final = "eos"


@dataclass(frozen=True)
class Audio:
    """The embedded frames of the utterance; inside ``Repeat``, of the example or segment."""


@dataclass(frozen=True)
class Language:
    """One row of the language embedding; row 0 where no language is given or shown."""


@dataclass(frozen=True)
class Token:
    """One token: ``bos``, ``eos``, or a special token that the syntax declares."""

    name: str
    loss: bool = False
    """Whether the loss covers it."""

    reads: str | None = None
    """The token that the decoder reads in its place; None: the token itself."""


@dataclass(frozen=True)
class Mark:
    """The token that tells whether a segment is the last one of its audio."""

    last: str
    regular: str


@dataclass(frozen=True)
class Text:
    """The tokens of the transcript; inside ``Repeat``, of the example or segment."""

    loss: bool = True
    """Whether the loss covers them."""


class Items(Enum):
    """What a row has several of."""

    EXAMPLES = "examples"
    """Audio and text, or text alone, given as context."""

    SEGMENTS = "segments"
    """The stretches that the row's audio is cut into."""

    PAST = "past"
    """In inference, the segments that were decoded before and stay in the context."""


@dataclass(frozen=True)
class Repeat:
    """Parts that stand there once for each of the row's items."""

    items: Items
    parts: tuple[Simple, ...]


Simple: TypeAlias = Audio | Language | Token | Mark | Text
Part: TypeAlias = Simple | Repeat


def is_covered(part: Part) -> bool:
    """Return whether the loss covers ``part``, or something in it."""
    if isinstance(part, Repeat):
        return any(is_covered(inner) for inner in part.parts)
    return isinstance(part, Token | Text) and part.loss


def find_repeat(parts: Iterable[Part], items: Items) -> Repeat | None:
    """Return the parts that stand there for each of some items, if they are among ``parts``."""
    repeats = (part for part in parts if isinstance(part, Repeat))
    return next((part for part in repeats if part.items is items), None)


def reads_language(parts: Iterable[Part]) -> bool:
    """Return whether a row of the language embedding is among ``parts``."""
    return Language() in flatten(parts)


def reads_audio(parts: Iterable[Part]) -> bool:
    """Return whether the row's own audio is among ``parts``, as a whole or in segments."""
    return Audio() in flatten(
        part for part in parts if not isinstance(part, Repeat) or part.items is Items.SEGMENTS
    )


def num_fixed(parts: Iterable[Part]) -> int:
    """Return the positions of all parts but audio, text and repetitions."""
    return sum(isinstance(part, Language | Token | Mark) for part in parts)


def flatten(parts: Iterable[Part]) -> Iterator[Simple]:
    """Yield all parts, those inside of repetitions too."""
    for part in parts:
        yield from part.parts if isinstance(part, Repeat) else (part,)
