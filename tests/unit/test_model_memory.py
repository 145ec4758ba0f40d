"""The memory that loading takes: that of the model, and a small part of the file's size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
