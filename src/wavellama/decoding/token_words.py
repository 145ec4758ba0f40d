"""Which tokens make which word."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from fairseq2.data.tokenizers import TokenDecoder

from wavellama.text.words import TextWord, split_at_space


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
