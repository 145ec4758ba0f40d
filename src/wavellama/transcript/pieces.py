"""The words of a segment as they are laid out: with the space before them, and their times."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final
from unicodedata import category, east_asian_width

import regex  # the standard library knows neither scripts nor characters of several code points

from wavellama.transcript.types import Segment

_LINE_BREAKS: Final = re.compile(r"\s*[\t-\r\x1c-\x1f\x85\u2028\u2029]\s*")

_UNSPACED: Final = regex.compile(
    r"(?!\p{P})[\p{scx=Hani}\p{scx=Hira}\p{scx=Kana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
    r"|(?=\p{P})[\p{ea=W}\p{ea=F}]|\u0f0b"
)
"""Characters beside which a line may end without a space: letters of scripts without spaces, wide
punctuation, and the mark after a Tibetan syllable."""

_STAYS_BEFORE: Final = regex.compile(r"[\p{Ps}\p{Pi}\p{LOE}]")  # LOE: vowels written first
_STAYS_BEHIND: Final = regex.compile(r"(?![\p{Ps}\p{Pi}])[\p{P}\p{M}]")


@dataclass(frozen=True)
class Piece:
    """What is never cut: a word, or a character of a script without spaces."""

    text: str
    space: str
    """The white space before it; none at the start of a line."""

    start: float
    """In seconds, as is the end."""

    end: float


def clean_text(text: str) -> str:
    """Return the text in one line: tabs and line breaks become spaces, outer space is left out."""
    return _LINE_BREAKS.sub(" ", text).strip()


def count_columns(text: str) -> int:
    """Return how many columns a text takes: two per wide East Asian character, one per other.

    Marks belong to the character that they stand on, and invisible characters take none.
    """
    return sum(_character_columns(character) for character in regex.findall(r"\X", text))


def _character_columns(character: str) -> int:
    if any(east_asian_width(point) in "WF" for point in character):
        return 2
    return int(any(category(point) not in ("Mn", "Me", "Cf", "Cc") for point in character))


def spell_words(text: str, words: Sequence[str]) -> list[str]:
    """Return the words with all that stands between them: joined, they are the text (if any).

    A word begins with the space before it. What is no word, such as a lone dash, goes with the
    word before it, unless there is no space between it and the word after it.

    :raises ValueError: the words do not stand in the text in this order.
    """
    cuts, position = [], 0
    for word in words:
        place = text.find(word, position)
        if place < 0:
            raise ValueError(
                f"The word {word!r} does not stand in {text!r} after its words before."
            )
        space = re.search(r"\s+\S*$", text[position:place])
        cuts.append(position + space.start() if space else place)
        position = place + len(word)
    cuts[:1] = [0] * bool(cuts)  # what stands before the first word goes with it
    return [text[start:end] for start, end in zip(cuts, [*cuts[1:], len(text)], strict=False)]


def timed_pieces(segment: Segment) -> list[Piece]:
    """Return the words of a segment, marks joined with what they stand on."""
    spelled = spell_words(segment.text, [word.text for word in segment.words])
    pieces: list[Piece] = []
    for text, word in zip(spelled, segment.words, strict=True):
        piece = _to_piece(text, word.start, word.end)
        if not piece.text:
            continue
        if pieces and not piece.space and _is_one_character(pieces[-1].text, piece.text):
            last = pieces.pop()
            piece = Piece(last.text + piece.text, last.space, last.start, piece.end)
        pieces.append(piece)
    return pieces


def spread_pieces(segment: Segment) -> list[Piece]:
    """Return the words of a segment without word times: each has a share by its characters."""
    spelled = list(_split_text(clean_text(segment.text)))
    shares = [0, *accumulate(len(text.strip()) for text in spelled)]
    duration = segment.end - segment.start
    times = [segment.start + duration * share / max(shares[-1], 1) for share in shares]
    return [
        _to_piece(text, start, end)
        for text, start, end in zip(spelled, times, times[1:], strict=False)
    ]


def _to_piece(text: str, start: float, end: float) -> Piece:
    clean = clean_text(text)
    space = _LINE_BREAKS.sub(" ", text[: len(text) - len(text.lstrip())])
    return Piece(clean, space, start, end)


def _is_one_character(before: str, after: str) -> bool:
    """Return whether the end of one text and the start of another are one character."""
    if category(after[0]).startswith("M"):
        return True
    characters = regex.findall(r"\X", before)[-1:]
    return len(regex.findall(r"\X", characters[0] + after[:1])) == 1


def _split_text(text: str) -> Iterator[str]:
    """Yield what may stand on lines of its own, each with the space before it."""
    for word in re.findall(r"\s*\S+", text):
        piece, before = "", ""
        for character in regex.findall(r"\X", word):
            if before.strip() and _may_break(before, character):
                yield piece
                piece = ""
            piece, before = piece + character, character
        yield piece


def _may_break(before: str, after: str) -> bool:
    """Return whether a line may end between two characters without a space between them."""
    if _STAYS_BEFORE.match(before) or _STAYS_BEHIND.match(after):
        return False
    return bool(_UNSPACED.match(before) or _UNSPACED.match(after))
