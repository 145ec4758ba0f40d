"""The forms in which a model can be written, by their names on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from wavellama.checkpoints.hub import ModelSource
from wavellama.errors import ConfigError
from wavellama.export.onnx import write_onnx, write_sherpa
from wavellama.export.transformers import write_transformers
from wavellama.files import file_digest, replacing


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What can be asked for; a form that has no such thing refuses it."""

    int8: bool = False
    """Whether matrices are written in 8 bits (ONNX, sherpa-onnx)."""

    language: str | None = None
    """What a CTC head that reads a language is told, for good (sherpa-onnx)."""


def write_published(source: ModelSource, file: Path) -> list[Path]:
    """Write the weights as the published checkpoints have them: fairseq2's names, under ``model``.

    :raises CheckpointError: the checkpoint cannot be read.
    """
    weights = {name: weight.clone() for name, weight in source.read_weights().items()}
    with replacing(file) as part:
        torch.save({"model": weights}, part)
    return [file]


_Writer = Callable[[ModelSource, Path, ExportSettings], list[Path]]

WRITERS: Final[Mapping[str, tuple[_Writer, frozenset[str]]]] = {
    "transformers": (lambda source, to, _: write_transformers(source, to), frozenset()),
    "onnx": (
        lambda source, to, given: write_onnx(source, to, int8=given.int8),
        frozenset({"int8"}),
    ),
    "sherpa-onnx": (
        lambda source, to, given: write_sherpa(source, to, given.language, int8=given.int8),
        frozenset({"int8", "language"}),
    ),
    "published": (lambda source, to, _: write_published(source, to), frozenset()),
}
"""What writes each form, and the settings that it has."""


def write_form(
    form: str, source: ModelSource, target: Path, settings: ExportSettings
) -> list[tuple[Path, str]]:
    """Write a model, and return the files, each with its SHA-256.

    :raises ConfigError: the form has no such setting, or cannot express the model.
    :raises CheckpointError: the checkpoint cannot be read.
    """
    write, known = WRITERS[form]
    for name, value in vars(settings).items():
        if value and name not in known:
            raise ConfigError(f"--{name} means nothing with --to {form}.")
    return [(file, file_digest(file)) for file in write(source, target, settings)]
