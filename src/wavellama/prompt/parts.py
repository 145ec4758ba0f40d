"""The parts that a syntax is made of: immutable descriptions, without any data in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

BOS: Final = "bos"
EOS: Final = "eos"


@dataclass(frozen=True)
class Audio:
    """The embedded frames of the utterance."""


@dataclass(frozen=True)
class Language:
    """One row of the language embedding; row 0 where no language is given or shown."""


@dataclass(frozen=True)
class Token:
    """One token: ``bos``, ``eos``, or a special token that the syntax declares."""

    name: str

    loss: bool = False
    """Whether the loss covers it."""


@dataclass(frozen=True)
class Text:
    """The tokens of the transcript."""

    loss: bool = True
    """Whether the loss covers them."""


Part: TypeAlias = Audio | Language | Token | Text


def is_covered(part: Part) -> bool:
    """Return whether the loss covers the positions of ``part``."""
    return isinstance(part, Token | Text) and part.loss
