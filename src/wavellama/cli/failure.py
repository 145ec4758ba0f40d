"""What the command line says when fairseq2 fails: one sentence instead of a stack trace."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pickle import UnpicklingError
from traceback import walk_tb
from typing import Final

from fairseq2.assets import (
    AssetCardError,
    AssetDownloadError,
    AssetMetadataError,
    AssetStore,
)
from fairseq2.data.tokenizers import (
    TokenizerGatedError,
    TokenizerModelError,
    TokenizerNotKnownError,
)
from fairseq2.datasets import DatasetNotKnownError
from fairseq2.error import OperationalError
from fairseq2.model_checkpoint import CorruptModelCheckpointError
from fairseq2.models import ModelArchitectureNotKnownError, ModelGatedError, ModelNotKnownError
from fairseq2.models.utils.checkpoint import ModelCheckpointMismatchError
from fairseq2.recipe.component import ComponentNotKnownError
from fairseq2.recipe.error import SequenceGeneratorNotKnownError
from fairseq2.runtime.dependency import get_dependency_resolver

from wavellama.errors import ConfigKeyError, UnknownNameError, WavellamaError
from wavellama.model.archs import arch_table

_KINDS: Final[dict[type[BaseException], str]] = {
    ModelNotKnownError: "model card",
    DatasetNotKnownError: "data set card",
    TokenizerNotKnownError: "tokenizer card",
}

_FORESEEN: Final = (
    AssetCardError,
    AssetDownloadError,
    AssetMetadataError,
    CorruptModelCheckpointError,
    ModelCheckpointMismatchError,
    ModelGatedError,
    OperationalError,
    TokenizerGatedError,
    TokenizerModelError,
    TokenizerNotKnownError,
)
"""Errors of fairseq2 that say what a user can mend; any other one is a bug."""

_UNEXPECTED: Final = "unexpected error"
"""What fairseq2 logs of an error that nobody foresaw; its stack trace is for a bug report."""

_SECRETS: Final = "Environment Variables - "
"""fairseq2 logs all environment variables, access keys too, into the output directory."""


@contextmanager
def quiet_fairseq2() -> Iterator[None]:
    """Keep fairseq2 from logging the environment, and the error that ends the command."""
    logger = logging.getLogger("fairseq2")
    logger.addFilter(_is_wanted)
    try:
        yield
    finally:
        logger.removeFilter(_is_wanted)


def is_foreseen(ex: BaseException) -> bool:
    """Tell whether one sentence is enough for this error, outside of a recipe too."""
    return isinstance(ex, _FORESEEN)


def describe_failure(ex: BaseException, config_kls: type[object] | None = None) -> str:
    """Return one sentence on what failed, with the nearest names where a name is unknown.

    :param config_kls: the configuration of the recipe that failed.
    """
    known = _describe_name(ex) or _describe_file(ex)
    if known is None and config_kls is not None:
        known = _describe_key(ex, config_kls)
    return f"error: {known or _chain(ex)}"


def _is_wanted(record: logging.LogRecord) -> bool:
    if record.getMessage().startswith(_SECRETS):
        return False
    if record.exc_info and _describe_file(record.exc_info[1]) is not None:
        return False
    if record.levelno < logging.ERROR or _UNEXPECTED in record.getMessage():
        return True
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "_handle_errors":
            return False
    return True


def _describe_name(ex: BaseException) -> str | None:
    kind = _KINDS.get(type(ex))
    if kind is not None:
        hint = " `wavellama asset list` prints all."
        names = get_dependency_resolver().resolve(AssetStore).asset_names
        known_names = {name.rstrip("@") for name in names}
        return str(UnknownNameError(kind, str(getattr(ex, "name", "")), known_names, hint))
    if isinstance(ex, ModelArchitectureNotKnownError):
        known = {name for rows in arch_table().values() for name in rows}
        return str(UnknownNameError("model architecture", ex.arch, known))
    if isinstance(ex, SequenceGeneratorNotKnownError):
        return f"{ex.name} is not a known generator; is its package installed?"
    if isinstance(ex, ComponentNotKnownError):
        kind = ex.component_kls.__name__.removesuffix("Factory").lower()
        return f"{ex.name} is not a known {kind}; is its package installed?"
    if isinstance(ex, ModelGatedError):
        return f"The card {ex.name} names no checkpoint, so there are no weights to load."
    return None


def _describe_file(ex: BaseException | None) -> str | None:
    """Name the file that fairseq2 could not load, where its own error does not."""
    if not isinstance(ex, ValueError):
        return None
    for frame, _ in walk_tb(ex.__traceback__):
        if frame.f_globals.get("__name__") == "fairseq2.io" and "file" in frame.f_locals:
            return f"{frame.f_locals['file']} is damaged and cannot be loaded ({ex})."
    return None


def _describe_key(ex: BaseException, config_kls: type[object]) -> str | None:
    match = re.search(r"extra key\(s\) ([^.\s,]+)", _chain(ex))
    if match is None:
        return None
    return str(ConfigKeyError(match[1], "The configuration", set(_keys(config_kls()))))


def _chain(ex: BaseException) -> str:
    """Join the messages of an error and of its causes, which say more and more of the reason."""
    messages: list[str] = []
    current: BaseException | None = ex
    while current is not None:
        message = _message(current)
        if message and message not in messages:
            messages.append(message)
        current = current.__cause__
    text = ": ".join(message.rstrip(".") for message in messages)
    return text if text.endswith("?") else f"{text}."


def _message(ex: BaseException) -> str:
    text = " ".join(str(ex).split()).replace(" See logged stack trace for details.", "")
    if isinstance(ex, ModelCheckpointMismatchError):
        return _first_mismatch(text)
    if isinstance(ex, UnpicklingError):  # torch's own advice is to load it unsafely
        return "the file is no archive of tensors"
    return text if text or isinstance(ex, WavellamaError) else type(ex).__name__


def _first_mismatch(text: str) -> str:
    first = re.split(r"(?<=\.) (?=`|Following)", text)[0]
    head, separator, keys = first.partition(": ")
    names = keys.split(", ")
    if not separator or len(names) < 2 or not head.startswith("Following"):
        return first
    return f"{head}: {names[0]} and {len(names) - 1} more"


def _keys(config: object) -> Iterator[str]:
    """Yield the names of all fields of a configuration and of its sections."""
    if not is_dataclass(config):
        return
    for field in fields(config):
        yield field.name
        yield from _keys(getattr(config, field.name))
