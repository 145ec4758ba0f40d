"""What each token of a tokenizer writes, where words end, and which tokens make a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from weakref import WeakKeyDictionary

import regex
import torch
from fairseq2.data.tokenizers import TokenDecoder, Tokenizer

from wavellama.errors import ConfigError
from wavellama.search.biasing import Joints
from wavellama.text.scripts import is_word_by_itself
from wavellama.text.words import TextWord, split_at_space

_texts: Final[WeakKeyDictionary[Tokenizer, tuple[str, ...]]] = WeakKeyDictionary()

_NUM_BYTES: Final = 256


def token_texts(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return what each token adds to a text, spaces included.

    It is nothing for control tokens, for the unknown token, and for bytes of characters that are
    not in the vocabulary. The texts of a tokenizer are read once.
    """
    if tokenizer not in _texts:
        _texts[tokenizer] = tuple(_read_texts(tokenizer))
    return _texts[tokenizer]


def _read_texts(tokenizer: Tokenizer) -> list[str]:
    decode, size = tokenizer.create_decoder(), tokenizer.vocab_info.size
    anchor, begin = _find_anchor(decode, size)
    # After another token: decoders take away the space at a text's beginning.
    texts = [_decode(decode, anchor, token)[len(begin) :] for token in range(size)]
    if tokenizer.vocab_info.unk_idx is not None:
        texts[tokenizer.vocab_info.unk_idx] = ""
    if "\0" in texts:  # sentencepiece has all bytes in a row
        first = texts.index("\0")
        texts[first : first + _NUM_BYTES] = [""] * _NUM_BYTES
    return ["" if "\ufffd" in text else text for text in texts]


def _find_anchor(decode: TokenDecoder, size: int) -> tuple[int, str]:
    """Return a token that writes letters, and what it writes at a text's beginning."""
    texts = ((token, _decode(decode, token)) for token in range(size))
    return next(((token, text) for token, text in texts if text.isalpha()), (0, ""))


def _decode(decode: TokenDecoder, *tokens: int) -> str:
    return str(decode(torch.tensor(tokens)))


def end_token(tokenizer: Tokenizer) -> int:
    """Return the token that ends a text.

    :raises ConfigError: the tokenizer has none.
    """
    eos_idx = tokenizer.vocab_info.eos_idx
    if eos_idx is None:
        raise ConfigError("The tokenizer has no token for the end of a text.")
    return eos_idx


_PREFIXED_VOWEL: Final = regex.compile(r"\p{LOE}")
"""Thai and Lao vowels that are written before their consonant."""

_MARK: Final = regex.compile(r"[\p{M}\u200c\u200d]")
"""What always goes on with the character before it, joiners included."""

_WORD: Final = regex.compile(r"[\p{L}\p{M}\p{N}\u200c\u200d_]")


def find_joints(texts: Sequence[str], punctuation: int) -> Joints:
    """Return where words end, by the first and last characters of tokens.

    :param punctuation: 1 if it belongs to a word, 0 if a word ends before and after it.
    """
    begins = [2 if _MARK.match(text) else _number(text[:1], punctuation) for text in texts]
    ends = [
        2 if _PREFIXED_VOWEL.match(text[-1:]) else _number(text[-1:], punctuation) for text in texts
    ]
    return Joints(begins, ends)


def _number(char: str, punctuation: int) -> int:
    """Return 1 for a character that belongs to a word together with those beside it, else 0."""
    if not char or char.isspace() or is_word_by_itself(char):
        return 0
    return 1 if _WORD.match(char) else punctuation


def word_token_spans(
    decode: TokenDecoder, tokens: Sequence[int], words: Sequence[TextWord]
) -> list[slice]:
    """Return the tokens of each word, those between the words (spaces) left out.

    A token that several words share (a piece, or a space inside of it) belongs to all of them, and
    tokens that make a character together (bytes) belong to it together; so no span is empty.

    :param decode: the tokenizer's decoder.
    :param words: all words of the tokens' text, as ``text.words.split_words`` returns them.
    :raises ValueError: the words are not those of the text.
    """
    letters = "".join(word.text for word in words)
    if _letters(decode, tokens) != letters:
        raise ValueError("The words are not those of the tokens' text.")
    places = _letter_places(decode, tokens, letters)
    spans: list[slice] = []
    begin = 0
    for word in words:
        end = begin + len(word.text)
        spans.append(slice(places[begin].start, places[end - 1].stop))
        begin = end
    return spans


def _letter_places(decode: TokenDecoder, tokens: Sequence[int], letters: str) -> list[slice]:
    """Return the tokens that make each letter.

    Tokens are decoded one by one; as long as what they make is not what the text goes on with, the
    next one is added to them.
    """
    places: list[slice] = []
    begin = 0
    for end in range(1, len(tokens) + 1):
        made = _letters(decode, tokens[begin:end])
        if letters.startswith(made, len(places)):
            places += [slice(begin, end)] * len(made)
            begin = end
    return places + [slice(begin, len(tokens))] * (len(letters) - len(places))


def _letters(decode: TokenDecoder, tokens: Sequence[int]) -> str:
    """Return the text of tokens without white space."""
    text = decode(torch.tensor(tokens, dtype=torch.int64)) if tokens else ""
    return "".join(split_at_space(text))
