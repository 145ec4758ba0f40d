"""Adapters on disk: merged wherever a model is loaded, tied to their base, and in PEFT's form."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Module

from tests.fakes import arch_config, make_batch, make_waveforms
from tests.fakes_checkpoints import new_model, save_shards, use_cache, write_run
from wavellama.checkpoints.convert import convert_checkpoint
from wavellama.checkpoints.hub import find_model, load_model
from wavellama.checkpoints.lora import BaseWeights, write_note
from wavellama.checkpoints.peft import CONFIG_FILE
from wavellama.errors import CheckpointError, ConfigError, WavellamaError
from wavellama.files import write_text
from wavellama.model.lora import LoraConfig, add_adapters, leave_out_frozen

BATCH = make_batch(make_waveforms([9000, 6400], seed=1), [[5, 6, 7], [8, 9]])

LORA = LoraConfig(r=2, alpha=3.0, also_train=["encoder_proj"])

Weights = dict[str, Tensor]


def outputs(model: Module) -> Tensor:
    """Return what the model computes of the batch."""
    with torch.no_grad():
        logits: Tensor = model.eval()(BATCH, return_logits=True).logits
    return logits


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return use_cache(tmp_path / "cache", monkeypatch)


@pytest.fixture
def plain() -> Module:
    """A small model."""
    return new_model("wav2vec2_llama", arch_config("tiny")).eval()


@pytest.fixture
def base(plain: Module, tmp_path: Path) -> Path:
    """A run that ended with it."""
    return _write_llama(tmp_path / "base", plain.state_dict())


@pytest.fixture
def adapted(plain: Module) -> Module:
    """The model with adapters."""
    add_adapters(plain, LORA)
    leave_out_frozen(plain)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in plain.parameters():
            if parameter.requires_grad:
                parameter.uniform_(-0.3, 0.3, generator=generator)
    return plain


@pytest.fixture
def run(base: Path, adapted: Module, tmp_path: Path) -> Path:
    """A run that ended with the adapters."""
    return _write_adapter(tmp_path / "run", base, adapted)


def _write_llama(folder: Path, weights: Weights, shards: int = 1) -> Path:
    write_run(folder, "tokenizer: {name: toy_tokenizer}\n")
    card = "name: checkpoint\nmodel_family: wav2vec2_llama\nmodel_arch: tiny\n"
    (folder / "checkpoints" / "model.yaml").write_text(card)
    save_shards(weights, folder / "checkpoints/step_1/model", shards)
    return folder


def _write_adapter(folder: Path, base: Path, adapted: Module, shards: int = 1) -> Path:
    _write_llama(folder, adapted.state_dict(), shards)
    path = base / "checkpoints/step_1/model"
    weights = BaseWeights(str(base), str(path), _digest(path))
    write_note(folder / "checkpoints", weights, LORA)
    return folder


def _digest(path: Path) -> str:
    return sha256((path / "pp_00/tp_00/sdp_00.pt").read_bytes()).hexdigest()


@pytest.mark.parametrize("shards", [1, 2])
def test_a_run_means_its_base_with_the_adapter_merged(
    base: Path, adapted: Module, tmp_path: Path, shards: int
) -> None:
    run = _write_adapter(tmp_path / "run", base, adapted, shards)
    loaded = load_model(run)
    torch.testing.assert_close(outputs(loaded), outputs(adapted), atol=1e-5, rtol=0)
    assert (outputs(loaded) - outputs(load_model(base))).abs().max() > 0.1
    assert not any("lora" in name for name in loaded.state_dict())


@pytest.mark.parametrize("int8", [False, True])
def test_a_merged_model_is_written_to_a_file(
    run: Path, base: Path, adapted: Module, tmp_path: Path, int8: bool
) -> None:
    if int8:  # the base is stored in 8 bits
        file = tmp_path / "small.safetensors"
        convert_checkpoint(base, file, int8=True)
        note = run / "checkpoints/lora.json"
        content = json.loads(note.read_text())
        note.write_text(json.dumps({**content, "base": {"name": "small", "path": str(file)}}))
    count = convert_checkpoint(run, tmp_path / "merged.safetensors", merge=True)
    merged, loaded = load_file(tmp_path / "merged.safetensors"), load_model(run).state_dict()
    assert len(merged) == count == len(loaded)
    for name, weight in loaded.items():
        assert torch.equal(merged[name], weight), name


def test_an_adapter_of_an_adapted_model(
    base: Path, run: Path, adapted: Module, tmp_path: Path
) -> None:
    again = _write_adapter(tmp_path / "again", run, adapted)
    name = "encoder.layers.0.self_attn.q_proj.weight"
    changes = [
        load_model(second).state_dict()[name] - load_model(first).state_dict()[name]
        for first, second in ((base, run), (run, again))
    ]
    torch.testing.assert_close(changes[0], changes[1])
    assert changes[0].abs().max() > 0.01


def test_a_base_that_has_changed_is_refused(run: Path, base: Path, plain: Module) -> None:
    (file,) = base.rglob("sdp_00.pt")
    weights = torch.load(file)
    weights["final_proj.weight"][0, 0] += 1e-3
    torch.save(weights, file)
    with pytest.raises(CheckpointError, match=r"are not those of .*base that the adapter was"):
        load_model(run)
    with pytest.raises(CheckpointError, match="have changed since"):
        convert_checkpoint(run, run / "merged.pt", merge=True)


def test_a_base_that_is_gone(run: Path, base: Path) -> None:
    base.rename(base.with_name("moved"))
    with pytest.raises(CheckpointError, match=r"neither a model card nor .*no longer in"):
        load_model(run)


def test_a_base_is_found_again_by_its_card() -> None:
    found = BaseWeights("wavellama_small", "/nowhere/wavellama_small.safetensors").find()
    assert found.name == "wavellama_small.safetensors"
    assert found.is_file()
    with pytest.raises(CheckpointError, match="wavellama_small that the adapter was trained for"):
        BaseWeights("wavellama_small", None, "0" * 64).find()


def test_an_adapter_of_another_model(run: Path) -> None:
    (file,) = run.rglob("sdp_00.pt")
    torch.save(
        {**torch.load(file), "encoder.layers.9.ffn.inner_proj.lora_A": torch.ones(2, 2)}, file
    )
    with pytest.raises(CheckpointError, match=r"nothing to take encoder\.layers\.9"):
        load_model(run)


def test_an_adapter_of_a_larger_model(run: Path) -> None:
    """PEFT does not say which weights its adapters are for: a stack trace."""
    (file,) = run.rglob("sdp_00.pt")
    weights = torch.load(file)
    name = next(name for name in weights if name.endswith(".lora_B"))
    torch.save({**weights, name: torch.cat([weights[name]] * 2)}, file)
    with pytest.raises(CheckpointError, match=r"does not fit .* has the shape"):
        load_model(run)


def test_what_is_not_asked_of_adapters(run: Path, base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run holds an adapter of .*base: `--merge` writes"):
        convert_checkpoint(run, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match="base holds no adapter"):
        convert_checkpoint(base, tmp_path / "a.pt", merge=True)


def test_our_adapter_in_peft(run: Path, base: Path, adapted: Module, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    folder = tmp_path / "adapter"
    assert convert_checkpoint(run, folder) == len(adapted.state_dict())
    model = peft.PeftModel.from_pretrained(load_model(base), folder)
    torch.testing.assert_close(outputs(model.base_model.model), outputs(adapted), atol=1e-5, rtol=0)
    merged = model.merge_and_unload()
    torch.testing.assert_close(outputs(merged), outputs(load_model(run)), atol=1e-5, rtol=0)


def test_our_adapter_there_and_back(run: Path, tmp_path: Path) -> None:
    convert_checkpoint(run, tmp_path / "adapter")
    source = find_model(tmp_path / "adapter")
    assert torch.equal(outputs(source.load()), outputs(load_model(run)))
    assert source.tokenizer_name == "toy_tokenizer"
    convert_checkpoint(tmp_path / "adapter", tmp_path / "merged.pt", merge=True)
    merged = torch.load(tmp_path / "merged.pt")
    assert all(torch.equal(merged[n], w) for n, w in load_model(run).state_dict().items())
    with pytest.raises(CheckpointError, match="adapter cannot be written: "):
        convert_checkpoint(run, tmp_path / "adapter")


def _peft_adapter(base: Path, folder: Path) -> Module:
    """Write an adapter that PEFT has made; returns the model that PEFT merges."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        init_lora_weights=False,
        target_modules=[],
        target_parameters=["q_proj.weight", "inner_proj.weight"],
        modules_to_save=["final_proj"],
    )
    plain: Any = load_model(base)
    plain.name_or_path = str(base)  # where PEFT looks for the base's name
    model = peft.get_peft_model(plain, config)
    with torch.no_grad():
        model.base_model.model.final_proj.modules_to_save.default.weight.mul_(1.5)
    model.save_pretrained(folder)
    merged: Module = model.merge_and_unload()
    return merged


def test_an_adapter_of_peft_here(base: Path, tmp_path: Path) -> None:
    merged = _peft_adapter(base, tmp_path / "adapter")
    loaded = load_model(tmp_path / "adapter")
    torch.testing.assert_close(outputs(loaded), outputs(merged), atol=1e-5, rtol=0)
    assert (outputs(loaded) - outputs(load_model(base))).abs().max() > 0.1


def _change(**fields: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / CONFIG_FILE
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))

    return change


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_change(use_dora=True), "another kind than LoRA: use_dora"),
        (_change(peft_type="LOHA"), "another kind than LoRA: LOHA"),
        (_change(lora_alpha=None), "has no number as its `lora_alpha`"),
        (lambda folder: write_text(folder / CONFIG_FILE, "[]"), "no configuration of an adapter"),
        (_change(base_model_name_or_path=None), "set `base_model_name_or_path` to its card"),
        (_change(base_model_name_or_path="mine"), "mine is not a known model card"),
        (lambda folder: (folder / CONFIG_FILE).write_text("{"), "cannot be read"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "cannot be read"),
        (
            lambda folder: save_file({"a": torch.ones(1)}, folder / "adapter_model.safetensors"),
            "fit",
        ),
    ],
)
def test_adapters_that_cannot_be_used(
    run: Path, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    convert_checkpoint(run, tmp_path / "adapter")
    damage(tmp_path / "adapter")
    with pytest.raises(WavellamaError, match=words):
        load_model(tmp_path / "adapter")
