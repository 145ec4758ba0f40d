"""Words with times, as an alignment finds them and a manifest keeps them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeGuard

TOLERANCE_SECS: Final = 0.1
"""How much longer or shorter than the data set says audio may be; words may end so much later."""


@dataclass(frozen=True)
class AlignedWord:
    """A word and when it is spoken, in seconds from the beginning of the utterance."""

    text: str
    """The word as it stands in the transcript, punctuation included."""

    start: float
    end: float
    score: float | None = None
    """The mean probability of the word's frames; None where nobody computed it."""


def merged_texts(text: str, words: Sequence[AlignedWord]) -> list[str]:
    """Return the words, each but the first with the space that stands before it in ``text``.

    :raises ValueError: the words, one after the other, are not the text.
    """
    merged: list[str] = []
    rest = text.lstrip()
    for word in words:
        spaced = rest[:1].isspace()
        rest = rest.lstrip()
        if not word.text or not rest.startswith(word.text):
            raise ValueError(
                f"has the word {word.text!r} where its text goes on with {rest[:20]!r}"
            )
        rest = rest[len(word.text) :]
        merged.append(f" {word.text}" if spaced else word.text)
    if rest.strip():
        raise ValueError(f"has no times for the end of its text: {rest.strip()[:20]!r}")
    return merged


def word_durations(words: Sequence[AlignedWord]) -> list[float]:
    """Return the seconds from the end of one word to the end of the next; they add up to the ends.

    Pauses therefore belong to the word after them.
    """
    ends = [0.0, *(word.end for word in words)]
    return [end - before for before, end in pairwise(ends)]


def write_words(words: Sequence[AlignedWord]) -> list[dict[str, object]]:
    """Return words as a manifest holds them: mappings that JSON can express."""
    rows: list[dict[str, object]] = []
    for word in words:
        rows.append({"text": word.text, "start": word.start, "end": word.end})
        if word.score is not None:
            rows[-1]["score"] = word.score
    return rows


def parse_words(value: object, text: str, duration: float) -> tuple[AlignedWord, ...] | None:
    """Read the words of an utterance from a manifest; None if there are none.

    :param value: what ``write_words`` returns, or the same as JSON.
    :param text: the transcript, which the words must spell.
    :param duration: the seconds of the utterance, which the words must not exceed.
    :raises ValueError: it is no such list; the message says why.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    items = _parse_json(value) if isinstance(value, str) else value
    if not isinstance(items, list):
        raise ValueError("has words that are not a list")
    words = tuple(_parse_word(item) for item in items)
    _check_order(words, duration)
    merged_texts(text, words)
    return words


def _parse_json(value: str) -> object:
    try:
        return json.loads(value)
    except ValueError as ex:
        raise ValueError(f"has words that are not JSON ({ex})") from ex


def _parse_word(item: object) -> AlignedWord:
    if not isinstance(item, Mapping) or not isinstance(item.get("text"), str):
        raise ValueError(f"has the word {item!r}, which is not a mapping with a `text`")
    start, end, score = (item.get(key) for key in ("start", "end", "score"))
    if not _is_number(start) or not _is_number(end):
        raise ValueError(f"has the word {item!r}, whose `start` and `end` are not seconds")
    if score is not None and not _is_number(score):
        raise ValueError(f"has the word {item!r}, whose `score` is not a number")
    return AlignedWord(
        item["text"], float(start), float(end), None if score is None else float(score)
    )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_order(words: Sequence[AlignedWord], duration: float) -> None:
    before = 0.0
    for word in words:
        if not before <= word.start <= word.end:
            raise ValueError(
                f"has the word {word.text!r} from {word.start:g} to {word.end:g} s, but the word"
                f" before it ends at {before:g} s"
            )
        before = word.end
    if before > duration + TOLERANCE_SECS:
        raise ValueError(f"has words until {before:g} s, but lasts {duration:g} s")
