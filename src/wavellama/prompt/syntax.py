"""A syntax: the sequence that the decoder reads, declared once for training and inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

from wavellama.prompt.parts import BOS, EOS, Language, Part, is_covered


@dataclass(frozen=True)
class Syntax:
    """The declaration of one variant's decoder input.

    Everything else derives from it: the ids and the number of special tokens, the inputs a batch
    must have, the positions that the loss covers, and the prompt that inference starts from.
    """

    name: str

    parts: tuple[Part, ...]

    special_tokens: tuple[str, ...] = ()
    """Names in the order of their ids: base, base + 1, ..."""

    @property
    def needs_language(self) -> bool:
        """Whether a row of the language embedding is part of the sequence."""
        return any(isinstance(part, Language) for part in self.parts)

    @property
    def prompt(self) -> tuple[Part, ...]:
        """The parts up to the first one that the loss covers: what inference reads."""
        return tuple(takewhile(lambda part: not is_covered(part), self.parts))

    def token_ids(self, bos_idx: int, eos_idx: int, special_token_base: int) -> Mapping[str, int]:
        """Return the id of every token that a part may name."""
        special = {name: special_token_base + i for i, name in enumerate(self.special_tokens)}
        return {BOS: bos_idx, EOS: eos_idx, **special}
