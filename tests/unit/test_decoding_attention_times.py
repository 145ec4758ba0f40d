"""Token times from attention: in order and within the clip, from the right positions and heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
from fairseq2.models.transformer import CausalAttentionBias, StandardMultiheadAttention
from fairseq2.models.transformer.sdpa.naive import NaiveSDPA
from fairseq2.nn import BatchLayout
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Module

from tests.fakes import LID, SMALL, make_waveforms, merge, tiny_model
from tests.property.strategies import SAMPLE_COUNTS, VOCAB_SIZE, Sizes, sizes
from tests.tones import CONVOLUTIONS, FILTER_BANKS
from wavellama.batch import AsrBatch, Example
from wavellama.decoding import attention_times as module
from wavellama.decoding.attention_times import NUM_HEADS, attention_times
from wavellama.decoding.examples import embed_after, read_examples
from wavellama.errors import BatchError, ContextTooLongError, DecodingError
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.units import samples_to_seconds

ZERO_SHOT: dict[str, Any] = {
    "model_type": "ZERO_SHOT",
    "n_special_tokens": 6,
    "n_context_examples": 2,
}

VARIANTS: dict[str, dict[str, Any]] = {
    "llm_asr": {},
    "lid": dict(LID),
    "zero_shot": ZERO_SHOT,
    "text_only": {**ZERO_SHOT, "context_text_only": True},
    "streaming": {
        **{"model_type": "LLM_ASR_LID", "n_special_tokens": 3, "lang_embeddings_p": 1.0},
        "streaming_config": {"is_streaming": True, "segment_secs": 0.1},
    },
}

Heads = list[tuple[Tensor, Tensor]]


def model_of(variant: str, stacking: int = 1) -> Wav2Vec2LlamaModel:
    overrides = merge(merge(SMALL, VARIANTS[variant]), {"encoder_stacking": stacking})
    return tiny_model(overrides)


def batch_of(model: Wav2Vec2LlamaModel, num_samples: int = 5000, seed: int = 0) -> AsrBatch:
    """Return a clip of noise with what the model reads beside it."""
    clip, *others = make_waveforms([num_samples, 6000, 3000], seed=seed)
    examples = [Example(audio, [5, 6]) for audio in others]
    langs: list[str | None] | None = ["eng_Latn"] if model.syntax.needs_language else None
    given = [examples] if model.syntax.needs_examples else None
    return AsrBatch(clip[None], [num_samples], [], langs, given)


def hooks_of(model: Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def check_times(times: Sequence[tuple[float, float]], duration: float) -> None:
    assert all(0.0 <= start <= end <= duration for start, end in times)
    assert all(end <= start for (_, end), (start, _) in pairwise(times))


# Any model


@given(
    sizes=sizes(),
    num_samples=SAMPLE_COUNTS,
    tokens=st.lists(st.integers(3, VOCAB_SIZE - 1), max_size=30),
    seed=st.integers(0, 2**16),
)
def test_random_models(sizes: Sizes, num_samples: int, tokens: list[int], seed: int) -> None:
    """More tokens than positions, too: all have a time, in order and within the clip."""
    model = sizes.model()
    times = attention_times(model, batch_of(model, num_samples, seed), tokens)
    assert len(times) == len(tokens)
    check_times(times, samples_to_seconds(num_samples))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stacking", [1, 3])
@pytest.mark.parametrize("training", [False, True])
def test_the_model_stays_as_it_was(variant: str, stacking: int, training: bool) -> None:
    model = model_of(variant, stacking).train(training)
    hooks, before = (
        hooks_of(model),
        {name: value.clone() for name, value in model.state_dict().items()},
    )
    batch = batch_of(model)
    audio = batch.audio.clone()
    times = attention_times(model, batch, [4, 5, 6, 7])
    check_times(times, samples_to_seconds(5000))
    assert times == attention_times(model, batch, [4, 5, 6, 7])
    assert (model.training, hooks_of(model)) == (training, hooks)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(batch.audio, audio)


def test_no_hooks_stay_after_an_error() -> None:
    model = model_of("lid")
    hooks = hooks_of(model)  # fairseq2's own
    model.llama_decoder.get_parameter("layers.0.self_attn.q_proj.weight").data.fill_(math.nan)
    with pytest.raises(DecodingError, match="attention is not a number"):
        attention_times(model, batch_of(model), [4, 5])
    assert hooks_of(model) == hooks


# Positions and heads


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stacking", [1, 3])
def test_the_positions_are_those_of_the_clip(variant: str, stacking: int) -> None:
    """Whatever else stands in the prompt: there the decoder reads the clip's own embeddings."""
    model = model_of(variant, stacking)
    batch = batch_of(model)
    with torch.no_grad():
        prompt = model.embed_prompt(batch)
        audio, (length,) = model.embed_audio(batch.audio, batch.audio_lens)
    positions = module.own_audio(prompt)
    assert len(positions) == length
    torch.testing.assert_close(prompt.seqs[0, positions], audio[0, :length])


def naive_attention(model: Wav2Vec2LlamaModel, seqs: Tensor) -> Tensor:
    """Return the attention weights that fairseq2 computes itself. (H of all layers, S, S)."""
    weights: list[Tensor] = []
    for layer in cast("Any", model.llama_decoder).layers:
        attention = cast("StandardMultiheadAttention", layer.self_attn)
        attention.sdpa = NaiveSDPA(CausalAttentionBias())
        attention.register_attn_weight_hook(lambda _, attns, found: weights.append(found[0]))
    with torch.no_grad():
        model.llama_decoder(seqs, BatchLayout.of(seqs))
    return torch.cat(weights)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_attention_is_what_the_decoder_computes(variant: str, kv_heads: int) -> None:
    """Each token: the mean of the position that predicts it and of its own, among the audio."""
    overrides = {"llama_config": {"num_layers": 2, "num_key_value_heads": kv_heads}}
    model = tiny_model(merge(merge(SMALL, VARIANTS[variant]), overrides))
    tokens = [4, 5, 6]
    with torch.no_grad():
        prompt = model.embed_prompt(batch_of(model))
        found = module.follow(model, prompt, tokens).attention()
        text = model.embed_text(torch.tensor([tokens]), prompt.seqs.dtype)
        seqs = torch.cat([prompt.seqs, text], 1)
    positions = module.own_audio(prompt)
    begin = prompt.seqs.size(1)
    weights = naive_attention(model, seqs)[:, :, positions].float()
    weights = weights / weights.sum(-1, keepdim=True)
    expected = (weights[:, begin - 1 : -1] + weights[:, begin:]) / 2  # (H, U, T')
    assert len(expected) == NUM_HEADS  # so that all of them are chosen
    torch.testing.assert_close(found, expected.mean(0))


def test_heads_that_follow_the_audio_are_chosen() -> None:
    """Among heads that look anywhere, those count whose looks go from token to token."""
    num_tokens, num_positions, width = 6, 30, 64
    targets = torch.arange(num_tokens) * 5 + 2
    heads = module.HeadChoice(torch.arange(num_positions), num_tokens)
    generator = torch.Generator().manual_seed(0)
    for layer in range(4):
        queries = torch.zeros(1, num_positions + num_tokens + 1, 4, width)
        keys = torch.zeros_like(queries)
        keys[0, :num_positions, :, :num_positions] = torch.eye(num_positions)[:, None]
        queries[0, -num_tokens - 1 :] = 30 * torch.rand(
            num_tokens + 1, 4, width, generator=generator
        )
        if layer == 2:
            looks = torch.cat([targets[:1], targets])  # the first token is asked for before
            queries[0, -num_tokens - 1 :] = 60 * torch.eye(width)[looks][:, None]
        heads.add(queries, keys)
    attention = heads.attention()
    expected = torch.eye(num_positions)[targets]
    expected = (expected + torch.eye(num_positions)[torch.cat([targets[:1], targets[:-1]])]) / 2
    torch.testing.assert_close(attention, expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("variant", ["zero_shot", "text_only"])
def test_examples_that_were_read_before_change_nothing(variant: str) -> None:
    model = model_of(variant, 2)
    batch = batch_of(model)
    assert batch.examples is not None
    prefix = read_examples(model, batch.examples[0])
    bare = replace(batch, examples=None)
    tokens = [4, 5, 6, 7]
    assert attention_times(model, bare, tokens, prefix) == attention_times(model, batch, tokens)
    with torch.no_grad():
        (old, new) = (
            module.follow(model, prompt, tokens).attention()
            for prompt in (model.embed_prompt(batch), embed_after(model, bare, prefix))
        )
    torch.testing.assert_close(new, old)


# Paths and seconds


def test_pauses_belong_to_no_token() -> None:
    attention = torch.full((2, 10), 0.01)
    attention[0, 2:4], attention[1, 7] = 0.46, 0.91
    assert module.find_path(attention).places == [(2, 4), (7, 8)]


def test_a_token_that_looks_back_is_put_where_it_fits() -> None:
    attention = torch.full((3, 9), 0.01)
    attention[0, 1], attention[1, 0], attention[1, 4], attention[2, 7] = 0.9, 0.5, 0.4, 0.9
    assert module.find_path(attention).places == [(1, 2), (4, 5), (7, 8)]


def test_tokens_share_positions_where_there_are_too_few() -> None:
    places = module.find_path(torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]])).places
    assert places[1][1] <= 1.0 <= places[2][0]
    assert all(begin < end for begin, end in places)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(places))


@pytest.mark.parametrize(
    ("front_end", "stacking", "stride", "offset"),
    [
        (CONVOLUTIONS, 1, 0.020, 0.0025),
        (CONVOLUTIONS, 3, 0.060, 0.0025),
        (FILTER_BANKS, 1, 0.040, 0.0075),
        (FILTER_BANKS, 2, 0.080, 0.0075),
    ],
)
def test_positions_become_seconds(
    front_end: dict[str, Any],
    stacking: int,
    stride: float,
    offset: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model(merge(front_end, {"encoder_stacking": stacking}))

    def attention(heads: module.HeadChoice) -> Tensor:
        looks = torch.full((2, len(heads.audio)), 0.001)
        looks[0, 1], looks[1, 5:7] = 0.9, 0.5
        return looks

    monkeypatch.setattr(module.HeadChoice, "attention", attention)
    times = attention_times(model, batch_of(model, 16_000), [4, 5])
    expected = [(1, 2), (5, 7)]
    for (start, end), (first, last) in zip(times, expected, strict=True):
        assert start == pytest.approx(first * stride + offset)
        assert end == pytest.approx(last * stride + offset)


def test_the_last_position_ends_with_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model({"encoder_stacking": 3})

    def attention(heads: module.HeadChoice) -> Tensor:
        looks = torch.full((1, len(heads.audio)), 0.001)
        looks[0, -1] = 0.9
        return looks

    monkeypatch.setattr(module.HeadChoice, "attention", attention)
    ((_, end),) = attention_times(model, batch_of(model, 4240), [4])
    assert end == samples_to_seconds(4240)


# Errors


def test_one_clip_at_a_time() -> None:
    model = model_of("llm_asr")
    waveforms = torch.stack(make_waveforms([4000, 4000]))
    with pytest.raises(BatchError, match="one clip at a time, not for 2"):
        attention_times(model, AsrBatch(waveforms, [4000, 4000], [], None), [4])


def test_examples_are_needed() -> None:
    model = model_of("zero_shot")
    batch = AsrBatch(make_waveforms([4000])[0][None], [4000], [], None)
    with pytest.raises(BatchError, match="reads context examples"):
        attention_times(model, batch, [4])


def test_a_text_that_is_too_long_is_an_error() -> None:
    model = model_of("llm_asr")
    with pytest.raises(
        ContextTooLongError, match=rf"generation_length {model.max_generation_length}\b"
    ):
        attention_times(model, batch_of(model), [4] * model.max_generation_length)
