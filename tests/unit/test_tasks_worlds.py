"""Tensors that one number of processes had shared out, dealt out to another number."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from fairseq2.device import CPU
from fairseq2.gang import FakeGang
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wavellama.errors import CheckpointError
from wavellama.tasks.worlds import cut_shard, join_shards, redeal_weights


def cut(whole: Tensor, size: int) -> list[Tensor]:
    return [cut_shard(whole, FakeGang(CPU, rank=rank, size=size)) for rank in range(size)]


@given(rows=st.integers(1, 12), before=st.integers(1, 6), after=st.integers(1, 6))
def test_shards_of_any_world_make_those_of_another(rows: int, before: int, after: int) -> None:
    """Also where there are fewer rows than processes, so that some have none."""
    whole = torch.arange(2.0 * rows).view(rows, 2)
    joined = join_shards(cut(whole, before), whole)
    assert torch.equal(joined, whole)
    shards = cut(joined, after)
    assert torch.equal(torch.cat(shards), whole)
    assert len(shards[0]) == -(-rows // after), "torch.chunk cuts so"


def test_what_each_process_had_whole_is_taken_once() -> None:
    buffer = torch.arange(3.0)
    assert torch.equal(join_shards([buffer, buffer], torch.zeros(3)), buffer)


def test_a_checkpoint_of_another_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"has the shape \(4,\), but this run's has \(3,\)"):
        join_shards([torch.zeros(2), torch.zeros(2)], torch.zeros(3))


def test_a_shard_keeps_no_memory_of_the_whole() -> None:
    assert cut(torch.zeros(8), 4)[1].untyped_storage().nbytes() == 2 * 4


def test_a_checkpoint_with_other_weights_is_refused() -> None:
    gang, weight = FakeGang(CPU), torch.arange(4.0)
    shards = [{"weight": part} for part in cut(weight, 2)]
    state = redeal_weights(shards, {"weight": torch.zeros(4)}, gang)
    assert torch.equal(cast("Tensor", state["weight"]), weight)
    own = {"weight": torch.zeros(4), "masker": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="masker is in this run's model only"):
        redeal_weights(shards, own, gang)
    with pytest.raises(CheckpointError, match="weight is in the checkpoint only"):
        redeal_weights(shards, {}, gang)
