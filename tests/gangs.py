"""Several processes as threads of one: their gangs exchange what they gather."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier, BrokenBarrierError
from typing import TypeVar

from fairseq2.device import CPU
from fairseq2.gang import FakeGang, Gangs, create_fake_gangs
from torch import Tensor

T = TypeVar("T")

TIMEOUT_SECS = 60


class Exchange:
    """What the threads share."""

    def __init__(self, size: int) -> None:
        self.barrier = Barrier(size)
        self.tensors: list[Tensor | None] = [None] * size


class ThreadGang(FakeGang):  # type: ignore[misc]  # final, but only its gathering differs
    """One of several threads that gather each other's tensors."""

    def __init__(self, exchange: Exchange, rank: int) -> None:
        super().__init__(CPU, rank=rank, size=len(exchange.tensors))
        self._exchange = exchange

    def all_gather_to_list(self, output_tensors: list[Tensor], input_tensor: Tensor) -> None:
        self._exchange.tensors[self.rank] = input_tensor
        self._exchange.barrier.wait(TIMEOUT_SECS)
        for i, tensor in enumerate(self._exchange.tensors):
            assert tensor is not None
            output_tensors[i].copy_(tensor)
        self._exchange.barrier.wait(TIMEOUT_SECS)


def run_ranks(size: int, work: Callable[[Gangs], T]) -> list[T]:
    """Return what ``work`` returns in each of ``size`` threads, one for each rank."""
    exchange = Exchange(size)

    def run(rank: int) -> T:
        gang = ThreadGang(exchange, rank)
        try:
            return work(replace(create_fake_gangs(CPU), root=gang, dp=gang))
        except BaseException:
            exchange.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        running = [pool.submit(run, rank) for rank in range(size)]
    errors = [error for each in running if (error := each.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, BrokenBarrierError)):
        raise error  # of the thread that failed, not of those that waited for it
    return [each.result() for each in running]
