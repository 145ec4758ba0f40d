"""Who works on what: files on a disk that all workers see, and no other service.

A lease is the empty file ``NAME.ATTEMPT``, which one worker alone can have made, and whose time of
change the worker keeps renewing. One that has not been renewed for long belonged to a worker that
is gone; whoever makes ``NAME.(ATTEMPT + 1)`` goes on. Nothing is taken over by changing a file, so
of workers that see the same leases one succeeds. Who looked just before a lease was given back may
begin beside another one: both do the same work, and the last one writes the same result again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Final, final
from uuid import uuid4

from wavellama.errors import WavellamaError

_RENEWALS: Final = 4
"""How often a lease is renewed in the time after which it would be over."""

_log = logging.getLogger(__name__)


@final
class Leases:
    """The leases of a folder, as one worker sees them."""

    def __init__(self, folder: Path, secs: float) -> None:
        """:param secs: how long a lease holds that is not renewed."""
        self._folder, self._secs = folder, secs
        folder.mkdir(parents=True, exist_ok=True)

    def is_held(self, name: str) -> bool:
        """Tell whether somebody works on ``name``."""
        newest = self._newest(name)
        return newest is not None and self._is_fresh(newest)

    def num_lost(self, name: str) -> int:
        """Return how many workers have begun with ``name`` and are gone."""
        return sum(not self._is_fresh(path) for path in self._all(name))

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Try to get the lease of ``name``, and keep it within the block.

        An error that nobody foresaw leaves it behind, as the end of the process does: ``name`` may
        be the reason.

        :returns: whether this worker has it.
        """
        newest = self._newest(name)
        if newest is not None and self._is_fresh(newest):
            yield False
            return
        attempt = 0 if newest is None else _attempt(newest) + 1
        lease = self._folder / f"{name}.{attempt}"
        try:
            lease.touch(exist_ok=False)
        except FileExistsError:  # another worker was faster
            yield False
            return
        ended = Event()
        renewal = Thread(target=self._renew, args=(lease, ended), daemon=True)
        renewal.start()
        is_lost = False
        try:
            yield True
        except Exception as ex:
            is_lost = not isinstance(ex, OSError | WavellamaError)
            raise
        finally:
            ended.set()
            renewal.join()
            if not is_lost:
                lease.unlink(missing_ok=True)

    def clear(self, name: str) -> None:
        """Remove what workers that are gone have left of ``name``."""
        for path in self._all(name):
            if not self._is_fresh(path):
                path.unlink(missing_ok=True)

    def _renew(self, lease: Path, ended: Event) -> None:
        while not ended.wait(self._secs / _RENEWALS):
            try:
                os.utime(lease)
            except FileNotFoundError:  # this worker was taken for dead, and another one is done
                return
            except OSError as ex:
                _log.warning("The lease %s cannot be renewed: %s", lease, ex)

    def _all(self, name: str) -> list[Path]:
        return sorted(self._folder.glob(f"{name}.*"), key=_attempt)

    def _newest(self, name: str) -> Path | None:
        return max(self._all(name), key=_attempt, default=None)

    def _is_fresh(self, lease: Path) -> bool:
        try:
            renewed = lease.stat().st_mtime
        except FileNotFoundError:
            return False
        return self._now() - renewed < self._secs

    def _now(self) -> float:
        """Return the time as the disk's own clock tells it: those of the machines may differ."""
        probe = self._folder / f".{uuid4().hex}"
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink()


def _attempt(lease: Path) -> int:
    return int(lease.suffix[1:])
