"""Checkpoints rewritten: there and back, of each layout, complete or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.fakes_checkpoints import (
    ctc_config,
    fairseq1_ctc,
    fairseq1_ssl,
    load,
    new_model,
    save_shards,
    ssl_config,
)
from wavellama.checkpoints import convert
from wavellama.checkpoints.convert import convert_checkpoint
from wavellama.checkpoints.eight_bits import from_eight_bits
from wavellama.errors import CheckpointError, ConfigError

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def weights() -> Weights:
    """The weights of a small CTC model."""
    return new_model("wav2vec2_asr", ctc_config()).state_dict()


def _content(path: Path) -> Weights:
    if path.suffix == ".safetensors":
        return load_file(path)
    content: Weights = torch.load(path, weights_only=True)
    return content


def _holds(path: Path, weights: Weights) -> None:
    content = _content(path)
    assert set(content) == set(weights)
    for name, weight in weights.items():
        assert content[name].dtype == weight.dtype
        assert torch.equal(content[name], weight), name


def test_there_and_back(weights: Weights, tmp_path: Path) -> None:
    torch.save({"model": weights}, tmp_path / "a.pt")
    assert convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.safetensors") == len(weights)
    _holds(tmp_path / "b.safetensors", weights)
    assert convert_checkpoint(tmp_path / "b.safetensors", tmp_path / "c.pt") == len(weights)
    _holds(tmp_path / "c.pt", weights)
    assert sorted(os.listdir(tmp_path)) == ["a.pt", "b.safetensors", "c.pt"]


def test_wrapped_weights_are_unwrapped(weights: Weights, tmp_path: Path) -> None:
    compiled = {f"module._orig_mod.{name}": weight for name, weight in weights.items()}
    torch.save({"state_dict": compiled, "epoch": 3}, tmp_path / "a.pt")
    convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.pt")
    _holds(tmp_path / "b.pt", weights)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_data_types_shared_and_strided_weights(suffix: str, tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    odd = {
        "half": base.bfloat16(),
        "count": torch.tensor(3),
        "turned": base.T,
        "cut": base[1:2],
        "same": base,
        "again": base,
    }
    torch.save(odd, tmp_path / "a.pt")
    convert_checkpoint(tmp_path / "a.pt", tmp_path / f"b{suffix}")
    _holds(tmp_path / f"b{suffix}", odd)


@pytest.mark.parametrize("post_norm", [False, True], ids=["large_lv60k", "base"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_fairseq1_becomes_fairseq2(post_norm: bool, suffix: str, tmp_path: Path) -> None:
    configs: tuple[Any, Any] = (ssl_config(post_norm=post_norm), ctc_config(post_norm=post_norm))
    target = tmp_path / f"b{suffix}"
    for name, config, rename in zip(
        ("wav2vec2", "wav2vec2_asr"), configs, (fairseq1_ssl, fairseq1_ctc), strict=True
    ):
        weights = new_model(name, config).state_dict()
        torch.save({"model": rename(weights)}, tmp_path / "a.pt")
        convert_checkpoint(tmp_path / "a.pt", target)
        _holds(target, weights)
        model = load(name, config, target)
        assert torch.equal(model.state_dict()["final_proj.bias"], weights["final_proj.bias"])


def _save_run(weights: Weights, folder: Path, scores: dict[int, float]) -> Path:
    checkpoints = folder / "checkpoints"
    for step in (10, 20):
        marked = {**weights, "final_proj.bias": torch.full((12,), float(step))}
        save_shards(marked, checkpoints / f"step_{step}" / "model", 1)
    (checkpoints / "scores").mkdir()
    for step, score in scores.items():
        (checkpoints / "scores" / f"step_{step}.txt").write_text(f"{score}\n")
    (checkpoints / "model.yaml").write_text("name: checkpoint\nmodel_family: wav2vec2_asr\n")
    return folder


@pytest.mark.parametrize(
    ("part", "scores", "step"),
    [
        ("checkpoints/step_10", {}, 10),
        ("checkpoints/step_10/model", {}, 10),
        ("checkpoints/step_20/model/pp_00/tp_00/sdp_00.pt", {}, 20),
        ("", {}, 20),
        ("", {10: -0.5, 20: -0.9}, 10),
    ],
)
def test_the_checkpoints_of_a_run(
    part: str, scores: dict[int, float], step: int, weights: Weights, tmp_path: Path
) -> None:
    run = _save_run(weights, tmp_path / "my runs" / "first", scores)
    convert_checkpoint(run / part, tmp_path / "a.safetensors")
    _holds(
        tmp_path / "a.safetensors", {**weights, "final_proj.bias": torch.full((12,), step + 0.0)}
    )


def test_a_checkpoint_in_shards_is_put_together(weights: Weights, tmp_path: Path) -> None:
    save_shards(weights, tmp_path / "model", 2)
    convert_checkpoint(tmp_path / "model", tmp_path / "a.pt")
    _holds(tmp_path / "a.pt", weights)
    (tmp_path / "model" / "pp_00" / "tp_00" / "sdp_01.pt").write_text("nothing")
    with pytest.raises(CheckpointError, match=r"sdp_01\.pt"):
        convert_checkpoint(tmp_path / "model", tmp_path / "b.pt")
    (tmp_path / "model" / "pp_00" / "tp_01").mkdir()
    with pytest.raises(CheckpointError, match="cut for tensor parallelism"):
        convert_checkpoint(tmp_path / "model", tmp_path / "b.pt")


def test_a_file_may_be_rewritten_in_its_place(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"model": fairseq1_ctc(weights)}, path)
    convert_checkpoint(path, path)
    _holds(path, weights)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_others_may_read_it_as_any_new_file(suffix: str, weights: Weights, tmp_path: Path) -> None:
    save_file(weights, tmp_path / "a.safetensors")
    (tmp_path / "plain").touch()
    convert_checkpoint(tmp_path / "a.safetensors", tmp_path / f"b{suffix}")
    assert (tmp_path / f"b{suffix}").stat().st_mode == (tmp_path / "plain").stat().st_mode


# What cannot be converted


@pytest.mark.parametrize("name", ["a", "a.bin", "a.onnx", "pt"])
def test_a_target_of_no_known_format(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"{name} must end in \.pt or \.safetensors"):
        convert_checkpoint(tmp_path / "missing.pt", tmp_path / name)


def test_a_missing_source(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing\.pt is not found"):
        convert_checkpoint(tmp_path / "missing.pt", tmp_path / "a.pt")
    with pytest.raises(ConfigError, match="holds no training run"):
        convert_checkpoint(tmp_path, tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"a": torch.zeros(1), "step": 3}, "other than named tensors: step is none"),
        ({}, "no tensors"),
    ],
)
def test_a_source_of_other_things(content: dict[str, object], reason: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=rf"a\.pt holds {reason}\."):
        convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.pt")


def test_a_folder_that_does_not_exist(weights: Weights, tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"b\.pt cannot be written: No such file"):
        convert_checkpoint(tmp_path / "a.pt", tmp_path / "nowhere" / "b.pt")


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), RuntimeError("No space left on device")]
)
def test_a_failed_conversion_leaves_the_old_file(
    failure: Exception, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(weights: Weights, path: Path) -> None:
        path.write_text("half")
        raise failure

    monkeypatch.setattr(convert, "WRITERS", {".pt": fail})
    torch.save(weights, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_text("old")
    with pytest.raises(
        CheckpointError, match=r"b\.pt cannot be written: No space left on device\."
    ):
        convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.pt")
    assert (tmp_path / "b.pt").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["a.pt", "b.pt"]


def test_eight_bits_take_a_quarter_and_keep_the_weights(tmp_path: Path) -> None:
    weights = {
        "matrix": torch.randn(200, 300) * torch.logspace(-3, 3, 200)[:, None],
        "conv": torch.randn(32, 64, 5),
        "empty_rows": torch.zeros(64, 64),
        "vector": torch.randn(5000),
        "small": torch.randn(8, 8),
        "counts": torch.arange(5000).view(50, 100),
    }
    save_file(weights, tmp_path / "a.safetensors")
    assert convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "b.pt", int8=True) == 6
    stored = _content(tmp_path / "b.pt")
    assert {name for name, weight in stored.items() if weight.dtype == torch.int8} == {
        *("matrix", "conv", "empty_rows")
    }
    back = from_eight_bits(stored)
    assert set(back) == set(weights)
    for name, weight in weights.items():
        assert isinstance(found := back[name], Tensor)
        largest = weight.flatten(1).abs().amax(1) if weight.ndim > 1 else weight.new_zeros(1)
        assert found.dtype == weight.dtype
        is_small = name not in ("matrix", "conv", "empty_rows")
        room = 0 if is_small else (largest / 254).view(-1, *[1] * (weight.ndim - 1))
        exact = name not in ("matrix", "conv", "empty_rows")
        assert (
            torch.equal(found, weight)
            if exact
            else bool(((found - weight).abs() <= room * 1.001).all())
        )


def test_a_model_is_loaded_from_eight_bits(tmp_path: Path) -> None:
    config = ssl_config()
    config.encoder_config.ffn_inner_dim = 1024
    weights = new_model("wav2vec2", config).state_dict()
    save_file(weights, tmp_path / "a.safetensors")
    convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "b.safetensors", int8=True)
    assert any(w.dtype == torch.int8 for w in _content(tmp_path / "b.safetensors").values())
    for name, weight in load("wav2vec2", config, tmp_path / "b.safetensors").state_dict().items():
        torch.testing.assert_close(
            weight, weights[name], atol=float(weight.abs().max()) / 250, rtol=0
        )
