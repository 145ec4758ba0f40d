"""Steps that are recorded and replayed, with torch's tracer in the place of a GPU."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from tests.unit.test_engine_session import FORKS, create_decoder, start
from wavellama.engine import KeyValueCache
from wavellama.engine.replay import ReplayedStep, Step


class Recorder:
    """Records steps as operations, counts how often, and undoes what recording has done."""

    cache: KeyValueCache

    def __init__(self) -> None:
        self.shapes: list[torch.Size] = []

    def __call__(self, step: Step, grids: Tensor) -> Step:
        self.shapes.append(grids.shape)
        cache = self.cache
        kept = [part.clone() for part in (cache.visible, *cache.keys, *cache.values)]
        recorded = make_fx(lambda grids: step(grids))(grids)
        for part, before in zip((cache.visible, *cache.keys, *cache.values), kept, strict=True):
            part.copy_(before)
        return cast("Step", recorded)


def test_a_replayed_step_gives_what_the_step_gives_also_while_the_cache_grows() -> None:
    model = create_decoder()
    recorder = Recorder()
    plain, replayed = (
        start(model, 7, 3, keeps_width=True, record=record) for record in (None, recorder)
    )
    recorder.cache = replayed.cache

    for decoder in (plain, replayed):
        decoder.reorder([0, 0, 1, 1])
        decoder.step([3, 4, 5, 6])
    for step_nr in range(90):  # more than a bucket of places
        parents = FORKS[step_nr % len(FORKS)]
        tokens = [3 + (step_nr + i) % 5 for i in range(len(parents))]
        for decoder in (plain, replayed):
            decoder.reorder(parents)
        torch.testing.assert_close(replayed.step(tokens), plain.step(tokens), rtol=0, atol=0)

    assert len(recorder.shapes) >= 2
    assert torch.equal(replayed.cache.visible, plain.cache.visible)


def test_a_step_in_another_place_is_recorded_anew() -> None:
    place, recorded = [0], list[Tensor]()

    def record(step: Step, grids: Tensor) -> Step:
        recorded.append(grids)
        return step

    step = ReplayedStep(lambda grids: grids + 1, lambda: place[0], record)
    grids = torch.zeros(3, 1, 1)
    for where, count in ((0, 0), (0, 0), (0, 1), (0, 1), (1, 1), (1, 1), (1, 2)):
        place[0] = where
        assert torch.equal(step(grids), grids + 1)
        assert len(recorded) == count
    for count in (2, 2, 3):
        step(torch.zeros(3, 2, 1))
        assert len(recorded) == count
