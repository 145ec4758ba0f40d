"""Checkpoint files: every form that loads, and one sentence for each that does not."""

from __future__ import annotations

import hashlib
import logging
import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from fairseq2.assets import AssetCardError
from fairseq2.device import CPU
from fairseq2.gang import create_fake_gangs
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from tests.fakes import SMALL, arch_config, small_model
from tests.fakes_checkpoints import (
    ctc_config,
    encoder_config,
    fairseq1_ctc,
    fairseq1_ssl,
    family,
    load,
    new_model,
    save_shards,
    ssl_config,
    use_cache,
)
from wavellama.checkpoints import reading
from wavellama.checkpoints.eight_bits import read_weight, to_eight_bits
from wavellama.errors import CheckpointError, ConfigError
from wavellama.files import file_digest

Weights = dict[str, Tensor]

LARGE: Weights = {
    "matrix": torch.randn(64, 128),
    "bias": torch.randn(64),
    "conv": torch.randn(32, 64, 3),
}
"""Weights of which two are large enough to be stored in 8 bits."""


@pytest.fixture(scope="module")
def weights() -> Weights:
    """The weights of a small CTC model."""
    return new_model("wav2vec2_asr", ctc_config()).state_dict()


def _save_legacy(weights: Weights, path: Path) -> Path:
    torch.save({"model": weights, "args": Namespace(arch="w2v")}, path, **LEGACY)
    return path


def _saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def _safetensors(weights: Weights, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    save_file(weights, path)
    return path


LEGACY: dict[str, Any] = {"_use_new_zipfile_serialization": False}

FORMS: dict[str, Callable[[Weights, Path], Path]] = {
    "flat": lambda w, p: _saved(w, p / "a.pt"),
    "published": lambda w, p: _saved({"model": w}, p / "a.pt"),
    "bin": lambda w, p: _saved(w, p / "a.bin"),
    "fairseq1": lambda w, p: _saved({"model": fairseq1_ctc(w), "args": Namespace()}, p / "a.pt"),
    "fairseq1, before torch 1.6": lambda w, p: _save_legacy(fairseq1_ctc(w), p / "a.pt"),
    "safetensors": lambda w, p: _safetensors(w, p / "a.safetensors"),
    "a folder of safetensors": lambda w, p: _safetensors(w, p / "a/b.safetensors").parent,
    "a run's": lambda w, p: save_shards(w, p / "model", 1),
    "a run's of two processes": lambda w, p: save_shards(w, p / "model", 2),
    "compiled": lambda w, p: _saved({f"_orig_mod.{name}": w[name] for name in w}, p / "a.pt"),
    "another trainer's": lambda w, p: _saved({"state_dict": w, "epoch": 3}, p / "a.pt"),
    "a name with blanks": lambda w, p: _saved(w, p / "les modèles à moi.pt"),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_loads(form: str, weights: Weights, tmp_path: Path) -> None:
    model = load("wav2vec2_asr", ctc_config(), FORMS[form](weights, tmp_path))
    assert set(model.state_dict()) == set(weights)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, weights[name]), name


def test_a_path_without_a_card_loads(weights: Weights, tmp_path: Path) -> None:
    path = _saved(weights, tmp_path / "a.pt")
    gangs = create_fake_gangs(CPU)
    model = family("wav2vec2_asr").load_custom_model(
        path, ctc_config(), gangs, torch.bfloat16, False, False, None
    )
    assert torch.equal(model.state_dict()["final_proj.bias"], weights["final_proj.bias"].bfloat16())


def test_a_loaded_model_does_not_change_with_its_file(weights: Weights, tmp_path: Path) -> None:
    path = _saved(weights, tmp_path / "a.pt")
    model = load("wav2vec2_asr", ctc_config(), path)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(model.state_dict()["final_proj.weight"], weights["final_proj.weight"])


# One sentence for what does not load.


def _sentence(name: str, config: object, path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(name, config, path)
    text = str(caught.value)
    assert text.startswith(f"{path} ")
    assert text.endswith(".")
    assert "\n" not in text
    assert caught.value.__cause__ is None  # the command line would add it to the sentence
    return text


@pytest.mark.parametrize(
    ("file", "keep", "reason"),
    [
        ("a.pt", 0.5, "it is cut off or damaged ("),
        ("a.pt", 0.9, "it is cut off or damaged ("),
        ("a.pt", 0.001, "it is cut off or damaged"),
        ("a.safetensors", 0.5, "it is cut off or damaged (Error while deserializing header"),
        ("a.pt", 0.0, "it is no archive of tensors"),
        ("a.safetensors", 0.0, "it is cut off or damaged"),
    ],
)
def test_a_truncated_file(
    file: str, keep: float, reason: str, weights: Weights, tmp_path: Path
) -> None:
    save: Any = save_file if file.endswith("safetensors") else torch.save
    save(weights, tmp_path / file)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[: int(keep * len(content))])
    assert f"cannot be read: {reason}" in _sentence("wav2vec2_asr", ctc_config(), tmp_path / file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<!DOCTYPE html><html>not found</html>", "it is no archive of tensors"),
        (b"PK\x03\x04 but no more", "it is cut off or damaged"),
    ],
)
def test_a_file_that_is_no_checkpoint(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    assert reason in _sentence("wav2vec2_asr", ctc_config(), tmp_path / "a.pt")


class _Intruder:
    """Something that a checkpoint must not make torch create."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_only_tensors_are_unpickled(weights: Weights, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    path = _saved({"model": weights, "extra": _Intruder(trap)}, tmp_path / "a.pt")
    for restrict in (True, False):
        with pytest.raises(CheckpointError, match=r"posix\.mkdir, and only tensors are unpickled"):
            load("wav2vec2_asr", ctc_config(), path, restrict=restrict)
    assert not trap.exists()


@pytest.mark.parametrize(("content", "kind"), [([1, 2], "list"), (torch.zeros(2), "Tensor")])
def test_an_archive_of_something_else(content: object, kind: str, tmp_path: Path) -> None:
    path = _saved(content, tmp_path / "a.pt")
    assert f"it holds a {kind}, and named" in _sentence("wav2vec2_asr", ctc_config(), path)


def test_a_missing_file(tmp_path: Path) -> None:
    text = _sentence("wav2vec2_asr", ctc_config(), tmp_path / "nowhere.pt")
    assert "is not found; the card my_model names it" in text


def test_a_file_that_may_not_be_read(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _saved(weights, tmp_path / "a.pt")

    def refuse(*args: object, **kwargs: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read anything
    assert "cannot be read: Permission denied." in _sentence("wav2vec2_asr", ctc_config(), path)


def _ssl(**changes: Any) -> Weights:
    return new_model("wav2vec2", ssl_config(**changes)).state_dict()


MISFITS: dict[str, tuple[str, object, Callable[[Weights], object], str]] = {
    "a CTC checkpoint for a decoder model": (
        "wav2vec2_llama",
        None,
        lambda w: w,
        "holds a CTC model (wav2vec2_asr): encoder_frontend.feature_extractor.layers.2.conv.weight"
        " is (8, 8, 2) in the checkpoint, but (8, 8, 3) in the model, and encoder.layers.1.",
    ),
    "an encoder for a CTC model": (
        "wav2vec2_asr",
        ctc_config(),
        lambda w: _ssl(),
        "holds a self-supervised encoder (wav2vec2): final_proj.weight is (8, 16) in the"
        " checkpoint, but (12, 16) in the model, and quantizer.entries (1, 10, 6) is in the",
    ),
    "an encoder of fairseq1 for a CTC model": (
        "wav2vec2_asr",
        ctc_config(),
        lambda w: fairseq1_ssl(_ssl()),
        "holds a self-supervised encoder (wav2vec2): final_proj.weight is (8, 16)",
    ),
    "a CTC model for an encoder": (
        "wav2vec2",
        ssl_config(),
        lambda w: w,
        "holds a CTC model (wav2vec2_asr): masker.temporal_mask_embed (16,) is in the model,",
    ),
    "a decoder model for a CTC model": (
        "wav2vec2_asr",
        ctc_config(),
        lambda w: dict(small_model().state_dict()),
        "holds a decoder model (wav2vec2_llama): ",
    ),
    "too few layers": (
        "wav2vec2_asr",
        ctc_config(num_encoder_layers=3),
        lambda w: w,
        "encoder.layers.2.self_attn_layer_norm.weight (16,) is in the model, but not in the",
    ),
    "too many layers": (
        "wav2vec2_asr",
        ctc_config(num_encoder_layers=1),
        lambda w: w,
        "this kind: encoder.layers.1.self_attn_layer_norm.weight (16,) is in the checkpoint only",
    ),
    "another width": (
        "wav2vec2_asr",
        ctc_config(ffn_inner_dim=32),
        lambda w: w,
        "encoder.layers.0.ffn.inner_proj.weight is (24, 16) in the checkpoint, but (32, 16) in",
    ),
    "whole numbers": (
        "wav2vec2_asr",
        ctc_config(),
        lambda w: {name: (100 * weight).to(torch.int8) for name, weight in w.items()},
        "layers.0.conv.weight is of type int8 in the checkpoint, but float32 in the model",
    ),
    "truth values": (
        "wav2vec2_asr",
        ctc_config(),
        lambda w: {**w, "final_proj.bias": w["final_proj.bias"] > 0},
        "final_proj.bias is of type bool in the checkpoint, but float32 in the model",
    ),
    "complex numbers": (
        "wav2vec2_asr",
        ctc_config(),
        lambda w: {**w, "final_proj.bias": w["final_proj.bias"] * 1j},
        "final_proj.bias is of type complex64 in the checkpoint, but float32 in the model",
    ),
    "no tensor": (
        "wav2vec2_asr",
        ctc_config(),
        lambda w: {**w, "final_proj.bias": 3},
        "final_proj.bias is a int in the checkpoint, but (12,) in the model",
    ),
    "no weights": (
        "wav2vec2_asr",
        ctc_config(),
        lambda w: {"step": 3},
        "layers.0.conv.weight (8, 1, 10) is in the model, but not in the checkpoint, and step a int"
        " is in the checkpoint only",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_checkpoint_of_another_model(misfit: str, weights: Weights, tmp_path: Path) -> None:
    name, config, content, words = MISFITS[misfit]
    path = _saved(content(weights), tmp_path / "a.pt")
    text = _sentence(name, config or arch_config("tiny", SMALL), path)
    assert f"does not fit a {name} model of this kind" in text
    assert words in text


def test_a_misfit_is_found_before_any_weight_is_copied(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[Tensor] = []
    copy = Tensor.copy_

    def spy(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not self.is_meta:
            copied.append(self)
        return copy(self, *args, **kwargs)

    monkeypatch.setattr(Tensor, "copy_", spy)
    load("wav2vec2_asr", ctc_config(), _saved(weights, tmp_path / "good.pt"))
    assert len(copied) >= len(weights)
    copied.clear()
    last = [*weights][-1]
    bad = _saved({**weights, last: torch.zeros(1, 2, 3)}, tmp_path / "bad.pt")
    assert f"{last} is (1, 2, 3)" in _sentence("wav2vec2_asr", ctc_config(), bad)
    assert not copied


def test_a_part_of_a_checkpoint_folder(weights: Weights, tmp_path: Path) -> None:
    _saved(weights, tmp_path / "a.pt")
    _saved(weights, tmp_path / "b c.pt")
    model = load("wav2vec2_asr", ctc_config(), tmp_path, checkpoint_path="b c.pt")
    assert torch.equal(model.state_dict()["final_proj.bias"], weights["final_proj.bias"])
    with pytest.raises(CheckpointError, match="my_model cannot be loaded"):
        load("wav2vec2_asr", ctc_config(), tmp_path, checkpoint_path="c.pt")
    with pytest.raises(AssetCardError, match="leads out of its checkpoint"):
        load("wav2vec2_asr", ctc_config(), tmp_path, checkpoint_path="../a.pt")


def test_shards_of_another_model(weights: Weights, tmp_path: Path) -> None:
    other = {name: weight for name, weight in weights.items() if name != "final_proj.bias"}
    folder = save_shards(other, tmp_path / "model", 2)
    with pytest.raises(CheckpointError, match="is not compatible with the wav2vec2_asr model"):
        load("wav2vec2_asr", ctc_config(), folder)


def test_a_card_without_a_checkpoint() -> None:
    from fairseq2.assets import AssetCard

    card = AssetCard("my_model", {"model_family": "wav2vec2_asr"})
    gangs = create_fake_gangs(CPU)
    with pytest.raises(ConfigError, match="The card my_model names no checkpoint"):
        family("wav2vec2_asr").load_model(card, gangs, torch.float32, None, False, False)


def test_a_checkpoint_from_nowhere() -> None:
    with pytest.raises(ConfigError, match=r"asks for ftp://host/a\.pt, and checkpoints come by .*"):
        load("wav2vec2_asr", ctc_config(), "ftp://host/a.pt")


# Reading in parts


def test_every_weight_is_read_once_and_from_few_mappings(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    open_checkpoint = reading.open_checkpoint

    def spy(file: Path) -> dict[str, object]:
        opened.append(file)
        return open_checkpoint(file)

    monkeypatch.setattr(reading, "open_checkpoint", spy)
    path = _saved(weights, tmp_path / "a.pt")
    read = list(reading.iter_weights(path, dict))
    assert sorted(name for name, _ in read) == sorted(weights)
    assert 5 < len(opened) < 40
    opened.clear()
    legacy = _save_legacy(weights, tmp_path / "legacy.pt")  # cannot be mapped: read as a whole
    assert len(list(reading.iter_weights(legacy, dict))) == len(weights)
    assert len(opened) == 2


def test_weights_in_eight_bits_become_floats_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[str] = []

    def spy(stored: dict[str, object], name: str) -> object:
        parts.append(name)
        return read_weight(stored, name)

    monkeypatch.setattr("wavellama.checkpoints.reading.read_weight", spy)
    path = _safetensors(to_eight_bits(LARGE), tmp_path / "a.safetensors")
    for number, (name, weight) in enumerate(reading.iter_weights(path, dict), 1):
        assert (parts[-1], len(parts)) == (name, number)
        step = float(LARGE[name].abs().max()) / 254
        assert_close(weight, LARGE[name], rtol=0, atol=1.01 * step)
    assert len(parts) == len(LARGE)


def test_weights_in_eight_bits_are_checked_without_their_numbers(tmp_path: Path) -> None:
    """All of them as floats would take the memory of the model a second time."""
    path = _safetensors(to_eight_bits(LARGE), tmp_path / "a.safetensors")
    checked: list[dict[str, object]] = []

    def note(weights: dict[str, object]) -> dict[str, object]:
        checked.append(weights)
        return weights

    read = dict(reading.iter_weights(path, note))
    (found,) = checked
    assert found.keys() == read.keys() == LARGE.keys()
    for name, weight in found.items():
        assert isinstance(weight, Tensor)
        assert (weight.shape, weight.dtype) == (LARGE[name].shape, LARGE[name].dtype)
        assert weight.is_meta == (name != "bias")


def test_converters_may_compute_with_weights_in_eight_bits(tmp_path: Path) -> None:
    stored = to_eight_bits(LARGE)
    path = _safetensors(stored, tmp_path / "a.safetensors")

    def negate(found: dict[str, object]) -> dict[str, object]:
        return {**found, "matrix": -cast("Tensor", found["matrix"])}

    read = dict(reading.iter_weights(path, negate))
    assert_close(read["matrix"], -cast("Tensor", read_weight(dict(stored), "matrix")))
    assert_close(read["conv"], read_weight(dict(stored), "conv"))


def test_fresh_parts_are_made_and_reported_once(
    weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _saved(weights, tmp_path / "a.pt")
    with caplog.at_level(logging.WARNING):
        model = load("wav2vec2_asr", ctc_config(use_masking=True), path)
    fresh = model.state_dict()["masker.temporal_mask_embed"]
    assert fresh.shape == (encoder_config().model_dim,)
    assert 0 < fresh.std() < 1
    assert sum("masker.temporal_mask_embed" in text for text in caplog.messages) == 1


# Checksums


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of fairseq2's cache of assets."""
    return use_cache(tmp_path / "cache", monkeypatch)


def test_a_checksum_is_verified_once(
    weights: Weights, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _saved(weights, tmp_path / "a.pt")
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    summed: list[Path] = []

    def spy(file: Path) -> str:
        summed.append(file)
        return file_digest(file)

    monkeypatch.setattr("wavellama.checkpoints.fetch.file_digest", spy)
    for _ in range(2):
        load("wav2vec2_asr", ctc_config(), path, checkpoint_sha256=expected.upper())
    assert summed == [path]
    assert len(list((cache / "verified").iterdir())) == 1
    other = _saved({"other": torch.zeros(3)}, path)
    found = hashlib.sha256(other.read_bytes()).hexdigest()
    with pytest.raises(CheckpointError) as caught:
        load("wav2vec2_asr", ctc_config(), path, checkpoint_sha256=expected)
    for part in (str(path), expected, found, "delete it and fetch it again"):
        assert part in str(caught.value)


def test_a_checksum_is_of_a_file(weights: Weights, tmp_path: Path, cache: Path) -> None:
    folder = save_shards(weights, tmp_path / "model", 1)
    with pytest.raises(ConfigError, match="is a folder, and `checkpoint_sha256` is the sum of one"):
        load("wav2vec2_asr", ctc_config(), folder, checkpoint_sha256="0" * 64)
