"""Leases: one worker has one, keeps it as long as it lives, and another goes on after it."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from wavellama.archive.leases import Leases


def leave(folder: Path, name: str, secs_ago: float) -> None:
    """Leave a lease behind, as a worker does that was killed."""
    folder.mkdir(exist_ok=True)
    (folder / name).touch()
    then = time.time() - secs_ago
    os.utime(folder / name, (then, then))


def test_one_worker_alone_has_a_lease(tmp_path: Path) -> None:
    mine, yours = Leases(tmp_path, 60), Leases(tmp_path, 60)

    with mine.claim("a") as is_mine, yours.claim("a") as is_yours, yours.claim("b") as is_other:
        assert (is_mine, is_yours, is_other) == (True, False, True)
        assert yours.is_held("a")

    assert not yours.is_held("a")
    with yours.claim("a") as is_yours:
        assert is_yours


@pytest.mark.parametrize("lost", [0, 1])
def test_of_workers_that_race_one_wins(tmp_path: Path, lost: int) -> None:
    for attempt in range(lost):
        leave(tmp_path, f"a.{attempt}", 100)
    barrier = Barrier(8)

    def race(_: int) -> bool:
        leases = Leases(tmp_path, 60)
        barrier.wait()
        with leases.claim("a") as is_ours:
            barrier.wait()  # nobody gives it back before all have tried
            return is_ours

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(race, range(8))) == 1


def test_a_lease_that_nobody_renews_is_taken_over(tmp_path: Path) -> None:
    leave(tmp_path, "a.0", 100)
    leases = Leases(tmp_path, 60)

    assert not leases.is_held("a")
    with leases.claim("a") as is_ours:
        assert is_ours
        assert leases.is_held("a")
        assert leases.num_lost("a") == 1
        leases.clear("a")
        assert leases.num_lost("a") == 0
        assert leases.is_held("a")


def test_a_lease_is_renewed_as_long_as_its_worker_lives(tmp_path: Path) -> None:
    leases = Leases(tmp_path, 0.4)

    with leases.claim("a"):
        time.sleep(0.8)
        assert leases.is_held("a")


def test_an_error_gives_the_lease_back(tmp_path: Path) -> None:
    leases = Leases(tmp_path, 60)

    with pytest.raises(OSError, match="full"), leases.claim("a"):
        raise OSError("full")

    assert not leases.is_held("a")
    assert leases.num_lost("a") == 0


def test_an_error_that_nobody_foresaw_counts_as_the_end_of_the_worker(tmp_path: Path) -> None:
    leases = Leases(tmp_path, 0.1)

    with pytest.raises(ValueError, match="bad"), leases.claim("a"):
        raise ValueError("bad")

    assert leases.is_held("a")
    time.sleep(0.2)
    assert leases.num_lost("a") == 1
