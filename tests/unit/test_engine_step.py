"""What a decoding step costs, and that it is the same work again and again."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from tests.fakes import arch_config, create_model
from wavellama import Wav2Vec2LlamaModel
from wavellama.decoding.engine_view import find_engine
from wavellama.engine import Engine, EngineStepDecoder, KeyValueCache
from wavellama.engine.cache import BUCKET


def create_decoder(max_seq_len: int = 512) -> Wav2Vec2LlamaModel:
    config = arch_config("tiny", {"llama_config": {"max_seq_len": max_seq_len}})
    return create_model(config, seed=1).eval()


def start(model: Wav2Vec2LlamaModel, *prompt_lens: int) -> tuple[Engine, EngineStepDecoder]:
    """Return an engine that has read prompts of random numbers."""
    engine = find_engine(model)
    assert engine is not None
    generator = torch.Generator().manual_seed(0)
    prompts = [
        torch.randn(n, model.model_dim, generator=generator, dtype=torch.float64)
        for n in prompt_lens
    ]
    decoder = EngineStepDecoder(engine, prompts)
    decoder.prefill()
    return engine, decoder


def count_flops(decoder: EngineStepDecoder, num_hyps: int) -> int:
    """Return the floating-point operations of one step."""
    decoder.reorder([0] * num_hyps)
    with FlopCounterMode(display=False) as counter:
        decoder.step([3] * num_hyps)
    flops: int = counter.get_total_flops()
    assert flops > 0
    return flops


@pytest.mark.parametrize("num_hyps", [1, 5])
def test_a_step_does_not_grow_with_the_longest_sequence_that_is_possible(num_hyps: int) -> None:
    (_, short), (_, long) = (start(create_decoder(limit), 40) for limit in (128, 4096))
    assert count_flops(short, num_hyps) == count_flops(long, num_hyps)
    assert short.cache.num_bytes == long.cache.num_bytes


@pytest.mark.parametrize("num_hyps", [1, 5])
def test_a_step_grows_by_attention_alone_when_the_prompt_does(num_hyps: int) -> None:
    model = create_decoder()
    lens = [BUCKET * n - BUCKET // 2 for n in (1, 2, 3)]  # caches of one, two and three buckets
    one, two, three = (count_flops(start(model, length)[1], num_hyps) for length in lens)
    assert two - one == three - two > 0
    assert two < 2 * one


def test_a_recorded_step_serves_as_every_step_of_its_size() -> None:
    """What replaying a step without the host needs: its operations depend on no value, its shapes
    stay the same, and it writes into memory that stays where it is.
    """
    engine, decoder = start(create_decoder(), 7, 3)
    decoder.reorder([0, 0, 1, 1])
    cache = decoder.cache

    def step(tokens: Tensor, positions: Tensor, places: Tensor, visible: Tensor) -> Tensor:
        return engine.extend(
            KeyValueCache(cache.keys, cache.values, visible), tokens, positions, places
        )

    reference = deepcopy(cache)
    recorded = None
    for step_nr in range(20):
        tokens = torch.tensor([[3, 4], [5, 6]]) + step_nr % 4
        positions = torch.tensor([[7, 7], [3, 3]]) + step_nr
        places = cache.take_places(2)
        cache.visible.scatter_(2, places[..., None], True)
        inputs = (tokens, positions, places, cache.visible)
        reference.visible = cache.visible
        expected = engine.extend(reference, tokens, positions, places)
        if recorded is None:
            recorded = make_fx(step)(*(part.clone() for part in inputs))
        torch.testing.assert_close(recorded(*inputs), expected)
        parents = torch.tensor([[1, 0], [0, 0]]) if step_nr % 3 else torch.tensor([[0, 1], [1, 1]])
        cache.fork(parents)
    for own, others in ((cache.keys, reference.keys), (cache.values, reference.values)):
        for kept, expected in zip(own, others, strict=True):
            torch.testing.assert_close(kept, expected)
