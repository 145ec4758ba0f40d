"""Every parameter of the constructor and every field of the configuration has an effect."""

from __future__ import annotations

import inspect
from typing import Any, cast

import pytest
import torch
from fairseq2.nn import BatchLayout
from torch import Tensor
from torch.nn import Dropout, Module

from tests.fakes import (
    LID,
    SMALL,
    arch_config,
    create_model,
    decoder_inputs_of,
    golden_case,
    golden_model,
    golden_tokenizer,
    loss_of,
    make_batch,
    make_waveforms,
    merge,
    outputs_of,
    small_model,
    tiny_model,
)
from wavellama import (
    ModelType,
    Wav2Vec2LlamaBeamSearchConfig,
    Wav2Vec2LlamaModel,
    Wav2Vec2LlamaStreamingConfig,
    generate,
)
from wavellama.errors import (
    BatchError,
    ConfigError,
    ContextTooLongError,
    SyntaxNotAvailableError,
)
from wavellama.model.config import Wav2Vec2LlamaConfig
from wavellama.model.factory import create_wav2vec2_llama_model

WAVEFORMS = make_waveforms([3000, 5000])
BATCH = make_batch(WAVEFORMS, None, ["eng_Latn", "deu_Latn"])
SMALL_LID = merge(SMALL, LID)


def _rebuild(model: Wav2Vec2LlamaModel, **kwargs: Any) -> Wav2Vec2LlamaModel:
    """Return a model of the same parts with other keyword arguments."""
    defaults = {"lang_embeddings": model.lang_embeddings, "lang_mapping": model.lang_mapping}
    return Wav2Vec2LlamaModel(
        model.model_type,
        model.model_dim,
        model.encoder_frontend,
        model.encoder,
        model.encoder_proj,
        model.text_frontend,
        model.llama_decoder,
        model.final_proj,
        model.target_vocab_info,
        **{**defaults, **kwargs},
    ).eval()


def test_the_constructor_has_the_documented_defaults() -> None:
    signature = inspect.signature(Wav2Vec2LlamaModel.__init__)
    documented = {
        "masker": None,
        "max_generation_length": 8192,
        "encoder_stacking": 1,
        "lang_embeddings_p": 0.0,
        "language_column_name": "lang",
        "lang_embeddings": None,
        "lang_mapping": None,
        "context_text_only": False,
        "beam_search_config": None,
        "streaming_config": None,
        "text_encoder": None,
        "n_context_examples": 0,
        "seed": 42,
        "zero_shot_swapped_bos_eos": True,
        "special_token_base": None,
        "ctc_head": None,
        "language_head": None,
        "syntax": None,
    }
    parameters = [p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert {p.name: p.default for p in parameters} == documented
    model = _rebuild(small_model())
    assert model.beam_search_config == Wav2Vec2LlamaBeamSearchConfig()
    assert model.streaming_config == Wav2Vec2LlamaStreamingConfig()


def test_a_rebuilt_model_computes_the_same() -> None:
    model = small_model(lid=True)
    assert torch.equal(loss_of(_rebuild(model), BATCH), loss_of(model, BATCH))


# Lengths


def _endless(model: Wav2Vec2LlamaModel) -> Wav2Vec2LlamaModel:
    """Forbid BOS, PAD and EOS."""

    def ban(module: Module, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        return torch.cat([torch.full_like(logits[..., :3], -1e4), logits[..., 3:]], -1)

    model.final_proj.register_forward_hook(ban)
    return model


@pytest.mark.parametrize("nbest", [1, 3])
@pytest.mark.parametrize("limit", [30, 41])
def test_decoding_stops_two_positions_before_max_generation_length(nbest: int, limit: int) -> None:
    model = _endless(tiny_model(merge(SMALL_LID, {"llama_config": {"max_seq_len": limit}})))
    assert model.max_generation_length == limit
    (context_lens,) = decoder_inputs_of(model, BATCH).decoder_context_seq_lens
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=nbest)
    for context_len, hypotheses in zip(context_lens, generate(model, BATCH, config), strict=True):
        for h in hypotheses:
            assert context_len + len(h.tokens) == limit - 2
            assert (h.finished, h.stop_reason) == (False, "length")


def test_max_generation_length_is_a_parameter_of_its_own() -> None:
    model = _rebuild(_endless(tiny_model(SMALL_LID)), max_generation_length=29)
    (context_lens,) = decoder_inputs_of(model, BATCH).decoder_context_seq_lens
    results = generate(model, BATCH)
    assert [len(row[0].tokens) for row in results] == [27 - n for n in context_lens]


@pytest.mark.parametrize("nbest", [1, 3])
def test_max_new_tokens(nbest: int) -> None:
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=nbest, max_new_tokens=4)
    for row in generate(_endless(tiny_model(SMALL_LID)), BATCH, config):
        assert {len(h.tokens) for h in row} == {4}
        assert {h.stop_reason for h in row} == {"length"}


def test_a_context_without_room_is_an_error_that_names_both_lengths() -> None:
    model = tiny_model(SMALL_LID)
    (context_lens,) = decoder_inputs_of(model, BATCH).decoder_context_seq_lens
    longest = max(context_lens)
    fits = _rebuild(model, max_generation_length=longest + 3)
    assert all(len(row[0].token_logprobs) <= 10 for row in generate(fits, BATCH))
    with pytest.raises(ContextTooLongError) as caught:
        generate(_rebuild(model, max_generation_length=longest + 2), BATCH)
    assert (caught.value.length, caught.value.limit) == (longest, longest + 2)


# Audio


@pytest.mark.parametrize(("stacking", "lens"), [(1, [9, 15]), (2, [5, 8]), (3, [3, 5])])
def test_encoder_stacking(stacking: int, lens: list[int]) -> None:
    model = tiny_model(merge(SMALL, {"encoder_stacking": stacking}))
    assert model.encoder_proj.input_dim == 16 * stacking
    embedded, embedded_lens = model.embed_audio(BATCH.source_seqs, BATCH.source_seq_lens)
    assert embedded_lens == lens
    assert embedded.shape == (2, max(lens), model.model_dim)


@torch.no_grad()
def test_stacking_fills_a_short_tail_with_zeros() -> None:
    model = tiny_model(merge(SMALL, {"encoder_stacking": 3}))
    frames = torch.randn(2, 5, 16, dtype=torch.float64)
    projected, lens = model.project_frames(frames, [5, 2])
    zeros = torch.zeros(16, dtype=torch.float64)
    expected = model.encoder_proj(torch.cat([frames[0, 3], frames[0, 4], zeros]))
    assert lens == [2, 1]
    torch.testing.assert_close(projected[0, 1], expected)
    expected = model.encoder_proj(torch.cat([frames[1, 0], frames[1, 1], zeros]))
    torch.testing.assert_close(projected[1, 0], expected)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_lengths_may_be_lists_or_tensors(as_tensor: bool) -> None:
    lens: Any = torch.tensor([3000, 5000]) if as_tensor else [3000, 5000]
    _, embedded_lens = small_model().embed_audio(BATCH.source_seqs, lens)
    assert embedded_lens == [9, 15]
    assert {type(length) for length in embedded_lens} == {int}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_text_is_embedded_in_the_asked_dtype(dtype: torch.dtype) -> None:
    model = small_model()
    ids = torch.tensor([[4, 5, 2], [1, 1, 0]])
    embedded = model.embed_text(ids, dtype)
    assert embedded.dtype == dtype
    assert torch.equal(embedded, model.text_frontend.weight[ids].to(dtype))


# Languages and special tokens


def test_language_column_name() -> None:
    model = tiny_model(merge(SMALL_LID, {"language_column_name": "tongue"}))
    assert model.language_column_name == "tongue"
    named = make_batch(WAVEFORMS, None, ["eng_Latn", "deu_Latn"], column="tongue")
    without = loss_of(model, make_batch(WAVEFORMS))
    assert torch.equal(loss_of(model, BATCH), without)
    assert not torch.equal(loss_of(model, named), without)
    with pytest.raises(BatchError, match="`tongue`"):
        model.train()(BATCH)


def test_lang_mapping() -> None:
    model = small_model(lid=True)
    assert model.lang_embeddings is not None
    mapped = _rebuild(model, lang_mapping={"mine": 5})
    inputs = decoder_inputs_of(mapped, make_batch(WAVEFORMS[:1], None, ["MINE"]))
    shown = inputs.decoder_context_inputs[0][0, -2]
    assert torch.equal(shown, model.lang_embeddings.weight[5])


@pytest.mark.parametrize(("base", "row"), [(None, 12), (12, 12), (7, 7)])
def test_special_token_base(base: int | None, row: int) -> None:
    model = tiny_model(merge(SMALL_LID, {"special_token_base": base}))
    context = decoder_inputs_of(model, make_batch(WAVEFORMS[:1])).decoder_context_inputs[0]
    assert torch.equal(context[0, -3], model.text_frontend.weight[row])


def test_lang_embeddings_p_reaches_the_model() -> None:
    model = tiny_model(merge(SMALL_LID, {"lang_embeddings_p": 0.25}))
    assert model.lang_embeddings_p == 0.25


def test_seed_changes_what_training_draws() -> None:
    waveforms = make_waveforms([500] * 24)
    batch = make_batch(waveforms, None, ["eng_Latn"] * 24)
    model = small_model(lid=True)
    shown = []
    for seed in (1, 1, 2):
        rebuilt = _rebuild(model, seed=seed, lang_embeddings_p=0.5).train()
        inputs = decoder_inputs_of(rebuilt, batch)
        shown.append(inputs.decoder_context_inputs[0][:, -2])
        rebuilt.eval()
    assert torch.equal(shown[0], shown[1])
    assert not torch.equal(shown[0], shown[2])


@pytest.mark.parametrize("name", ["bos_idx", "eos_idx"])
def test_bos_and_eos_come_from_the_configuration(name: str) -> None:
    model = tiny_model(merge(SMALL, {name: 5}))
    assert model.token_ids[name.removesuffix("_idx")] == 5
    changed = loss_of(model, make_batch(WAVEFORMS))
    assert not torch.equal(changed, loss_of(tiny_model(SMALL), make_batch(WAVEFORMS)))


def test_pad_idx_comes_from_the_configuration() -> None:
    model = tiny_model(merge(SMALL, {"pad_idx": 7, "llama_config": {"pad_idx": 7}}))
    assert model.target_vocab_info.pad_idx == 7
    assert not model.text_frontend.weight[7].any()


# Masking


def test_every_field_of_the_masking_reaches_the_masker() -> None:
    fields = {
        "temporal_mask_span_len": 3,
        "max_temporal_mask_prob": 0.31,
        "min_num_temporal_mask_spans": 4,
        "spatial_mask_span_len": 5,
        "max_spatial_mask_prob": 0.32,
        "min_num_spatial_mask_spans": 6,
    }
    masking = {**fields, "use_masking": True}
    masker: Any = tiny_model(merge(SMALL, {"wav2vec2_asr_config": masking})).masker
    for name, value in fields.items():
        assert getattr(masker, name.replace("mask_span_len", "span_len")) == value
    assert tiny_model(SMALL).masker is None


# Streaming


def test_text_encoder() -> None:
    model, batch = golden_model("streaming"), golden_case("streaming").utterances.batch()
    settings = {"streaming_config": model.streaming_config}
    rebuilt = _rebuild(model, **settings, text_encoder=golden_tokenizer().create_encoder())
    assert torch.equal(loss_of(rebuilt, batch), loss_of(model, batch))
    with pytest.raises(ConfigError, match="`text_encoder`"):
        loss_of(_rebuild(model, **settings), batch)


# Search


@pytest.mark.parametrize("nbest", [1, 3])
def test_beam_search_config_is_the_default_of_generate(nbest: int) -> None:
    config = {"beam_search_config": {"nbest": nbest, "max_new_tokens": 2, "length_norm": True}}
    model = tiny_model(merge(SMALL, config))
    assert model.beam_search_config.nbest == nbest
    for row in generate(model, make_batch(WAVEFORMS)):
        assert len(row) == nbest
        assert all(len(h.token_logprobs) <= 2 for h in row)
        assert row[0].score == pytest.approx(
            sum(row[0].token_logprobs) / len(row[0].token_logprobs)
        )


# CTC head


def test_ctc_head() -> None:
    model = tiny_model(merge(SMALL, {"ctc_head": True}))
    frames, _ = model.encode_audio(BATCH.source_seqs, BATCH.source_seq_lens)
    assert model.ctc_logits(frames).shape == (2, frames.size(1), 12)
    names = set(model.state_dict()) - set(small_model().state_dict())
    assert names == {"ctc_head.weight", "ctc_head.bias"}


def test_without_a_ctc_head_asking_for_one_is_an_error() -> None:
    with pytest.raises(BatchError, match="ctc_head: true"):
        small_model().ctc_logits(torch.zeros(1, 1, 16))


# Syntax


@pytest.mark.parametrize(
    "kwargs",
    [
        {"context_text_only": True},
        {"streaming_config": Wav2Vec2LlamaStreamingConfig(is_streaming=True)},
    ],
    ids=["text-only", "streaming"],
)
def test_a_form_that_does_not_exist_is_refused(kwargs: dict[str, Any]) -> None:
    with pytest.raises(SyntaxNotAvailableError):
        _rebuild(small_model(), **kwargs)


# Dropout of the decoder


def _decoder_dropouts(dropout_p: float) -> set[str]:
    config = {"llama_config": {"dropout_p": dropout_p, "num_layers": 2}}
    decoder = tiny_model(merge(SMALL, config)).llama_decoder
    names = set()
    for name, module in decoder.named_modules():
        p = module.p if isinstance(module, Dropout) else getattr(module, "dropout_p", 0.0)
        if p:
            assert p == dropout_p
            names.add(name)
    return names


def test_decoder_dropout_sits_in_attention_in_the_ffn_and_after_the_final_norm() -> None:
    expected = {"dropout"}
    for layer in range(2):
        expected |= {f"layers.{layer}.self_attn.sdpa", f"layers.{layer}.ffn.inner_dropout"}
    assert _decoder_dropouts(0.3) == expected
    assert _decoder_dropouts(0.0) == set()


@pytest.mark.parametrize(
    "change",
    [
        {"num_layers": 3},
        {"num_attn_heads": 4, "num_key_value_heads": 4},
        {"num_key_value_heads": 1},
        {"ffn_inner_dim": 64},
        {"ffn_inner_dim_scale": 2.0},
        {"ffn_inner_dim_multiplier": 4.0},
        {"ffn_inner_dim_multiple_of": 64},
        {"rope_theta": 10.0},
        {"use_scaled_rope": True},
        {"init_std": 0.5},
        {"init_std_scale": "stack"},
        {"init_std_scale": "none"},
    ],
    ids=str,
)
@torch.no_grad()
def test_every_option_of_the_decoder_changes_what_it_computes(change: dict[str, Any]) -> None:
    def hidden(llama_config: dict[str, Any]) -> Tensor:
        decoder = tiny_model(merge(SMALL, {"llama_config": llama_config})).llama_decoder
        return decoder(seqs, BatchLayout.of(seqs))

    seqs = torch.randn(1, 40, 16, dtype=torch.float64)
    two_layers = {"num_layers": 2}
    assert torch.equal(hidden(two_layers), hidden(two_layers))
    assert not torch.allclose(hidden({**two_layers, **change}), hidden(two_layers))


def test_decoder_output_is_dropped_after_the_final_norm() -> None:
    model = tiny_model(merge(SMALL, {"llama_config": {"dropout_p": 0.5}}), dtype=torch.float32)
    dropped = model.llama_decoder.train()
    seqs = torch.randn(4, 50, 16)
    output = dropped(seqs, BatchLayout.of(seqs))
    assert (output == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    dropped.eval()
    assert (dropped(seqs, BatchLayout.of(seqs)) != 0).all()


# forward


def test_forward_returns_the_loss_the_outputs_or_the_inputs() -> None:
    model = small_model(lid=True)
    loss, output = loss_of(model, BATCH), outputs_of(model, BATCH)
    inputs = decoder_inputs_of(model, BATCH)
    assert loss.shape == ()
    assert output._fields == (
        "loss",
        "logits",
        "decoder_inputs_layout",
        "decoder_context_inputs",
        "decoder_context_seq_lens",
        "audio_embeddings",
    )
    assert inputs._fields == (
        "decoder_context_inputs",
        "decoder_context_seq_lens",
        "audio_embeddings",
    )
    assert torch.equal(output.audio_embeddings, inputs.audio_embeddings)
    assert output.logits.shape == (2, max(output.decoder_inputs_layout.seq_lens), 12)
    torch.testing.assert_close(loss, output.loss)


def test_return_decoder_inputs_runs_no_decoder() -> None:
    model = tiny_model(SMALL)

    def fail(*_: object) -> None:
        raise AssertionError("the decoder was run")

    model.llama_decoder.register_forward_pre_hook(fail)
    decoder_inputs_of(model, BATCH)
    with pytest.raises(AssertionError, match="the decoder was run"):
        model(BATCH)


def test_every_parameter_gets_a_gradient_from_both_losses() -> None:
    for with_logits in (False, True):
        model = tiny_model(SMALL_LID)
        loss = outputs_of(model, BATCH).loss if with_logits else loss_of(model, BATCH)
        torch.autograd.backward(loss)
        without = {name for name, p in model.named_parameters() if p.grad is None}
        assert without == set()


def test_training_learns_a_batch_by_heart() -> None:
    model = create_model(arch_config("tiny", SMALL_LID), dtype=torch.float32)
    batch = make_batch(
        make_waveforms([3000, 5000], dtype=torch.float32),
        [[4, 5, 6], [7, 8]],
        ["eng_Latn", "deu_Latn"],
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    model.train()
    for _ in range(60):
        optimizer.zero_grad()
        torch.autograd.backward(loss_of(model, batch))
        optimizer.step()
    model.eval()
    assert loss_of(model, batch).item() < 0.1
    assert [row[0].tokens for row in generate(model, batch)] == [[4, 5, 6], [7, 8]]


def test_a_model_can_be_built_without_weights() -> None:
    config: Wav2Vec2LlamaConfig = arch_config("tiny", SMALL_LID)
    with torch.device("meta"):
        model = create_wav2vec2_llama_model(config)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    real = create_wav2vec2_llama_model(config).state_dict()
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in real.items()
    }


def test_group_norm_over_time_does_not_let_padding_in() -> None:
    """wav2vec 2.0 ``base`` normalises its first convolution over time."""
    encoder = {"feature_extractor_layer_norm_convs": False}
    model = tiny_model(merge(SMALL, {"wav2vec2_asr_config": {"encoder_config": encoder}}))
    short, long = make_waveforms([3000, 8000])
    alone, _ = model.embed_audio(short[None], [3000])
    batched, lens = model.embed_audio(make_batch([short, long]).source_seqs, [3000, 8000])
    torch.testing.assert_close(batched[0, : lens[0]], alone[0])


def test_a_model_with_languages_needs_an_embedding_of_them() -> None:
    model = tiny_model(SMALL)
    parts = ("encoder_frontend", "encoder", "encoder_proj", "text_frontend", "llama_decoder")
    modules = [getattr(model, name) for name in (*parts, "final_proj")]
    with pytest.raises(ConfigError, match="lang_embeddings"):
        cast("Any", Wav2Vec2LlamaModel)(
            ModelType.LLM_ASR_LID, model.model_dim, *modules, model.target_vocab_info
        )


@pytest.mark.parametrize(
    ("samples", "target", "error", "message"),
    [
        (399, [4], BatchError, "Row 0 has 399 samples"),
        (3000, [4, 99], BatchError, "outside the vocabulary"),
        (3000, [4] * 300, ContextTooLongError, "does not fit max_generation_length 256"),
    ],
)
def test_rows_that_cannot_be_used_are_typed_errors(
    samples: int, target: list[int], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tiny_model(SMALL)(make_batch(make_waveforms([samples]), [target]))
