"""From other state dicts to ours."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from fairseq2.nn import BatchLayout
from torch import Tensor

from tests.fakes import LID, SMALL, arch_config, merge, small_model, tiny_model
from tests.fakes_checkpoints import ctc_config, fairseq1_ctc, fairseq1_ssl, new_model, ssl_config
from wavellama.checkpoints.interop import (
    convert_ctc_state_dict,
    convert_ssl_state_dict,
    convert_state_dict,
    describe_kind,
    rename_fairseq1,
    unwrap_state_dict,
)

MASKED = merge(SMALL, {"wav2vec2_asr_config": {"use_masking": True, "spatial_mask_span_len": 4}})
WITH_CTC = merge(SMALL, {"ctc_head": True})
TOLD = merge(merge(SMALL, LID), {"ctc_head": True, "ctc_head_layers": 1})


def _state_dict() -> dict[str, object]:
    return dict(small_model().state_dict())


def test_a_published_checkpoint_is_unwrapped() -> None:
    ours = _state_dict()
    converted = convert_state_dict({"model": ours}, arch_config("tiny", SMALL))
    assert converted == ours
    assert convert_state_dict(ours, arch_config("tiny", SMALL)) == ours


def test_the_callers_state_dict_stays_as_it_is() -> None:
    ours = {**_state_dict(), "masker.temporal_mask_embed": torch.zeros(16)}
    names = set(ours)
    convert_state_dict(ours, arch_config("tiny", SMALL))
    convert_state_dict(ours, arch_config("tiny", WITH_CTC))
    assert set(ours) == names


def test_a_masker_that_nobody_asked_for_is_left_out_and_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    published = {**_state_dict(), "masker.temporal_mask_embed": torch.zeros(16)}
    with caplog.at_level(logging.INFO):
        converted = convert_state_dict({"model": published}, arch_config("tiny", SMALL))
    assert set(converted) == set(_state_dict())
    assert "masker.temporal_mask_embed" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (MASKED, ["masker.temporal_mask_embed"]),
        (WITH_CTC, ["ctc_head.weight", "ctc_head.bias"]),
    ],
    ids=["masker", "ctc_head"],
)
def test_parts_that_a_checkpoint_lacks_start_fresh_and_are_reported(
    overrides: dict[str, object], names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        converted = convert_state_dict({"model": _state_dict()}, arch_config("tiny", overrides))
    assert set(converted) - set(_state_dict()) == set(names)
    for name in names:
        assert name in caplog.text
    tiny_model(overrides).load_state_dict(converted, strict=True)


@pytest.mark.parametrize("overrides", [MASKED, WITH_CTC], ids=["masker", "ctc_head"])
def test_parts_that_a_checkpoint_has_are_taken_from_it(
    overrides: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    ours = dict(tiny_model(overrides).state_dict())
    with caplog.at_level(logging.WARNING):
        converted = convert_state_dict({"model": ours}, arch_config("tiny", overrides))
    assert converted == ours
    assert not caplog.records


def test_a_head_that_is_told_the_language_is_taken_or_starts_fresh() -> None:
    ours = dict(tiny_model(TOLD).state_dict())
    assert convert_state_dict(ours, arch_config("tiny", TOLD)) == ours
    plain = dict(tiny_model(merge(SMALL, LID)).state_dict())
    converted = convert_state_dict(plain, arch_config("tiny", TOLD))
    tiny_model(TOLD).load_state_dict(converted, strict=True)


def test_a_missing_weight_is_not_made_up() -> None:
    ours = _state_dict()
    del ours["final_proj.weight"]
    converted = convert_state_dict(ours, arch_config("tiny", SMALL))
    with pytest.raises(RuntimeError, match=r"final_proj\.weight"):
        tiny_model(SMALL).load_state_dict(converted, strict=True)


def test_a_wrapped_module_is_unwrapped() -> None:
    assert unwrap_state_dict({"model": {"module.a.module.b": 1}, "step": 3}) == {"a.module.b": 1}
    assert unwrap_state_dict({"module.a": 1, "b": 2}) == {"a": 1, "b": 2}


def test_a_compiled_module_and_another_trainers_checkpoint_are_unwrapped() -> None:
    assert unwrap_state_dict({"_orig_mod.a": 1, "b._orig_mod.c": 2}) == {"a": 1, "b.c": 2}
    assert unwrap_state_dict({"model": {"module._orig_mod.a": 1}}) == {"a": 1}
    assert unwrap_state_dict({"_orig_mod.module.a": 1}) == {"a": 1}
    assert unwrap_state_dict({"state_dict": {"a": 1}, "epoch": 3}) == {"a": 1}


# fairseq1


def _equal(converted: dict[str, object], weights: dict[str, Tensor]) -> None:
    assert set(converted) == set(weights)
    for name, weight in weights.items():
        value = converted[name]
        assert isinstance(value, Tensor)
        torch.testing.assert_close(value, weight, rtol=0, atol=0)


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
@pytest.mark.parametrize("post_norm", [False, True], ids=["large_lv60k", "base"])
def test_a_self_supervised_encoder_of_fairseq1(post_norm: bool, wrapped: bool) -> None:
    config = ssl_config(post_norm=post_norm)
    ours = new_model("wav2vec2", config).state_dict()
    theirs: dict[str, Any] = fairseq1_ssl(ours)
    assert {"mask_emb", "quantizer.vars", "encoder.pos_conv.0.weight_g"} < set(theirs)
    if wrapped:
        theirs = {"model": {f"module.{name}": weight for name, weight in theirs.items()}}
    _equal(convert_ssl_state_dict(theirs, config), ours)
    _equal(convert_ssl_state_dict(dict(ours), config), ours)
    if not wrapped:
        _equal(rename_fairseq1(theirs), ours)


@pytest.mark.parametrize("post_norm", [False, True], ids=["large_lv60k", "base"])
def test_a_ctc_model_of_fairseq1(post_norm: bool) -> None:
    config = ctc_config(post_norm=post_norm, use_masking=True)
    ours = new_model("wav2vec2_asr", config).state_dict()
    theirs: dict[str, Any] = fairseq1_ctc(ours)
    assert {"w2v_encoder.proj.bias", "w2v_encoder.w2v_model.mask_emb"} < set(theirs)
    _equal(convert_ctc_state_dict(theirs, config), ours)
    _equal(convert_ctc_state_dict({"model": dict(ours)}, config), ours)
    _equal(rename_fairseq1(theirs), ours)


def test_the_masker_of_a_ctc_model_is_treated_as_a_decoder_models(
    caplog: pytest.LogCaptureFixture,
) -> None:
    masked, plain = ctc_config(use_masking=True), ctc_config()
    ours = new_model("wav2vec2_asr", masked).state_dict()
    name = "masker.temporal_mask_embed"
    with caplog.at_level(logging.INFO):
        converted = convert_ctc_state_dict(fairseq1_ctc(ours), plain)  # type: ignore[arg-type]
        assert set(converted) == set(ours) - {name}
        again = convert_ctc_state_dict(converted, masked)
    assert set(again) == set(ours)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]


def test_a_converted_encoder_computes_what_the_original_does() -> None:
    config = ssl_config()
    original = new_model("wav2vec2", config, seed=1).eval()
    converted = new_model("wav2vec2", config, seed=2).eval()
    weights = convert_ssl_state_dict(fairseq1_ssl(original.state_dict()), config)  # type: ignore[arg-type]
    audio = torch.randn(1, 800)
    layout = BatchLayout.of(audio)
    assert not torch.equal(*(_features(model, audio, layout) for model in (original, converted)))
    converted.load_state_dict(weights)
    assert torch.equal(*(_features(model, audio, layout) for model in (original, converted)))


def _features(model: Any, audio: Tensor, layout: BatchLayout) -> Tensor:
    seqs, seqs_layout, _ = model.encoder_frontend.extract_features(audio, layout)
    seqs, _ = model.encoder_frontend.process_features(seqs, seqs_layout)
    encoded: Tensor = model.encoder(seqs, seqs_layout)
    return encoded


def test_kinds_are_told_apart_by_names() -> None:
    ssl = new_model("wav2vec2", ssl_config()).state_dict()
    ctc = new_model("wav2vec2_asr", ctc_config()).state_dict()
    kinds = [small_model().state_dict(), ssl, ctc, fairseq1_ssl(ssl), fairseq1_ctc(ctc)]
    names = [describe_kind(kind) for kind in kinds]
    assert names == [
        "a decoder model (wav2vec2_llama)",
        "a self-supervised encoder (wav2vec2)",
        "a CTC model (wav2vec2_asr)",
        "a self-supervised encoder of fairseq1 (wav2vec2)",
        "a CTC model of fairseq1 (wav2vec2_asr)",
    ]
    assert describe_kind(["conv1.weight"]) is None


THREE = merge(LID, {"languages": ["eng_Latn", "ita_Latn", "qaa_Latn"]})
FIVE = merge(LID, {"languages": ["eng_Latn", "ita_Latn", "qaa_Latn", "deu_Latn", "qab_Latn"]})


def test_languages_behind_those_of_a_checkpoint_start_fresh_and_are_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = dict(tiny_model(THREE).state_dict())
    with caplog.at_level(logging.WARNING):
        converted = convert_state_dict({"model": known}, arch_config("tiny", FIVE))
    assert "knows 3 languages, the model 5" in caplog.text
    model = tiny_model(FIVE)
    model.load_state_dict(converted, strict=True)
    assert model.lang_embeddings is not None
    weight = model.lang_embeddings.weight
    assert torch.equal(weight[:4], known["lang_embeddings.weight"])
    assert weight[4:].std() > 0
    assert len(known["lang_embeddings.weight"]) == 4


def test_nothing_is_added_to_more_languages_or_to_a_shard() -> None:
    five = dict(tiny_model(FIVE).state_dict())
    assert convert_state_dict(five, arch_config("tiny", FIVE)) == five
    assert convert_state_dict(five, arch_config("tiny", THREE)) == five
    shard = {name: weight[: len(weight) // 2] for name, weight in five.items()}
    assert convert_state_dict(shard, arch_config("tiny", FIVE)) == shard
