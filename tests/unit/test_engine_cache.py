"""What a cache holds: the prompt once per row, and what hypotheses still see."""

from __future__ import annotations

import pytest
import torch

from wavellama.engine.cache import BUCKET, KeyValueCache


def create_cache(*lens: int) -> KeyValueCache:
    return KeyValueCache.allocate(2, 3, 4, [torch.zeros(length, 8) for length in lens])


def step(cache: KeyValueCache, num_hyps: int) -> torch.Tensor:
    cache.reserve(num_hyps)
    places = cache.take_places(num_hyps)
    cache.visible.scatter_(2, places[..., None], True)
    return places


def test_room_is_made_for_the_prompts_and_a_few_steps() -> None:
    cache = create_cache(5, 2)
    assert cache.keys[0].shape == cache.values[1].shape == (2, 3, BUCKET, 4)
    assert cache.visible.sum(-1).tolist() == [[5], [2]]
    assert cache.num_bytes == 4 * (2 * 3 * BUCKET * 4) * 4


@pytest.mark.parametrize(("length", "buckets"), [(1, 1), (32, 1), (33, 2), (64, 2), (97, 3)])
def test_sizes_are_few_and_leave_room(length: int, buckets: int) -> None:
    assert create_cache(1, length).keys[0].size(2) == buckets * BUCKET


def test_new_tokens_go_where_nobody_looks() -> None:
    cache = create_cache(5, 2)
    cache.fork(torch.zeros(2, 3, dtype=torch.int64))
    places = step(cache, 3)
    assert places.tolist() == [[5, 6, 7], [2, 3, 4]]
    for row, length in enumerate((5, 2)):
        for i in range(3):
            seen = cache.visible[row, i].nonzero().flatten().tolist()
            assert seen == [*range(length), length + i]


def test_places_of_ended_hypotheses_are_used_again() -> None:
    cache = create_cache(5)
    for _ in range(40):
        cache.fork(torch.zeros(1, 4, dtype=torch.int64))  # the first one survives, three end
        step(cache, 4)
    assert cache.visible.sum(-1).tolist() == [[45, 45, 45, 45]]
    assert cache.visible.any(1).sum() == 5 + 40 + 3
    assert cache.num_places == BUCKET


def test_it_grows_by_a_little_where_it_is_full() -> None:
    cache = create_cache(5)
    for i in range(BUCKET - 5 + 1):
        assert cache.keys[0].size(2) == BUCKET
        cache.keys[0][:, :, 5 + i - 1] = float(i)
        step(cache, 1)
    assert cache.keys[0].size(2) == cache.values[1].size(2) == 2 * BUCKET
    assert cache.keys[0][0, 0, 4:BUCKET, 0].tolist() == [*map(float, range(BUCKET - 4))]


def test_rows_that_stay_keep_what_they_see() -> None:
    cache = create_cache(2, 6, 3)
    cache.fork(torch.zeros(3, 2, dtype=torch.int64))
    places = step(cache, 2)
    for layer in range(2):
        new = torch.arange(3 * 2 * 3 * 4, dtype=torch.float32).view(3, 2, 3, 4) + layer
        cache.write(layer, places, new, -new)
    before = cache.keys[1][2][:, cache.visible[2, 1]]
    cache.keep_rows(torch.tensor([0, 2]))
    assert cache.visible.shape == (2, 2, BUCKET)
    assert torch.equal(cache.keys[1][1][:, cache.visible[1, 1]], before)
    assert torch.equal(cache.values[1], -cache.keys[1])


def test_hypotheses_fork_where_they_are() -> None:
    cache = create_cache(5)
    cache.fork(torch.zeros(1, 2, dtype=torch.int64))
    step(cache, 2)
    before, visible = cache.visible.data_ptr(), cache.visible.clone()
    cache.fork(torch.tensor([[1, 0]]))
    assert cache.visible.data_ptr() == before
    assert torch.equal(cache.visible, visible[:, [1, 0]])


@pytest.mark.parametrize("num_places", [1, BUCKET + 5])
def test_as_many_places_as_asked_for_are_there(num_places: int) -> None:
    cache = create_cache(3)
    cache.reserve(num_places)
    places = cache.take_places(num_places)
    assert places.tolist() == [[*range(3, 3 + num_places)]]
