"""What cannot be recognised costs its own input the transcript, and no other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache, partial
from typing import Final, NamedTuple, TypeVar

import torch

from wavellama.errors import ContextTooLongError, DecodingError

T = TypeVar("T")
R = TypeVar("R")

NO_MEMORY: Final = (
    "the device's memory is too small even for one piece of it; choose fewer beams or, unless the"
    " model is a streaming one, shorter pieces (`chunk_secs`)."
)

HALF_PRECISION: Final = " Numbers overflow easily in float16: choose bfloat16 or float32."

_log = logging.getLogger(__name__)


class Fault(NamedTuple):
    """That something could not be done."""

    reason: str


def attempt(work: Callable[[], R], dtype: torch.dtype) -> R | Fault:
    """Return the result of some work, or why this audio does not let it succeed.

    Of an error its reason alone is kept: what hangs on it is memory that others may need. The type
    of the model's weights decides what is advised.
    """
    try:
        return work()
    except torch.OutOfMemoryError:
        return Fault(NO_MEMORY)
    except ContextTooLongError as ex:
        return Fault(str(ex))
    except DecodingError as ex:
        return Fault(f"{ex}{HALF_PRECISION if dtype == torch.float16 else ''}")


def attempt_all(
    work: Callable[[list[T]], list[R]], rows: list[T], dtype: torch.dtype
) -> list[R | Fault]:
    """Return the results of rows that are worked on together; where that fails, in halves."""
    results = attempt(partial(work, rows), dtype)
    if not isinstance(results, Fault):
        return [*results]
    if len(rows) == 1:
        return [results]
    if results.reason == NO_MEMORY:
        _warn_of_memory()
    half = len(rows) // 2
    return [*attempt_all(work, rows[:half], dtype), *attempt_all(work, rows[half:], dtype)]


@cache
def _warn_of_memory() -> None:
    _log.warning(
        "The device's memory is too small for what is recognised together, which is therefore tried"
        " in halves; with a smaller `batch_secs` it goes faster."
    )
