"""From other state dicts to ours."""

from __future__ import annotations

import logging

import pytest
import torch

from tests.fakes import SMALL, arch_config, merge, small_model, tiny_model
from wavellama.model.interop import convert_state_dict

MASKED = merge(SMALL, {"wav2vec2_asr_config": {"use_masking": True, "spatial_mask_span_len": 4}})
WITH_CTC = merge(SMALL, {"ctc_head": True})


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


def test_a_missing_weight_is_not_made_up() -> None:
    ours = _state_dict()
    del ours["final_proj.weight"]
    converted = convert_state_dict(ours, arch_config("tiny", SMALL))
    with pytest.raises(RuntimeError, match=r"final_proj\.weight"):
        tiny_model(SMALL).load_state_dict(converted, strict=True)
