"""What a decoding step costs, and that it is the same work again and again."""

from __future__ import annotations

from collections import UserList
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from typing_extensions import override

from tests.fakes import arch_config, create_model
from wavellama import Wav2Vec2LlamaModel
from wavellama.decoding.engine_view import find_engine
from wavellama.engine import Engine, EngineStepDecoder, EngineVerifier, KeyValueCache
from wavellama.engine import decoder as decoder_module
from wavellama.engine.cache import BUCKET
from wavellama.search.greedy import GreedySearch
from wavellama.search.stopping import RepetitionGuard


def create_decoder(max_seq_len: int = 512) -> Wav2Vec2LlamaModel:
    config = arch_config("tiny", {"llama_config": {"max_seq_len": max_seq_len}})
    return create_model(config, seed=1).eval()


def create_prompts(model: Wav2Vec2LlamaModel, *lens: int) -> list[Tensor]:
    """Return prompts of random numbers."""
    generator, width = torch.Generator().manual_seed(0), model.model_dim
    return [torch.randn(n, width, generator=generator, dtype=torch.float64) for n in lens]


def open_decoder(model: Wav2Vec2LlamaModel, *prompt_lens: int, **options: Any) -> EngineStepDecoder:
    """Return an engine that is to read prompts."""
    return EngineStepDecoder(engine_of(model), create_prompts(model, *prompt_lens), **options)


def start(model: Wav2Vec2LlamaModel, *prompt_lens: int, **options: Any) -> EngineStepDecoder:
    """Return an engine that has read prompts."""
    decoder = open_decoder(model, *prompt_lens, **options)
    decoder.prefill()
    return decoder


def engine_of(model: Wav2Vec2LlamaModel) -> Engine:
    engine = find_engine(model)
    assert engine is not None
    return engine


def count_flops(decoder: EngineStepDecoder, num_hyps: int) -> int:
    """Return the floating-point operations of one step."""
    decoder.reorder([0] * num_hyps)
    with FlopCounterMode(display=False) as counter:
        decoder.step([3] * num_hyps)
    flops: int = counter.get_total_flops()
    assert flops > 0
    return flops


@pytest.mark.parametrize("num_groups", [1, 2])
@pytest.mark.parametrize("prefix_len", [None, 150])
def test_prompts_attend_in_blocks_as_at_once(
    num_groups: int, prefix_len: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other devices than the CPU leave attention within prompts to torch."""
    config = {"num_attn_heads": 2, "num_key_value_heads": num_groups, "max_seq_len": 512}
    model = create_model(arch_config("tiny", {"llama_config": config}), seed=1).eval()
    engine, prompts = engine_of(model), create_prompts(model, 300, 128, 3)
    prefix = prefix_len and engine.read_prefix(create_prompts(model, prefix_len)[0])
    cache, log_probs = engine.prefill(prompts, prefix or None)
    monkeypatch.setattr(decoder_module, "_IN_BLOCKS", set())
    expected_cache, expected = engine.prefill(prompts, prefix or None)
    torch.testing.assert_close(log_probs, expected)
    torch.testing.assert_close(cache.keys[-1], expected_cache.keys[-1])


@pytest.mark.parametrize("num_hyps", [1, 5])
def test_a_step_does_not_grow_with_the_longest_sequence_that_is_possible(num_hyps: int) -> None:
    short, long = (start(create_decoder(limit), 40) for limit in (128, 4096))
    assert count_flops(short, num_hyps) == count_flops(long, num_hyps)
    assert short.cache.num_bytes == long.cache.num_bytes


@pytest.mark.parametrize("num_hyps", [1, 5])
def test_a_step_grows_by_attention_alone_when_the_prompt_does(num_hyps: int) -> None:
    model = create_decoder()
    lens = [BUCKET * n - BUCKET // 2 for n in (1, 2, 3)]  # caches of one, two and three buckets
    one, two, three = (count_flops(start(model, length), num_hyps) for length in lens)
    assert two - one == three - two > 0
    assert two < 2 * one


def places_in_memory(cache: KeyValueCache) -> list[int]:
    return [part.data_ptr() for part in (*cache.keys, *cache.values, cache.visible)]


def record(decoder: EngineStepDecoder) -> Callable[[Tensor], Tensor]:
    """Return what a step does on the device, as operations that depend on no value."""
    visible = decoder.cache.visible.clone()

    def advance(grids: Tensor) -> Tensor:
        return decoder.advance(grids)

    grids = torch.zeros(3, *visible.shape[:2], dtype=torch.int64)
    grids[0] = torch.arange(visible.size(1))  # each hypothesis goes on, so that none is overwritten
    recorded = make_fx(advance)(grids)
    decoder.cache.visible.copy_(visible)  # recording it has done it
    return cast("Callable[[Tensor], Tensor]", recorded)


FORKS = [[1, 0, 2, 3], [0, 0, 2, 2], [1, 3], [0, 0, 1], [1, 0, 2, 2]]
"""Parents of two rows with two hypotheses each, some of which end and come back."""


def test_a_recorded_step_serves_as_every_step_of_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """What replaying a step without the host needs: its operations depend on no value, its shapes
    stay the same, and it writes into memory that stays where it is.
    """
    model = create_decoder()
    decoders = [start(model, 7, 3, keeps_width=True) for _ in range(2)]
    for decoder in decoders:
        decoder.reorder([0, 0, 1, 1])
        decoder.step([3, 4, 5, 6])
    plain, replayed = decoders
    recorded = record(replayed)
    monkeypatch.setattr(replayed, "advance", recorded)
    before = places_in_memory(replayed.cache)
    for step_nr in range(20):
        parents = FORKS[step_nr % len(FORKS)]
        tokens = [3 + (step_nr + i) % 5 for i in range(len(parents))]
        for decoder in decoders:
            decoder.reorder(parents)
        torch.testing.assert_close(replayed.step(tokens), plain.step(tokens), rtol=0, atol=0)
    assert places_in_memory(replayed.cache) == before
    assert torch.equal(replayed.cache.visible, plain.cache.visible)


class Questions(TorchFunctionMode):
    """Refuses to tell the host numbers, which on a CPU no operation is needed for."""

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        assert func not in (Tensor.tolist, Tensor.numpy, Tensor.item, Tensor.cpu)
        return func(*args, **kwargs or {})


class Traffic(TorchDispatchMode):
    """Counts numbers that the host asks for, tensors that it sends, and scores of tokens."""

    asked = 0
    sent = 0
    scored = 0

    @override
    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = func.overloadpacket.__name__
        self.asked += name in ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique")
        self.sent += name == "lift_fresh"
        self.scored += name == "_log_softmax"
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("num_hyps", [1, 5])
def test_the_host_asks_for_nothing_while_the_cache_has_room(num_hyps: int) -> None:
    decoder = start(create_decoder(), 7, 3)
    parents = [0] * num_hyps + [1] * num_hyps  # one survives
    decoder.reorder(parents)
    decoder.step([3] * len(parents))
    num_asked, num_steps = 0, 80
    for _ in range(num_steps):
        has_room = decoder.cache.has_room(num_hyps)
        with Questions(), Traffic() as traffic:  # type: ignore[no-untyped-call]
            decoder.reorder([i // num_hyps * num_hyps for i in range(len(parents))])
            decoder.step([3] * len(parents))
        assert traffic.sent == 1 + (not has_room)
        assert traffic.asked == (not has_room)
        num_asked += traffic.asked
    assert 0 < num_asked < num_steps / 4
    assert decoder.cache.num_places == 128


def test_decoders_that_step_together_read_the_weights_once() -> None:
    model = create_decoder()
    alone, joined = ([start(model, n) for n in (7, 3, 90)] for _ in range(2))
    tokens = [[3], [4], [5]]
    expected = [decoder.step(own) for decoder, own in zip(alone, tokens, strict=True)]
    with Traffic() as traffic:  # type: ignore[no-untyped-call]
        log_probs = joined[0].step_together(joined, tokens)
    torch.testing.assert_close(log_probs, expected, rtol=0, atol=1e-12)
    assert traffic.scored == 1
    assert [decoder.cache.num_places for decoder in joined] == [64, 64, 128]


def test_decoders_of_two_models_do_not_step_together() -> None:
    one, other = (start(create_decoder(), 7) for _ in range(2))
    with pytest.raises(ValueError, match="several engines"):
        one.step_together([one, other], [[3], [3]])


EOS = 2
LENS = (7, 3, 12, 5, 9)


@pytest.mark.parametrize("steps_ahead", [2, 5, 8])
@pytest.mark.parametrize("guard", [None, RepetitionGuard(window=8, threshold=0.9)])
def test_greedy_search_may_run_ahead_of_the_host(
    steps_ahead: int, guard: RepetitionGuard | None
) -> None:
    model, max_lens = create_decoder(), [30, 1, 9, 22, 40]
    search = GreedySearch(EOS, guard=guard)
    expected = search.run(open_decoder(model, *LENS), max_lens)
    ahead = open_decoder(model, *LENS, steps_ahead=steps_ahead)
    for (ours,), (theirs,) in zip(search.run(ahead, max_lens), expected, strict=True):
        assert (ours.tokens, ours.stop_reason) == (theirs.tokens, theirs.stop_reason)
        assert ours.token_logprobs == pytest.approx(theirs.token_logprobs)
    reasons = {row[0].stop_reason for row in expected}
    assert reasons == {"length", "eos"} | ({"repetition"} if guard else set())


def test_running_ahead_asks_for_tokens_once() -> None:
    decoder = start(create_decoder(), 7, 3, steps_ahead=8)
    with Questions(), Traffic() as traffic:  # type: ignore[no-untyped-call]
        decoder.follow(torch.randn(2, 16).log_softmax(-1), 8)
    assert (traffic.asked, traffic.sent) == (0, 7)


@pytest.mark.parametrize("merging", [False, True])
def test_a_beam_of_five_takes_little_more_memory_than_one(merging: bool) -> None:
    """The prompt is there once, and of each hypothesis what it does not share."""
    random, model = Random(0), create_decoder(2048)
    sizes = {}
    for num_hyps in (1, 5):
        decoder = start(model, 1500)
        decoder.reorder([0] * num_hyps)
        for _ in range(99):  # the first token is the prefill's
            decoder.step(random.choices(range(4, 9), k=num_hyps))
            parents = random.choices(range(num_hyps), k=num_hyps)
            decoder.reorder(parents if merging else list(range(num_hyps)))
        sizes[num_hyps] = decoder.cache.num_bytes
        num_used = int(decoder.cache.visible.any(1).sum())
        assert merging or num_used == 1500 + 99 * num_hyps
    assert sizes[5] <= 1.3 * sizes[1]


def test_rows_with_drafts_leave_together() -> None:
    """Whoever drops a row copies the others."""
    model = create_decoder()
    verifier = EngineVerifier(engine_of(model), create_prompts(model, *range(1, 9)))
    verifier.prefill()
    sizes = []
    for left in range(8, 0, -1):
        verifier.keep_rows(range(left))
        log_probs = verifier.verify([[3]] * left)
        assert len(log_probs) == left
        verifier.accept([1] * left)
        sizes.append(verifier.cache.keys[0].size(0))
    assert sizes == [8, 8, 6, 6, 4, 3, 2, 1]


def test_rows_that_guess_little_are_padded_where_positions_exist() -> None:
    """The table of positions ends where the model's longest sequence ends."""
    model = create_decoder(32)
    prompts = create_prompts(model, 30, 4)
    verifier, alone = (EngineVerifier(engine_of(model), own) for own in (prompts, prompts[:1]))
    for decoder in (verifier, alone):
        decoder.prefill()
    log_probs = verifier.verify([[3, 4], [3, 4, 5, 6, 3, 4]])
    torch.testing.assert_close(log_probs[:1, :2], alone.verify([[3, 4]]))


class Interrupted(UserList[Tensor]):
    """Prompts that have another thread read prompts while they are read."""

    def __init__(self, prompts: list[Tensor], engine: Engine) -> None:
        super().__init__(prompts)
        self._engine = engine

    @override
    def __iter__(self) -> Iterator[Tensor]:
        with ThreadPoolExecutor(1) as other:
            other.submit(self._engine.prefill, self.data).result()
        return iter(self.data)


def test_threads_do_not_change_each_others_mixed_precision() -> None:
    model = create_decoder()
    engine = engine_of(model)
    prompts = Interrupted(create_prompts(model, 3), engine)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, log_probs = engine.prefill(prompts)
        assert torch.is_autocast_enabled("cpu")
    assert log_probs.dtype == torch.float64
