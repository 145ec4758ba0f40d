"""What loading and training cost: the memory of both, and what the family has against it.

Loading takes the memory of the model, and a small part of the file's size. Training takes less
with activation checkpointing, and less time with a compiled decoder; neither changes the result.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq2.assets import AssetCard, AssetConfigLoader
from fairseq2.models import ModelFamily
from fairseq2.runtime.dependency import get_dependency_resolver
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import Module

from tests.fakes import (
    LID,
    SMALL,
    arch_config,
    loss_of,
    make_batch,
    make_waveforms,
    merge,
    tiny_model,
)
from wavellama import Wav2Vec2LlamaBeamSearchConfig, Wav2Vec2LlamaModel, generate
from wavellama.checkpoints.family import CardConfigLoader
from wavellama.tasks.adapters import adapt

MAKE = """
import sys
import wavellama
import torch
from fairseq2.models.wav2vec2.asr import get_wav2vec2_asr_model_hub
from safetensors.torch import save_file

hub = get_wav2vec2_asr_model_hub()
model = hub.create_new_model(hub.get_arch_config("300m"), meta=True)
generator = torch.Generator().manual_seed(1)
weights = {
    name: torch.empty(weight.shape).uniform_(-0.1, 0.1, generator=generator)
    for name, weight in model.state_dict().items()
}
folder = sys.argv[1]
save_file(weights, f"{folder}/large.safetensors")
torch.save({"model": weights}, f"{folder}/large.pt")
"""

LOAD = """
import json, sys
import wavellama.errors
import torch
from fairseq2.models import load_model
from fairseq2.runtime.dependency import get_dependency_resolver
from fairseq2.models import ModelFamily

def peak():
    # Not getrusage: its maximum starts from that of the process that started this one.
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

get_dependency_resolver().resolve(ModelFamily, key="wav2vec2_asr")
before = peak()
try:
    model = load_model(sys.argv[1], device=torch.device("cpu"), dtype=getattr(torch, sys.argv[2]))
except wavellama.errors.CheckpointError as ex:
    print(json.dumps({"grown": peak() - before, "error": str(ex)}))
    sys.exit()
after = peak()
total = sum(weight.double().sum().item() for weight in model.state_dict().values())
print(json.dumps({"grown": after - before, "total": total}))
"""

SIZE = 4 * 325_494_996
"""Bytes of the weights: 300m has so many parameters (facts of the published models)."""


def _run(script: str, *args: str, cards: Path) -> str:
    command = [sys.executable, "-c", script, *args]
    environment = {**os.environ, "FAIRSEQ2_USER_ASSET_DIR": str(cards), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the card of one large CTC model, as a torch archive and as safetensors."""
    folder = tmp_path_factory.mktemp("large")
    for name, arch, suffix in (
        ("large_pt", "300m", "pt"),
        ("large_safetensors", "300m", "safetensors"),
        ("other_vocabulary", "300m_v2", "pt"),
    ):
        (folder / f"{name}.yaml").write_text(
            f"name: {name}\nmodel_family: wav2vec2_asr\nmodel_arch: {arch}\n"
            f"checkpoint: large.{suffix}\n"
        )
    _run(MAKE, str(folder), cards=folder)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to measure")
@pytest.mark.xdist_group("large")
def test_loading_takes_little_more_than_the_model(cards: Path) -> None:
    totals = set()
    for suffix, dtype, share in (
        ("pt", "float32", 1.15),
        ("safetensors", "float32", 1.15),
        ("pt", "bfloat16", 0.65),
    ):
        answer = json.loads(_run(LOAD, f"large_{suffix}", dtype, cards=cards))
        assert answer["grown"] < share * SIZE, f"{suffix}, {dtype}: {answer['grown'] / SIZE:.2f}"
        assert answer["grown"] > (share - 0.2) * SIZE  # what is measured is the model
        if dtype == "float32":
            totals.add(answer["total"])
    assert len(totals) == 1
    assert totals != {0.0}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to measure")
@pytest.mark.xdist_group("large")
def test_a_misfit_takes_no_memory(cards: Path) -> None:
    """The models differ in the last two of 423 parameters."""
    answer = json.loads(_run(LOAD, "other_vocabulary", "float32", cards=cards))
    assert "final_proj.weight is (9812, 1024) in the checkpoint" in answer["error"]
    assert answer["grown"] < 0.05 * SIZE


# Training

TWO_LAYERS: dict[str, Any] = {
    "wav2vec2_asr_config": {"encoder_config": {"num_encoder_layers": 2, "dropout_p": 0.2}},
    "llama_config": {"num_layers": 2, "dropout_p": 0.2},
}


def _family() -> ModelFamily:
    return get_dependency_resolver().resolve(ModelFamily, key="wav2vec2_llama")


def _lid_model(more: dict[str, Any] | None = None) -> Wav2Vec2LlamaModel:
    return tiny_model(merge(merge(SMALL, LID), more or {}), dtype=torch.float32, sharpness=4.0)


BATCH = make_batch(
    make_waveforms([3000, 5000], dtype=torch.float32), [[4, 5], [6]], ["eng_Latn", None]
)


def _train_step(model: Wav2Vec2LlamaModel) -> tuple[Tensor, list[Tensor], int]:
    """Return the loss, the gradients, and the bytes that autograd kept in between."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    torch.manual_seed(1)
    adapt(model).start_step(1, rank=0)
    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of(model, BATCH)
    torch.autograd.backward(loss)
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    assert len(gradients) == len(list(model.parameters()))
    return loss.detach(), gradients, sum(kept.values())


def _assert_same_step(
    actual: tuple[Tensor, list[Tensor], int], expected: tuple[Tensor, list[Tensor], int]
) -> None:
    torch.testing.assert_close(actual[0], expected[0])
    for ours, theirs in zip(actual[1], expected[1], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def _count_calls(layer: Module, calls: list[Module]) -> None:
    layer.register_forward_pre_hook(lambda module, inputs: calls.append(module))


@pytest.mark.parametrize(("every_nth_layer", "times"), [(1, [2, 2]), (2, [2, 1])])
def test_activation_checkpointing_recomputes_layers_to_the_same_gradients(
    every_nth_layer: int, times: list[int]
) -> None:
    """Dropout draws the same numbers again."""
    model = _lid_model(TWO_LAYERS).train()
    expected, names = _train_step(model), list(model.state_dict())
    layers = [*model.encoder.layers, *model.llama_decoder.layers]
    calls: list[Module] = []
    for layer in layers:
        _count_calls(layer, calls)
    _family().apply_layerwise_ac(model, every_nth_layer)
    actual = _train_step(model)
    _assert_same_step(actual, expected)
    assert [calls.count(layer) for layer in layers] == times * 2
    assert actual[2] < expected[2], "what is recomputed is not kept"
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_the_compiled_decoder_computes_the_same(backend: str) -> None:
    """Forwards and backwards; ``inductor`` is the default of fairseq2 and needs a C++ compiler."""
    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    model, search = _lid_model(), Wav2Vec2LlamaBeamSearchConfig(nbest=2, max_new_tokens=4)
    expected, texts, names = (
        _train_step(model),
        generate(model, BATCH, search),
        set(model.state_dict()),
    )
    compiled = CompileCounterWithBackend(backend)
    assert _family().supports_compilation
    _family().compile(model, fullgraph=False, dynamic=None, backend=compiled)
    _assert_same_step(_train_step(model), expected)
    assert compiled.frame_count > 0
    assert compiled.op_count > 0
    assert set(model.state_dict()) == names
    again = generate(model, BATCH, search)
    assert [[h.tokens for h in row] for row in again] == [[h.tokens for h in row] for row in texts]


# Paths in the model configuration of a card


def _languages(card: AssetCard) -> object:
    loader = CardConfigLoader(get_dependency_resolver().resolve(AssetConfigLoader))
    config = loader.load(card, arch_config("tiny", LID), "model_config")
    return getattr(config, "languages")  # noqa: B009  typed as an object


def _card(folder: Path, languages: object, base: AssetCard | None = None) -> AssetCard:
    config = {"languages": languages, "encoder_stacking": 1}
    return AssetCard("mine", {"model_config": config, "__base_path__": folder}, base)


def test_a_path_starts_at_the_folder_of_the_card_that_has_it(tmp_path: Path) -> None:
    for name in ("base", "leaf"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.txt").write_text(f"ita_Latn\nx-{name}\n")
    base = _card(tmp_path / "base", "own.txt")
    assert _languages(base) == ["ita_Latn", "x-base"]
    assert _languages(_card(tmp_path / "leaf", "own.txt", base)) == ["ita_Latn", "x-leaf"]
    leaf = AssetCard("leaf", {"__base_path__": tmp_path / "leaf"}, base)
    assert _languages(leaf) == ["ita_Latn", "x-base"]
    assert _languages(_card(tmp_path, "../" + tmp_path.name + "/leaf/own.txt")) == [
        *("ita_Latn", "x-leaf")
    ]


def test_absolute_paths_and_lists_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("ita_Latn")
    assert _languages(_card(Path("/nowhere"), str(tmp_path / "own.txt"))) == ["ita_Latn"]
    assert _languages(_card(tmp_path, ["deu_Latn"])) == ["deu_Latn"]
    assert _languages(_card(tmp_path, None)) is None
    in_memory = AssetCard("mine", {"model_config": {"languages": ["deu_Latn"]}})
    assert _languages(in_memory) == ["deu_Latn"]
