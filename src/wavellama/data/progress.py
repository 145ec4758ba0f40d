"""Progress bars, on standard error so that results can be piped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

T = TypeVar("T")
R = TypeVar("R")


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield the items while a bar named ``what`` shows how many of ``total`` are done."""
    yield from rich_track(items, what, total=total, console=Console(stderr=True))


def map_in_threads(function: Callable[[T], R], items: Sequence[T], what: str) -> list[R]:
    """Return ``function`` of each item, computed in threads under a progress bar.

    An interruption ends it at once, without the items that are still waiting.
    """
    with ThreadPoolExecutor() as pool:
        try:
            return list(track(pool.map(function, items), what, len(items)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
