"""A syntax: the sequence that the decoder reads, declared once for training and inference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from wavellama.errors import ConfigError
from wavellama.prompt.parts import (
    BOS,
    EOS,
    Audio,
    Items,
    Mark,
    Part,
    Repeat,
    Simple,
    Text,
    Token,
    find_repeat,
    flatten,
    is_covered,
    reads_language,
)


@dataclass(frozen=True)
class Syntax:
    """The declaration of one variant's decoder input.

    Everything else derives from the declaration: the ids and the number of special tokens, the
    inputs a batch must have, the positions that the loss covers, and the prompt that inference
    starts from. A declaration that cannot be trained and decoded raises ``ConfigError``.
    """

    name: str
    parts: tuple[Part, ...]
    special_tokens: tuple[str, ...] = ()
    """Names in the order of their ids: base, base + 1, ..."""

    def __post_init__(self) -> None:
        for fault in _faults(self):
            raise ConfigError(f"The syntax {self.name} cannot be used: {fault}.")

    @property
    def needs_language(self) -> bool:
        """Whether a row of the language embedding is part of the sequence."""
        return reads_language(self.parts)

    @property
    def needs_examples(self) -> bool:
        """Whether examples are part of the sequence."""
        return find_repeat(self.parts, Items.EXAMPLES) is not None

    @property
    def needs_example_audio(self) -> bool:
        """Whether the audio of the examples is part of the sequence, too."""
        return Audio() in _each(self.parts, Items.EXAMPLES)

    @property
    def needs_example_text(self) -> bool:
        """Whether the text of the examples is part of the sequence."""
        return Text(loss=False) in _each(self.parts, Items.EXAMPLES)

    @property
    def is_streaming(self) -> bool:
        """Whether the audio is read segment after segment."""
        return find_repeat(self.parts, Items.SEGMENTS) is not None

    @property
    def prompt(self) -> tuple[Part, ...]:
        """The parts up to the first one that the loss covers: what inference reads.

        Of segments, those decoded before stand there as context, and then the current one.
        """
        before = tuple(takewhile(lambda part: not is_covered(part), self.parts))
        covered = self.parts[len(before)]
        if not isinstance(covered, Repeat):
            return before
        parts = (
            replace(part, loss=False) if isinstance(part, Token | Text) else part
            for part in covered.parts
        )
        past = Repeat(Items.PAST, tuple(parts))
        return (*before, past, *takewhile(lambda part: not is_covered(part), covered.parts))

    def token_ids(
        self, bos_idx: int | None, eos_idx: int | None, special_token_base: int
    ) -> Mapping[str, int]:
        """Return the id of every token that a part may name.

        :raises ValueError: the vocabulary has no BOS or no EOS.
        """
        if bos_idx is None or eos_idx is None:
            raise ValueError("`target_vocab_info` must have `bos_idx` and `eos_idx`.")
        special = {name: special_token_base + i for i, name in enumerate(self.special_tokens)}
        return {BOS: bos_idx, EOS: eos_idx, **special}


def _each(parts: Sequence[Part], items: Items) -> tuple[Simple, ...]:
    repeat = find_repeat(parts, items)
    return () if repeat is None else repeat.parts


def _faults(syntax: Syntax) -> Iterator[str]:
    yield from _repeat_faults(syntax)
    yield from _text_faults(syntax.parts)
    yield from _audio_faults(syntax.parts)
    yield from _example_faults(syntax.parts)
    yield from _token_faults(syntax)


def _repeat_faults(syntax: Syntax) -> Iterator[str]:
    repeated = [part.items for part in syntax.parts if isinstance(part, Repeat)]
    if len(set(repeated)) < len(repeated) or Items.PAST in repeated:
        yield "`Repeat` stands there once for examples and once for segments, and for nothing else"
    if syntax.needs_examples and syntax.is_streaming:
        yield "a model that reads segments cannot read examples"


def _text_faults(parts: Sequence[Part]) -> Iterator[str]:
    segments = _each(parts, Items.SEGMENTS)
    if not _ends_with_text(segments or parts) or (segments and not isinstance(parts[-1], Repeat)):
        yield "it has to end with `Text()` and a covered EOS, or with segments that end so"
    shown = Text(loss=False) in (*parts, *segments)
    if shown or sum(map(is_covered, flatten(parts))) != 2:
        yield "the text stands there once, and nothing but the text and its EOS is covered"


def _audio_faults(parts: Sequence[Part]) -> Iterator[str]:
    segments = _each(parts, Items.SEGMENTS)
    if (segments or parts).count(Audio()) != 1 or (segments and Audio() in parts):
        yield "the audio stands there once; of segments, inside their `Repeat`"


def _ends_with_text(parts: Sequence[Part]) -> bool:
    text, end = parts[-2:] if len(parts) > 1 else (None, None)
    return text == Text() and isinstance(end, Token) and end.loss and end.name == EOS


def _example_faults(parts: Sequence[Part]) -> Iterator[str]:
    examples = find_repeat(parts, Items.EXAMPLES)
    if examples is None:
        return
    if not {Audio(), Text(loss=False)} & set(examples.parts):
        yield "its examples have neither audio nor text"
    if Audio() in parts and parts.index(examples) > parts.index(Audio()):
        yield "the examples have to stand before the audio"


def _token_faults(syntax: Syntax) -> Iterator[str]:
    known = (BOS, EOS, *syntax.special_tokens)
    if unknown := sorted(set(_named(syntax.parts)) - set(known)):
        yield f"the token {unknown[0]} is neither bos, eos nor one of its `special_tokens`"
    if len(set(known)) < len(known):
        yield "its `special_tokens` have to differ from each other, and from bos and eos"
    others = [*_each(syntax.parts, Items.EXAMPLES), *syntax.parts]
    if any(isinstance(part, Mark) for part in others):
        yield "`Mark` tells segments apart, and stands in their `Repeat` alone"


def _named(parts: Sequence[Part]) -> Iterator[str]:
    for part in flatten(parts):
        if isinstance(part, Token):
            yield from (part.name, part.reads or part.name)
        elif isinstance(part, Mark):
            yield from (part.last, part.regular)
