"""The order of an epoch: which rows make a batch, and which batch comes when.

It is a function of the seed, the epoch, the utterances and the options, and knows nothing of
processes, so that a run may go on with another number of them. The rows, in a random order, are
taken a window at a time. The rows of a window are planned, sorted by length and cut into batches;
the batches of a window come in a random order.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

import torch

from wavellama.data.mixing import Mixture
from wavellama.data.plan import Plan, Planner, ReaderOptions
from wavellama.data.shuffle import WINDOW, shuffle
from wavellama.units import seconds_to_samples

STEP: Final = 1.03
"""By how much longer a row must be to come behind another one."""

PlannedBatch: TypeAlias = "list[Plan]"
"""The rows of a batch, whose audio is not read yet."""


class Position(NamedTuple):
    """How much of an epoch has been handed out."""

    window: int = 0
    """Windows that are over."""

    batch: int = 0
    """Batches of the next window."""


class EpochOrder:
    """The batches of an epoch, planned window by window."""

    def __init__(
        self,
        planner: Planner,
        options: ReaderOptions,
        mixture: Mixture | None,
        seed: int,
        epoch: int,
    ) -> None:
        """
        :param mixture: what says how often a row is read; None: once.
        :param epoch: its number; the first one is 0.
        """
        self._planner, self._options, self._key = planner, options, f"{seed}:{epoch}"
        generator = torch.Generator().manual_seed(random.Random(self._key).getrandbits(63))
        self._rows = torch.arange(planner.num_utterances)
        if mixture is not None:
            self._rows = mixture.draw_rows(generator)
        elif options.shuffle:
            self._rows = shuffle(self._rows, planner.facts.groups, generator)
        self._is_rising = options.short_first and epoch == 0
        if self._is_rising:
            secs = torch.from_numpy(planner.facts.secs)
            self._rows = self._rows[secs[self._rows].argsort(stable=True)]

    @property
    def signature(self) -> tuple[object, ...]:
        """What the batches depend on beside seed and epoch: equal signatures, equal batches."""
        options = self._options
        return (
            *(self._planner.num_utterances, self._planner.audio_secs),
            *(options.batch_audio_secs, options.max_audio_secs, options.num_examples),
            *(
                options.speeds,
                options.concat_p,
                options.shuffle,
                options.betas,
                options.short_first,
            ),
        )

    def iter_from(self, position: Position) -> Iterator[tuple[Position, PlannedBatch]]:
        """Yield the batches from a position on, each with the position behind it."""
        for window in range(position.window, -(-len(self._rows) // WINDOW)):
            batches = self._cut_window(window)
            for i in range(position.batch if window == position.window else 0, len(batches)):
                yield Position(window, i + 1), batches[i]

    def _cut_window(self, window: int) -> list[PlannedBatch]:
        places = range(window * WINDOW, min((window + 1) * WINDOW, len(self._rows)))
        plans = [
            self._planner.plan(int(self._rows[place]), random.Random(f"{self._key}:{place}"))
            for place in places
        ]
        batches = cut_batches(plans, self._options)
        if self._options.shuffle and not self._is_rising:
            random.Random(f"{self._key}:batches:{window}").shuffle(batches)
        if places.stop == len(self._rows):  # what is left for the last step can be shared
            batches.append(batches.pop(max(range(len(batches)), key=lambda i: len(batches[i]))))
        return batches


def cut_batches(plans: Sequence[Plan], options: ReaderOptions) -> list[PlannedBatch]:
    """Cut rows of similar length into batches: rows x longest never exceeds the budget.

    Rows that differ by less than ``STEP`` stay in the order in which they come, so that batches
    differ from epoch to epoch. A row that is longer than the budget is a batch of its own.
    """
    budget = seconds_to_samples(options.batch_audio_secs)
    context = options.num_examples * seconds_to_samples(options.max_audio_secs)
    batches: list[PlannedBatch] = []
    longest = 0
    for plan in sorted(
        plans, key=lambda plan: int(math.log(max(plan.num_samples, 1)) / math.log(STEP))
    ):
        longest = max(longest, plan.num_samples)
        if not batches or (len(batches[-1]) + 1) * (longest + context) > budget:
            batches.append([])
            longest = plan.num_samples
        batches[-1].append(plan)
    return batches


def share_rows(batches: Sequence[PlannedBatch], num_parts: int) -> list[PlannedBatch]:
    """Halve the fullest batches until there are ``num_parts``; no row is left for the last ones."""
    parts = list(batches)
    while len(parts) < num_parts:
        fullest = max(parts, key=len)
        middle = len(fullest) // 2
        parts.remove(fullest)
        parts += [fullest[middle:], fullest[:middle]]
    return parts
