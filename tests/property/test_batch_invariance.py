"""A row of a batch does not know that there are other rows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import (
    Utterances,
    arch_config,
    create_model,
    make_batch,
    make_waveforms,
    outputs_of,
    small_model,
)
from tests.property.strategies import (
    Sizes,
    assert_rows_close,
    orders,
    sizes,
    utterances,
)
from tests.tones import LOG_MEL
from wavellama import Wav2Vec2LlamaBeamSearchConfig, Wav2Vec2LlamaModel, generate

CONFORMER = {
    "encoder_stacking": 2,
    "wav2vec2_asr_config": {
        "encoder_config": {
            "model_dim": 16,
            "feature_dim": 32,
            "num_fbank_channels": 8,
            "num_encoder_layers": 2,
            "num_encoder_attn_heads": 2,
            "ffn_inner_dim": 16,
            "depthwise_conv_kernel_size": 7,
            "dropout_p": 0.0,
            "attn_dropout_p": 0.0,
            "ffn_inner_dropout_p": 0.0,
        }
    },
    "llama_config": {
        "model_dim": 16,
        "num_layers": 1,
        "num_attn_heads": 2,
        "num_key_value_heads": 2,
        "ffn_inner_dim": 16,
        "ffn_inner_dim_multiple_of": 8,
    },
}


@settings(max_examples=120)
@given(st.data(), sizes(), utterances(), st.integers(1, 6), st.booleans())
def test_generate(
    data: st.DataObject, shape: Sizes, rows: Utterances, nbest: int, length_norm: bool
) -> None:
    model, order = shape.model(), data.draw(orders(rows))
    config = Wav2Vec2LlamaBeamSearchConfig(
        nbest=nbest, length_norm=length_norm, max_new_tokens=data.draw(st.integers(1, 8))
    )
    together = generate(model, rows.batch(order), config)
    assert len(together) == len(order)
    for row, hypotheses in zip(order, together, strict=True):
        (alone,) = generate(model, rows.batch([row]), config)
        assert [h.tokens for h in hypotheses] == [h.tokens for h in alone]
        assert [h.stop_reason for h in hypotheses] == [h.stop_reason for h in alone]
        for actual, expected in zip(hypotheses, alone, strict=True):
            assert actual.score == pytest.approx(expected.score, abs=1e-9)
            assert actual.token_logprobs == pytest.approx(expected.token_logprobs, abs=1e-9)


@settings(max_examples=20)
@given(st.data(), sizes(), utterances(max_rows=4), st.integers(1, 5))
def test_generate_in_float32(
    data: st.DataObject, shape: Sizes, rows: Utterances, nbest: int
) -> None:
    """Packed products, whose last bits depend on how many vectors there are."""
    config = arch_config("tiny", shape.overrides())
    model = create_model(config, seed=shape.seed, dtype=torch.float32, sharpness=3.0)
    rows = replace(rows, waveforms=[waveform.float() for waveform in rows.waveforms])
    order = data.draw(orders(rows))
    search = Wav2Vec2LlamaBeamSearchConfig(nbest=nbest, max_new_tokens=6)
    together = generate(model, rows.batch(order), search)
    for row, hypotheses in zip(order, together, strict=True):
        (alone,) = generate(model, rows.batch([row]), search)
        scores = [h.score for h in alone]
        assert [h.score for h in hypotheses] == pytest.approx(scores, abs=1e-4)
        if min((a - b for a, b in pairwise(scores)), default=1.0) > 1e-5:
            assert [h.tokens for h in hypotheses] == [h.tokens for h in alone]
            assert [h.stop_reason for h in hypotheses] == [h.stop_reason for h in alone]


@settings(max_examples=120)
@given(st.data(), sizes(), utterances(), st.sampled_from([0.0, 1.0, -30.0]))
@torch.no_grad()
def test_embed_audio(data: st.DataObject, shape: Sizes, rows: Utterances, padding: float) -> None:
    model, order = shape.model(), data.draw(orders(rows))
    batch = rows.batch(order, padding=padding)
    together, lens = model.embed_audio(batch.source_seqs, batch.source_seq_lens)
    assert together.size(1) == max(lens)
    for place, row in enumerate(order):
        alone, (length,) = model.embed_audio(rows.waveforms[row][None], [len(rows.waveforms[row])])
        assert lens[place] == length == alone.size(1)
        assert_rows_close(together[place, :length], alone[0])


@settings(max_examples=120)
@given(st.data(), sizes(), utterances())
@torch.no_grad()
def test_logits(data: st.DataObject, shape: Sizes, rows: Utterances) -> None:
    model, order = shape.model(), data.draw(orders(rows))
    together = outputs_of(model, rows.batch(order))
    for place, row in enumerate(order):
        alone = outputs_of(model, rows.batch([row]))
        length = together.decoder_inputs_layout.seq_lens[place]
        assert alone.logits.size(1) == length
        assert_rows_close(together.logits[place, :length], alone.logits[0])


@pytest.fixture(scope="module", params=["conformer_6m", "transformer_4m", "log mel"])
def fbank_model(request: pytest.FixtureRequest) -> Wav2Vec2LlamaModel:
    if request.param == "log mel":
        return create_model(arch_config("tiny", LOG_MEL))
    return create_model(arch_config(request.param, CONFORMER))


@settings(max_examples=30)
@given(data=st.data(), rows=utterances(), training=st.booleans())
@torch.no_grad()
def test_embed_audio_with_filter_banks(
    fbank_model: Wav2Vec2LlamaModel, data: st.DataObject, rows: Utterances, training: bool
) -> None:
    """In training, too: no batch norm. Filter banks are single precision, so less agrees."""
    fbank_model.train(training)
    order = data.draw(orders(rows))
    batch = rows.batch(order, padding=3.0)
    together, lens = fbank_model.embed_audio(batch.source_seqs, batch.source_seq_lens)
    for place, row in enumerate(order):
        waveform = rows.waveforms[row]
        alone, (length,) = fbank_model.embed_audio(waveform[None], [len(waveform)])
        assert lens[place] == length
        assert_rows_close(together[place, :length], alone[0], atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("nbest", [1, 4])
def test_generate_in_low_precision_is_the_same_in_any_order(dtype: torch.dtype, nbest: int) -> None:
    """The same rows in another order: the shapes are the same, so are the bits."""
    model = small_model(lid=True, dtype=dtype)
    waveforms = make_waveforms([3000, 5000, 900], seed=3, dtype=dtype)
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=nbest, max_new_tokens=8)
    forwards = generate(model, make_batch(waveforms), config)
    backwards = generate(model, make_batch(waveforms[::-1]), config)
    assert [[h.tokens for h in row] for row in forwards] == [
        [h.tokens for h in row] for row in backwards[::-1]
    ]
