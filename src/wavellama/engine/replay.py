"""A step that is recorded once and replayed: on a GPU, most of a step is waiting for the host.

A CUDA graph repeats operations with the shapes and in the memory in which they were recorded. The
engine's step has fixed shapes and writes into memory that stays where it is, as long as the cache
does not grow and no row leaves (``tests/unit/test_engine_session.py``); otherwise it is recorded
anew. No GPU has run this yet; the tests record and replay with torch's tracer.

Shapes: N rows, K hypotheses per row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeAlias, final

import torch
from torch import Tensor

Step: TypeAlias = Callable[[Tensor], Tensor]
"""What a step does on the device: from grids (3, N, K) to log-probabilities (N, K, V)."""

Record: TypeAlias = Callable[[Step, Tensor], Step]
"""Returns what replays a step, without running it, given grids of the same shape."""


@final
class ReplayedStep:
    """Runs a step, and from the third time on with the same shapes and memory, replays it."""

    def __init__(self, step: Step, where: Callable[[], Hashable], record: Record) -> None:
        """:param where: says in which shapes and memory the step works."""
        self._step, self._where, self._record = step, where, record
        self._key: Hashable = None
        self._num_runs = 0
        self._replay: Step | None = None

    def __call__(self, grids: Tensor) -> Tensor:
        """Take the step. (3, N, K) -> (N, K, V)."""
        key = (grids.shape, self._where())
        if key != self._key:
            self._key, self._num_runs, self._replay = key, 0, None
        self._num_runs += 1
        if self._num_runs <= 2:  # libraries choose their kernels and take their memory meanwhile
            return self._step(grids)
        if self._replay is None:
            self._replay = self._record(self._step, grids)
        return self._replay(grids)


def record_cuda_graph(step: Step, grids: Tensor) -> Step:
    """Return a CUDA graph of a step, which reads and writes memory of its own."""
    given = grids.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step(given)

    def replay(grids: Tensor) -> Tensor:
        given.copy_(grids)
        graph.replay()
        return found.clone()  # the next step writes over it

    return replay
