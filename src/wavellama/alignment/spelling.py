"""From the words of a text to the tokens of a model, and which token belongs to which word."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from fairseq2.data.tokenizers import Tokenizer

from wavellama.errors import AlignmentError
from wavellama.text.normalize import APOSTROPHES
from wavellama.text.words import TextWord

_SPACE: Final = "\u2581"
"""How sentencepiece writes a space."""

_BYTE: Final = re.compile(r"<0x[0-9A-F]{2}>")
"""A piece that is one byte of a character which the tokenizer does not know."""


class Place(NamedTuple):
    """A point between the beginning (0) and the end (1) of a token."""

    token_idx: int
    """Which token of the spelling."""

    share: float


class Spelling(NamedTuple):
    """The tokens of a text."""

    tokens: list[int]
    words: list[tuple[Place, Place] | None]
    """Where each word begins and ends; None: the tokenizer knows none of its characters."""


class Speller:
    """Writes words in the characters that a tokenizer knows, which need not be those of the text.

    A character that is not known is tried in lower and upper case, as its compatibility form, and
    without its marks, in this order; if none is known, it is left out.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._encoder = tokenizer.create_raw_encoder()
        self._unk_idx = tokenizer.vocab_info.unk_idx
        self._chars: dict[str, str] = {}

    def spell(self, words: Sequence[TextWord]) -> Spelling:
        """Return the tokens of the words, encoded as one text.

        A piece that spans several words is shared between them by their letters.

        :raises AlignmentError: the tokenizer knows no character of any word, or its pieces do not
            spell the text.
        """
        normal = [unicodedata.normalize("NFC", word.text) for word in words]
        spelled = [self._known(word) or "".join(map(self._spell_char, word)) for word in normal]
        if not any(spelled):
            text = " ".join(word.text for word in words)
            reason = f"The tokenizer knows no character of {text!r}." if text else "It is empty."
            raise AlignmentError(f"There is no text to align. {reason}")
        text = _join(words, spelled)
        pieces = self._encoder.encode_as_tokens(text)
        letters = [letter for i, piece in enumerate(pieces) for letter in _letters(i, piece)]
        if [letter.char for letter in letters] != list("".join(spelled)):
            raise AlignmentError(
                f"The tokenizer's pieces {pieces} do not spell the text, so it cannot be told which"
                " of them belong to which word."
            )
        tokens: list[int] = self._encoder(text).tolist()
        return Spelling(tokens, _word_places(letters, [len(word) for word in spelled]))

    def _spell_char(self, char: str) -> str:
        if char not in self._chars:
            found = (known for form in _forms(char) if (known := self._known(form)))
            self._chars[char] = next(found, "")
        return self._chars[char]

    def _known(self, text: str) -> str:
        """Return the letters of the tokenizer's pieces for ``text``; none if one is not known."""
        pieces = self._encoder.encode_as_tokens(text)
        unknown = self._unk_idx in self._encoder(text).tolist() or any(map(_BYTE.fullmatch, pieces))
        return "" if unknown else "".join(pieces).replace(_SPACE, "")


def _join(words: Sequence[TextWord], spelled: Sequence[str]) -> str:
    """Return the spelled words as one text, with one space where the words had some."""
    text, spaced = "", False
    for word, letters in zip(words, spelled, strict=True):
        spaced = spaced or word.spaced
        if letters:
            text += f" {letters}" if spaced and text else letters
            spaced = False
    return text


class _Letter(NamedTuple):
    """A letter and its share of a token."""

    char: str
    start: Place
    end: Place


def _letters(token_idx: int, piece: str) -> Iterator[_Letter]:
    """Yield the letters of a piece, which share it in equal parts; a space is no letter."""
    chars = piece.replace(_SPACE, "")
    for i, char in enumerate(chars):
        start, end = Place(token_idx, i / len(chars)), Place(token_idx, (i + 1) / len(chars))
        yield _Letter(char, start, end)


def _word_places(
    letters: Sequence[_Letter], lengths: Sequence[int]
) -> list[tuple[Place, Place] | None]:
    places: list[tuple[Place, Place] | None] = []
    begin = 0
    for length in lengths:
        word = letters[begin : begin + length]
        places.append((word[0].start, word[-1].end) if word else None)
        begin += length
    return places


def _forms(char: str) -> Iterator[str]:
    """Yield what may stand for a character, the likest first."""
    if char in APOSTROPHES:
        char = "'"
    compatible = "".join(unicodedata.normalize("NFKD", char).split())
    bare = "".join(c for c in compatible if not unicodedata.combining(c))
    for form in (char, compatible, bare):
        yield from (form, form.lower(), form.upper())
