"""The engine as a search sees it: a list of hypotheses that fork, end and grow by a token.

Shapes: N rows, K hypotheses per row, B hypotheses of all rows, M decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import chain, islice
from typing import final

import torch
from torch import Tensor

from wavellama.engine.cache import KeyValueCache
from wavellama.engine.decoder import Engine, Prefix, Reading
from wavellama.engine.replay import Record, ReplayedStep
from wavellama.engine.rows import CachedRows


@final
class EngineStepDecoder:
    """Decodes the rows of a batch in lock-step (a ``search.StepDecoder``).

    The engine works on a grid of N rows with K hypotheses each; the list of hypotheses names
    places of the grid. Places that are not named repeat another hypothesis of their row and cost
    next to nothing; rows that have ended leave the grid together.

    What a step does on the device (``advance``) has fixed shapes and waits for nothing, as long as
    the grid and the cache keep their sizes. The host asks the device for a number only where rows
    leave, or where the cache may be full.
    """

    def __init__(
        self,
        engine: Engine,
        prompts: Sequence[Tensor],
        prefix: Prefix | None = None,
        *,
        keeps_width: bool | None = None,
        steps_ahead: int | None = None,
        record: Record | None = None,
    ) -> None:
        """
        :param prompts: each row's embedded prompt. *Shape of each:* (S, M).
        :param prefix: what the engine has read before, and what stands before each prompt.
        :param keeps_width: whether the grid stays as wide as it was until rows leave, so that
            shapes change rarely. By default so on all devices but the CPU, where a narrower step
            is a faster one.
        :param steps_ahead: how many likeliest tokens ``follow`` should be asked for at a time. By
            default 8, but on the CPU, which nobody has to wait for, 1.
        :param record: what records steps, to replay them; None: each is run by itself.
        """
        on_cpu = prompts[0].device.type == "cpu"
        self.steps_ahead = (1 if on_cpu else 8) if steps_ahead is None else steps_ahead
        self._keeps_width = not on_cpu if keeps_width is None else keeps_width
        self._engine = engine
        self._rows = CachedRows(engine, prompts, prefix)
        self._columns = [[0] for _ in prompts]  # per row: what its hypotheses continue
        self._width = 1
        self._replay = record and ReplayedStep(self.advance, self._where, record)

    def prefill(self) -> Tensor:
        """Read the prompts; return log-probabilities of each row's first token. (N, V)."""
        return self._rows.prefill()

    @property
    def cache(self) -> KeyValueCache:
        """The cache, once there is one."""
        return self._rows.cache

    def reorder(self, parents: list[int]) -> None:
        """Replace the list: new hypothesis i continues the old hypothesis ``parents[i]``."""
        old = [(row, column) for row, columns in enumerate(self._columns) for column in columns]
        self._columns = [[] for _ in self._columns]
        for parent in parents:
            row, column = old[parent]
            self._columns[row].append(column)
        alive = [row for row, columns in enumerate(self._columns) if columns]
        needed = max(map(len, self._columns))
        dropping = self._rows.pays_to_drop(len(alive))
        self._width = max(needed, self._width) if self._keeps_width and not dropping else needed
        if dropping:
            self._fork()
            self._rows.keep(alive)
            self._columns = [self._columns[row] for row in alive]

    def follow(self, log_probs: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
        """Let each hypothesis go on by its likeliest tokens, of which the last is not read yet.

        :param log_probs: of the next token of each hypothesis. *Shape:* (B, V).
        :returns: the tokens and their log-probabilities. *Shape of each:* (B, num_tokens).
        """
        best = [log_probs.max(-1)]
        for _ in range(num_tokens - 1):
            best.append(self.step(best[-1].indices).max(-1))
        tokens, logprobs = zip(*((one.indices, one.values) for one in best), strict=True)
        return torch.stack(tokens, 1), torch.stack(logprobs, 1)

    def step(self, tokens: list[int] | Tensor) -> Tensor:
        """Append one token to each hypothesis; return the next log-probabilities. (B, V).

        :param tokens: from the host, or as a tensor on the device. *Shape:* (B).
        :raises ValueError: there are more or fewer tokens than hypotheses.
        """
        grids, cells = self._send(tokens)
        return self._take((self._replay or self.advance)(grids), cells)

    def step_together(
        self, decoders: Sequence[EngineStepDecoder], tokens: Sequence[list[int]]
    ) -> list[Tensor]:
        """Do what ``step`` does, for several decoders of this one's engine with tokens each.

        The weights are read once for all; attention sees each decoder's own cache, which is as
        long as its own rows are.

        :raises ValueError: there are more or fewer tokens than hypotheses, or several engines.
        """
        if any(decoder._engine is not self._engine for decoder in decoders):
            raise ValueError("Decoders of several engines cannot take a step together.")
        sent = list(map(EngineStepDecoder._send, decoders, tokens))
        readings = [
            decoder._read(grids) for decoder, (grids, _) in zip(decoders, sent, strict=True)
        ]
        log_probs = self._engine.extend_all(readings)
        cells = [own for _, own in sent]
        return list(map(EngineStepDecoder._take, decoders, log_probs, cells))

    def _send(self, tokens: list[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Make room for a token of each hypothesis; return what ``advance`` is given, and where in
        its grid the hypotheses are.
        """
        self._check_count(len(tokens))
        if not self.cache.has_room(self._width):
            self._fork()  # before the cache is asked what is still in use
        self.cache.reserve(self._width)
        known = [0] * len(tokens) if isinstance(tokens, Tensor) else tokens
        sent = self._rows.send([self._list_parents(), *self._arrange(known), self._list_cells()])
        grids, cells = sent[:3], sent[3, : len(tokens)]  # of one transfer
        if isinstance(tokens, Tensor):
            grids[1, cells] = tokens
        return grids.view(3, -1, self._width), cells

    def _take(self, log_probs: Tensor, cells: Tensor) -> Tensor:
        """Take note that a step was taken; return what it says of the hypotheses. (B, V)."""
        self._rows.lens = [length + 1 for length in self._rows.lens]
        self._columns = [[*range(len(columns))] for columns in self._columns]
        log_probs = log_probs.flatten(0, 1)
        return log_probs if len(cells) == len(log_probs) else log_probs[cells]

    def advance(self, grids: Tensor) -> Tensor:
        """Let each hypothesis of the grid continue another one by a token. (N, K, V).

        The device's part of ``step``, which has reserved places in the cache before; it could be
        recorded once and replayed.

        :param grids: the columns of the hypotheses to continue, tokens and their positions.
            *Shape:* (3, N, K).
        """
        return self._engine.extend(*self._read(grids))

    def _read(self, grids: Tensor) -> Reading:
        """Let the cache have the hypotheses of a step, and places for their tokens."""
        parents, tokens, positions = grids
        cache = self.cache
        cache.fork(parents)
        places = cache.take_places(tokens.size(1))
        cache.visible.scatter_(2, places[..., None], True)
        return Reading(cache, tokens, positions, places)

    def _where(self) -> Hashable:
        """Return what stays the same as long as a recorded step can be replayed."""
        cache = self.cache
        return cache.visible.shape, cache.visible.data_ptr(), cache.keys[0].data_ptr()

    def _fork(self) -> None:
        """Let the cache have the hypotheses of the list, and no others."""
        parents = self._rows.send(self._list_parents())
        self.cache.fork(parents.view(-1, self._width))
        self._columns = [[*range(len(columns))] for columns in self._columns]

    def _list_parents(self) -> list[int]:
        """Return the column that each place of the grid continues, row by row."""
        padded = [self._pad(columns, *columns[:1]) for columns in self._columns]
        return [*chain.from_iterable(padded)]

    def _arrange(self, tokens: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return the grid's tokens and their positions, row by row; rows that ended get zeros."""
        following = iter(tokens)
        read = [self._pad([*islice(following, len(columns))]) for columns in self._columns]
        positions = [
            [length if columns else 0] * self._width
            for columns, length in zip(self._columns, self._rows.lens, strict=True)
        ]
        return [*chain.from_iterable(read)], [*chain.from_iterable(positions)]

    def _check_count(self, num_tokens: int) -> None:
        num_hyps = sum(map(len, self._columns))
        if num_tokens != num_hyps:
            raise ValueError(f"There are {num_tokens} tokens for {num_hyps} hypotheses.")

    def _list_cells(self) -> list[int]:
        """Return where in the grid the list's hypotheses are, and zeros up to N K numbers."""
        listed = [
            row * self._width + column
            for row, columns in enumerate(self._columns)
            for column in range(len(columns))
        ]
        return listed + [0] * (self._width * len(self._columns) - len(listed))

    def _pad(self, numbers: list[int], filling: int = 0) -> list[int]:
        """Return the numbers of a row, as many as the grid is wide."""
        return numbers + [filling] * (self._width - len(numbers))
