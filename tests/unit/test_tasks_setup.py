"""A run that goes on: the schedule of its learning rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fairseq2.optim.lr_schedulers import (
    CosineAnnealingLR,
    LRScheduler,
    NoamLR,
    PolynomialDecayLR,
    TriStageLR,
)
from torch import nn
from torch.optim import SGD, Optimizer

from wavellama.tasks.setup import keep_schedule

SCHEDULERS: dict[str, Callable[[Optimizer, int], LRScheduler]] = {
    "cosine": lambda optimizer, steps: CosineAnnealingLR(optimizer, steps - 2, 2, final_lr=0.01),
    "polynomial": lambda optimizer, steps: PolynomialDecayLR(optimizer, steps, 2),
    "tri_stage": lambda optimizer, steps: TriStageLR(optimizer, steps, (0.2, 0.2, 0.6)),
    "noam": lambda optimizer, _: NoamLR(optimizer, 2),
}


class Run:
    """What of a training run has to do with its learning rates."""

    def __init__(self, kind: str, num_steps: int, lr: float = 1.0) -> None:
        groups: list[dict[str, Any]] = [
            {"params": nn.Linear(1, 1).parameters()},
            {"params": [], "lr": lr / 10},
        ]
        self.optimizer = SGD(groups, lr=lr)
        self.scheduler = SCHEDULERS[kind](self.optimizer, num_steps)
        keep_schedule(self.optimizer, self.scheduler)

    def train(self, num_steps: int) -> list[list[float]]:
        """Return the rates of the next steps, one for each group."""
        rates = []
        for _ in range(num_steps):
            self.optimizer.step()
            rates.append([group["lr"] for group in self.optimizer.param_groups])
            self.scheduler.step()
        return rates

    def go_on_from(self, saved: Run) -> None:
        """Restore what a checkpoint holds, in the order of fairseq2's trainer."""
        self.scheduler.load_state_dict(saved.scheduler.state_dict())
        self.optimizer.load_state_dict(saved.optimizer.state_dict())


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("first", [3, 5, 10, 20], ids="{}_of".format)
def test_a_run_that_goes_on_follows_its_own_schedule(kind: str, first: int) -> None:
    """``first``: the length of the attempt that was left after 3 steps, or at its end."""
    done = min(first, 5)
    whole, attempt, resumed = Run(kind, 10), Run(kind, first), Run(kind, 10)
    expected = whole.train(10)
    attempt.train(done)
    resumed.go_on_from(attempt)
    assert resumed.train(10 - done) == expected[done:]
    assert resumed.scheduler.get_last_lr() == whole.scheduler.get_last_lr()


def test_a_rate_may_change_between_attempts() -> None:
    attempt, resumed = Run("cosine", 10), Run("cosine", 10, lr=0.5)
    attempt.train(4)
    resumed.go_on_from(attempt)
    assert resumed.train(6) == Run("cosine", 10, lr=0.5).train(10)[4:]


class Counted(LRScheduler):
    """Remembers more than how many steps are done, as a scheduler of another package may."""

    memory = 0

    def get_lr(self) -> list[float]:
        self.memory += 1
        return [0.5 * float(group["lr"]) for group in self.optimizer.param_groups]


def test_schedulers_that_remember_more_keep_what_they_saved() -> None:
    attempt, resumed = (SGD(nn.Linear(1, 1).parameters(), lr=1.0) for _ in range(2))
    old, new = Counted(attempt), Counted(resumed)
    keep_schedule(resumed, new)
    attempt.step()
    old.step()
    new.load_state_dict(old.state_dict())
    resumed.load_state_dict(attempt.state_dict())
    assert new.state_dict() == old.state_dict()
    assert new.memory == 2
