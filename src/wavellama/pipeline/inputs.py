"""What is to be transcribed: inputs with what goes with each, checked before any audio is read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Final, TypeAlias, cast

import numpy as np
from torch import Tensor

from wavellama.audio.load import AudioInput, describe
from wavellama.audio.sources import BinaryFile
from wavellama.audio.tracks import EVERYTHING, Selection
from wavellama.batch import Example
from wavellama.errors import BatchError, DataError
from wavellama.files import read_lines
from wavellama.options import check_value

ITERABLE_AUDIO: Final = (str, bytes, bytearray, memoryview, np.ndarray, Tensor, Mapping, BinaryFile)
"""What is a single input, or meant as one, though it can be iterated over."""

Langs: TypeAlias = "str | Sequence[str | None] | None"
"""One language code for all inputs, or one code or None for each."""


@dataclass(frozen=True)
class ContextExample:
    """An example that a zero-shot model reads before the audio: what was said, and its text."""

    audio: AudioInput
    text: str


Examples: TypeAlias = "Sequence[ContextExample] | Sequence[Sequence[ContextExample]]"
"""The same examples for all inputs, or those of each input."""


@dataclass(frozen=True)
class Input:
    """One input."""

    index: int
    audio: AudioInput
    lang: str | None = None
    """The code of its language; None: not given."""

    examples: Sequence[Example] | None = None
    selection: Selection = EVERYTHING

    @property
    def name(self) -> str:
        """What messages call it."""
        return describe(self.audio)


def as_list(inputs: AudioInput | Iterable[AudioInput]) -> list[AudioInput]:
    """Return a list of inputs: of a single one, or of what a list, generator or the like holds."""
    if isinstance(inputs, ITERABLE_AUDIO) or not isinstance(inputs, Iterable):
        return [cast("AudioInput", inputs)]
    return list(inputs)


def langs_per_input(lang: Langs, count: int) -> list[str | None]:
    """Return one language per input; those for another number of inputs are a BatchError."""
    if lang is not None and not isinstance(lang, Iterable):
        raise BatchError(f"`lang` must be a language code, or one for each input, but is {lang!r}.")
    langs = [lang] * count if lang is None or isinstance(lang, str) else list(lang)
    for code in langs:
        check_value("lang", code, str, NoneType)
    if len(langs) != count:
        raise BatchError(f"`lang` has {len(langs)} entries for {count} inputs.")
    return langs


def examples_per_input(examples: Examples, count: int) -> list[Sequence[ContextExample]]:
    """Return the examples of each input.

    :raises BatchError: an input has none, or there are lists for another number of inputs.
    """
    if examples and all(isinstance(example, ContextExample) for example in examples):
        return [cast("Sequence[ContextExample]", examples)] * count
    rows = cast("Sequence[Sequence[ContextExample]]", examples)
    if len(rows) != count:
        raise BatchError(f"`context_examples` has {len(rows)} entries for {count} inputs.")
    if not all(rows):
        raise BatchError("Each input needs one context example or more.")
    return list(rows)


def read_examples_tsv(path: Path) -> list[ContextExample]:
    """Return the examples of a table: an audio file, a tab and its text in each line.

    Audio files are looked for beside the table. A first line ``audio<TAB>text`` is a heading;
    empty lines mean nothing.

    :raises DataError: the table cannot be read, is empty, or a line is something else.
    """
    examples: list[ContextExample] = []
    for number, row in _read_rows(path):
        if len(row) != 2 or not all(row):
            raise DataError(f"{path}:{number}: needs an audio file, a tab, and its text.")
        examples.append(ContextExample(path.parent / os.path.expanduser(row[0]), row[1]))
    if not examples:
        raise DataError(f"{path} holds no example: each line is an audio file, a tab, its text.")
    return examples


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the cells of all lines but the heading, with the numbers of the lines."""
    try:
        lines = read_lines(path)
    except (OSError, UnicodeDecodeError) as ex:
        raise DataError(f"{path} cannot be read ({ex}).") from ex
    cells = [[cell.strip() for cell in line.split("\t")] for line in lines]
    rows = [(number, row) for number, row in enumerate(cells, 1) if any(row)]
    has_heading = bool(rows) and [cell.lower() for cell in rows[0][1]] == ["audio", "text"]
    return rows[1:] if has_heading else rows
