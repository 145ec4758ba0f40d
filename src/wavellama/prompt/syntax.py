"""A syntax: the sequence that the decoder reads, declared once for training and inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile

from wavellama.prompt.parts import (
    BOS,
    EOS,
    Audio,
    Items,
    Language,
    Part,
    Repeat,
    Simple,
    Text,
    Token,
    flatten,
    is_covered,
)


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
        return any(isinstance(part, Language) for part in flatten(self.parts))

    @property
    def needs_examples(self) -> bool:
        """Whether examples are part of the sequence."""
        return self._repeat(Items.EXAMPLES) is not None

    @property
    def needs_example_audio(self) -> bool:
        """Whether the audio of the examples is part of the sequence, too."""
        repeat = self._repeat(Items.EXAMPLES)
        return repeat is not None and Audio() in repeat.parts

    @property
    def is_streaming(self) -> bool:
        """Whether the audio is read segment after segment."""
        return self._repeat(Items.SEGMENTS) is not None

    @property
    def prompt(self) -> tuple[Part, ...]:
        """The parts up to the first one that the loss covers: what inference reads.

        Of segments, those decoded before stand there as context, and then the current one.
        """
        before = tuple(takewhile(lambda part: not is_covered(part), self.parts))
        covered = self.parts[len(before)]
        if not isinstance(covered, Repeat):
            return before
        past = Repeat(Items.PAST, tuple(_uncovered(part) for part in covered.parts))
        return (*before, past, *takewhile(lambda part: not is_covered(part), covered.parts))

    def token_ids(self, bos_idx: int, eos_idx: int, special_token_base: int) -> Mapping[str, int]:
        """Return the id of every token that a part may name."""
        special = {name: special_token_base + i for i, name in enumerate(self.special_tokens)}
        return {BOS: bos_idx, EOS: eos_idx, **special}

    def _repeat(self, items: Items) -> Repeat | None:
        repeats = (part for part in self.parts if isinstance(part, Repeat))
        return next((part for part in repeats if part.items is items), None)


def _uncovered(part: Simple) -> Simple:
    return replace(part, loss=False) if isinstance(part, Token | Text) else part
