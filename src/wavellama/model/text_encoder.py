"""Tokens of a piece of text that keeps its leading space, for the segments of streaming models."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from string import ascii_lowercase
from typing import final

from fairseq2.data.tokenizers import TokenEncoder, load_tokenizer
from torch import Tensor

from wavellama.errors import ConfigError


@final
class SegmentTextEncoder:
    """Encodes text between two sentinel characters, and cuts these off again.

    By itself a text would lose its leading space: sentencepiece strips it.
    """

    def __init__(self, encode: Callable[[str], Tensor], unk_idx: int | None) -> None:
        """Take the encoder of a tokenizer, and its unknown token."""
        self._encode, self._unk_idx = encode, unk_idx

    def __call__(self, text: str) -> list[int]:
        """Return the tokens of ``text``, one of them for a leading space.

        :raises ConfigError: the tokenizer merges characters across the sentinels.
        """
        if not text:
            return []
        sentinel, token = self._sentinel(text)
        tokens: list[int] = self._encode(f"{sentinel}{text}{sentinel}").tolist()
        if tokens[0] != token or tokens[-1] != token:
            raise ConfigError(
                f"The tokenizer does not encode the character {sentinel!r} by itself, so the tokens"
                f" of {text!r} cannot be told; streaming needs a tokenizer of characters."
            )
        return tokens[1:-1]

    def _sentinel(self, text: str) -> tuple[str, int]:
        """Return a character that is one known token, and this token."""
        for character in [*ascii_lowercase, *text]:
            tokens = self._encode(character).tolist()
            if len(tokens) == 1 and tokens[0] != self._unk_idx:
                return character, tokens[0]
        raise ConfigError(f"The tokenizer knows no character of {text!r} as one token.")


def card_encoder(card: str) -> Callable[[str], Tensor]:
    """Return the encoder of a tokenizer by its card, which is loaded when it is first needed."""

    @cache
    def load() -> TokenEncoder:
        return load_tokenizer(card).create_encoder()

    return lambda text: load()(text)
