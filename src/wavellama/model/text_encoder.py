"""Tokens of a piece of text that keeps its leading space, for the segments of streaming models."""

from __future__ import annotations

from functools import cached_property
from string import ascii_lowercase
from typing import final

from fairseq2.data.tokenizers import TokenEncoder, load_tokenizer
from torch import Tensor
from typing_extensions import override

from wavellama.errors import ConfigError


@final
class SegmentTextEncoder:
    """Encodes text between two sentinel characters, and cuts these off again.

    By itself a text would lose its leading space: sentencepiece strips it.
    """

    def __init__(self, encode: TokenEncoder, unk_idx: int | None) -> None:
        """
        :param encode: the tokenizer's encoder.
        :param unk_idx: its unknown token.
        """
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


@final
class CardTokenEncoder(TokenEncoder):
    """The encoder of a tokenizer by its card, which is loaded when it is first needed."""

    def __init__(self, card: str) -> None:
        self._card = card

    @override
    def __call__(self, text: str) -> Tensor:
        return self._encoder(text)

    @override
    def encode_as_tokens(self, text: str) -> list[str]:
        return self._encoder.encode_as_tokens(text)

    @property
    @override
    def prefix_indices(self) -> Tensor | None:
        return self._encoder.prefix_indices

    @property
    @override
    def suffix_indices(self) -> Tensor | None:
        return self._encoder.suffix_indices

    @cached_property
    def _encoder(self) -> TokenEncoder:
        return load_tokenizer(self._card).create_encoder()
