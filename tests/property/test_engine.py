"""The engine computes what the decoder's modules compute, for any batch and any beams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.fakes import arch_config, create_model, merge
from tests.property.strategies import VOCAB_SIZE, Sizes, search_joined, sizes
from wavellama import Hypothesis, Wav2Vec2LlamaModel
from wavellama.decoding.engine_view import find_engine
from wavellama.decoding.step_decoder import ModuleStepDecoder
from wavellama.engine import Engine, EngineStepDecoder, EngineVerifier, KeyValueCache
from wavellama.search.beam import BeamSearch, SearchOptions
from wavellama.search.greedy import GreedySearch
from wavellama.search.running import SearchRun
from wavellama.search.types import StepDecoder

EOS = 2
NO_TIE = 1e-5


def long_model(shape: Sizes, max_seq_len: int = 512) -> Wav2Vec2LlamaModel:
    overrides = merge(shape.overrides(), {"llama_config": {"max_seq_len": max_seq_len}})
    return create_model(arch_config("tiny", overrides), seed=shape.seed, sharpness=3.0).eval()


def create_prompts(model: Wav2Vec2LlamaModel, lens: list[int], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    width = model.model_dim
    return [torch.randn(n, width, generator=generator, dtype=torch.float64) for n in lens]


def engine_of(model: Wav2Vec2LlamaModel) -> Engine:
    engine = find_engine(model)
    assert engine is not None
    return engine


def open_engine(
    model: Wav2Vec2LlamaModel, prompts: list[Tensor], *, keeps_width: bool = False
) -> EngineStepDecoder:
    return EngineStepDecoder(engine_of(model), prompts, keeps_width=keeps_width)


def search(decoder: StepDecoder, beam_size: int, max_lens: list[int]) -> list[list[Hypothesis]]:
    if beam_size == 1:
        return GreedySearch(EOS).run(decoder, max_lens)
    return BeamSearch(SearchOptions(beam_size, EOS)).run(decoder, max_lens)


def assert_same(actual: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    for row, expected_row in zip(actual, expected, strict=True):
        scores = [h.score for h in expected_row]
        gaps = [a - b for a, b in pairwise(scores)]
        if min(gaps, default=1.0) > NO_TIE:
            assert [h.tokens for h in row] == [h.tokens for h in expected_row]
            assert [h.stop_reason for h in row] == [h.stop_reason for h in expected_row]
        assert [h.score for h in row] == pytest.approx(scores, abs=1e-6)


lens_of_rows = st.lists(st.integers(1, 400), min_size=1, max_size=8)
lens_of_short_rows = st.lists(st.integers(1, 20), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.data(), sizes(), st.one_of(lens_of_short_rows, lens_of_rows), st.integers(1, 8))
@torch.no_grad()
def test_searches_equal_those_over_the_modules(
    data: st.DataObject, shape: Sizes, lens: list[int], beam_size: int
) -> None:
    model = long_model(shape)
    prompts = create_prompts(model, lens, shape.seed)
    max_lens = [data.draw(st.integers(1, 12)) for _ in lens]
    expected = search(ModuleStepDecoder(model, prompts), beam_size, max_lens)
    assert_same(search(open_engine(model, prompts), beam_size, max_lens), expected)
    order = data.draw(st.permutations(range(len(lens))))
    shuffled = open_engine(model, [prompts[i] for i in order])
    results = search(shuffled, beam_size, [max_lens[i] for i in order])
    assert_same(results, [expected[i] for i in order])


def open_batches(
    data: st.DataObject,
    shape: Sizes,
    batches: list[list[int]],
    all_max_lens: list[list[int]],
    beam_size: int,
) -> tuple[Sequence[Callable[[], SearchRun[Any]]], list[list[Hypothesis]]]:
    """Return what begins each batch, and what a batch finds alone in each of its rows."""
    model = long_model(shape)
    kind = GreedySearch(EOS) if beam_size == 1 else BeamSearch(SearchOptions(beam_size, EOS))
    steps_ahead = data.draw(st.sampled_from([1, 3]))
    engine, starts, expected = engine_of(model), [], []
    for place, (lens, max_lens) in enumerate(zip(batches, all_max_lens, strict=True)):
        prompts = create_prompts(model, lens, place)
        decoder = EngineStepDecoder(engine, prompts, steps_ahead=steps_ahead)
        starts.append(partial(kind.start, decoder, max_lens))
        expected += kind.run(EngineStepDecoder(engine, prompts), max_lens)
    return starts, expected


@settings(max_examples=40, deadline=None)
@given(st.data(), sizes(), st.lists(lens_of_short_rows, min_size=2, max_size=4), st.integers(1, 4))
@torch.no_grad()
def test_batches_that_join_find_what_they_find_alone(
    data: st.DataObject, shape: Sizes, batches: list[list[int]], beam_size: int
) -> None:
    max_lens = [[data.draw(st.integers(1, 12)) for _ in lens] for lens in batches]
    starts, expected = open_batches(data, shape, batches, max_lens, beam_size)
    delays = [data.draw(st.integers(0, 8)) for _ in batches[1:]]
    assert_same(search_joined(starts, delays), expected)


@settings(max_examples=40, deadline=None)
@given(st.data(), sizes(), st.lists(lens_of_short_rows, min_size=1, max_size=3), st.integers(1, 4))
@torch.no_grad()
def test_rows_that_leave_before_their_end_change_no_other(
    data: st.DataObject, shape: Sizes, batches: list[list[int]], beam_size: int
) -> None:
    max_lens = [[12] * len(lens) for lens in batches]
    starts, expected = open_batches(data, shape, batches, max_lens, beam_size)
    delays = [data.draw(st.integers(0, 4)) for _ in batches[1:]]
    rows = st.integers(0, len(expected) - 1)
    leaving = data.draw(st.dictionaries(rows, st.integers(1, 6), min_size=1))
    found = search_joined(starts, delays, leaving)
    stayed = [row for row, hypotheses in enumerate(found) if hypotheses]
    assert {*range(len(expected))} - leaving.keys() <= {*stayed}
    assert_same([found[row] for row in stayed], [expected[row] for row in stayed])


@settings(max_examples=60, deadline=None)
@given(st.data(), sizes(), lens_of_short_rows)
@torch.no_grad()
def test_any_forks_equal_those_of_the_modules(
    data: st.DataObject, shape: Sizes, lens: list[int]
) -> None:
    """Hypotheses fork, end and change places in any way, also those that no search would make."""
    model = long_model(shape)
    prompts = create_prompts(model, lens, shape.seed)
    slow = ModuleStepDecoder(model, prompts)
    fast = open_engine(model, prompts, keeps_width=data.draw(st.booleans()))
    torch.testing.assert_close(fast.prefill(), slow.prefill(), rtol=0, atol=1e-6)
    owners = list(range(len(lens)))
    for _ in range(data.draw(st.integers(1, 8))):
        for _ in range(data.draw(st.integers(0, 2))):  # a search reorders once before each step
            picks = data.draw(st.lists(st.integers(0, len(owners) - 1), min_size=1, max_size=12))
            parents = sorted(picks, key=lambda i: owners[i])  # rows stay adjacent, hypotheses mix
            owners = [owners[i] for i in parents]
            slow.reorder(parents)
            fast.reorder(parents)
        tokens = data.draw(
            st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=len(owners), max_size=len(owners))
        )
        torch.testing.assert_close(fast.step(tokens), slow.step(tokens), rtol=0, atol=1e-6)
        assert_counted(fast.cache)
        with pytest.raises(ValueError, match="tokens for"):
            fast.step([*tokens, 0])


def assert_counted(cache: KeyValueCache) -> None:
    """Check that the host knows of every place that is in use."""
    num_used = int(cache.visible.any(1).sum(1).max())
    assert num_used <= cache.max_used <= cache.num_places


@settings(max_examples=60, deadline=None)
@given(st.data(), sizes(), lens_of_short_rows)
@torch.no_grad()
def test_tokens_read_together_equal_tokens_read_one_by_one(
    data: st.DataObject, shape: Sizes, lens: list[int]
) -> None:
    limit = max(lens) + data.draw(st.integers(1, 24))  # where the table of positions ends
    model = long_model(shape, limit)
    prompts = create_prompts(model, lens, shape.seed)
    verifier = EngineVerifier(engine_of(model), prompts)
    verifier.prefill()
    texts: list[list[int]] = [[] for _ in lens]
    rows = list(range(len(lens)))
    token = st.integers(0, VOCAB_SIZE - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        rooms = [limit - lens[row] - len(texts[row]) for row in rows]
        tokens = [data.draw(st.lists(token, min_size=1, max_size=min(6, room))) for room in rooms]
        log_probs = verifier.verify(tokens)
        assert_counted(verifier.cache)
        for place, row in enumerate(rows):
            expected = read_one_by_one(model, prompts[row], [*texts[row], *tokens[place]])
            actual = log_probs[place, : len(tokens[place])]
            torch.testing.assert_close(actual, expected[len(texts[row]) :], rtol=0, atol=1e-6)
        counts = [data.draw(st.integers(1, len(row))) for row in tokens]
        verifier.accept(counts)
        for row, count, read in zip(rows, counts, tokens, strict=True):
            texts[row] += read[:count]
        going = [i for i, row in enumerate(rows) if lens[row] + len(texts[row]) < limit]
        if not going:
            return
        places = sorted(data.draw(st.lists(st.sampled_from(going), min_size=1, unique=True)))
        verifier.keep_rows(places)
        rows = [rows[place] for place in places]


def read_one_by_one(model: Wav2Vec2LlamaModel, prompt: Tensor, tokens: list[int]) -> Tensor:
    """Return the log-probabilities after each token. (K, V)."""
    decoder = ModuleStepDecoder(model, [prompt])
    decoder.prefill()
    return torch.cat([decoder.step([token]) for token in tokens])
