"""``wavellama asset convert``, and bad checkpoints of published kinds on the command line."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.forked import run_forked
from tests.e2e.runs import Runner, last_line, run_cli, write_golden_card
from tests.fakes import GOLDEN
from tests.fakes_checkpoints import ctc_config, fairseq1_ctc, new_model
from tests.pages import ROOT
from tests.unit.test_export_transformers import make_model

CASE = GOLDEN / "llm_asr_lid"
EVAL = ("recipe", "asr", "eval", "toy_eval", "--model", "my_model")


@pytest.fixture
def cards(tmp_path: Path) -> Path:
    """A folder of cards, beside which runs may write."""
    (tmp_path / "cards").mkdir()
    return tmp_path / "cards"


def test_a_converted_checkpoint_loads_by_its_card(cards: Path) -> None:
    result = run_cli("asset", "convert", CASE / "model.pt", cards / "model.safetensors")
    assert result.returncode == 0, result.stderr
    shapes = json.loads((CASE / "case.json").read_text())["state_dict_shapes"]
    file = cards / "model.safetensors"
    digest = sha256(file.read_bytes()).hexdigest()
    assert result.stdout == f"{file}: {len(shapes)} tensors.\ncheckpoint_sha256: {digest}\n"
    converted = load_file(cards / "model.safetensors")
    assert {name: list(weight.shape) for name, weight in converted.items()} == shapes
    write_golden_card(cards, "my_model", "model.safetensors")
    environment = {"FAIRSEQ2_USER_ASSET_DIR": str(cards)}
    result = run_forked(*EVAL, "--output-dir", cards.parent / "out", env=environment)
    assert result.returncode == 0, result.stderr


def test_a_model_for_transformers_comes_back_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "cards").mkdir()
    source = make_model(tmp_path, "tiny")
    card = {"name": "toy_model", **source.card.metadata}
    (tmp_path / "cards" / "toy_model.yaml").write_text(json.dumps(card))
    environment = {"FAIRSEQ2_USER_ASSET_DIR": str(tmp_path / "cards")}
    to = ("--to", "transformers", "--out", tmp_path / "hub")
    result = run_cli("asset", "convert", "toy_model", *to, env=environment)
    assert result.returncode == 0, result.stderr
    digest = sha256((tmp_path / "hub" / "model.safetensors").read_bytes()).hexdigest()
    assert f"{digest}  {tmp_path / 'hub' / 'model.safetensors'}\n" in result.stdout
    audio = (ROOT / "assets/corpora/mini").rglob("*.ogg").__next__()
    texts = [
        run_forked("transcribe", audio, "--model", name, env=environment).stdout
        for name in ("toy_model", str(tmp_path / "hub"))
    ]
    assert texts[0] == texts[1]
    assert texts[0].strip()


@pytest.mark.parametrize(
    ("run", "source", "target", "code", "words"),
    [
        (run_forked, "missing.pt", "b.safetensors", 1, "missing.pt is not found."),
        (run_cli, "cut.pt", "b.safetensors", 1, "cut.pt cannot be read: it is cut off or damaged"),
        (run_cli, "cut.pt", "--int8", 2, "Say once where to write: OUT, or --out OUT."),
        (run_cli, "cut.pt", "b.onnx", 2, "b.onnx must end in .pt or .safetensors"),
    ],
)
def test_what_cannot_be_converted(
    run: Runner, source: str, target: str, code: int, words: str, tmp_path: Path
) -> None:
    (tmp_path / "cut.pt").write_bytes((CASE / "model.pt").read_bytes()[:-1000])
    result = run("asset", "convert", source, target, cwd=tmp_path)
    assert result.returncode == code
    assert last_line(result).startswith(f"error: {words}")
    assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["cut.pt"]


def test_a_checkpoint_of_another_kind_is_named(cards: Path) -> None:
    weights = new_model("wav2vec2_asr", ctc_config()).state_dict()
    torch.save({"model": fairseq1_ctc(weights)}, cards / "ctc.pt")
    write_golden_card(cards, "my_model", "ctc.pt")
    environment = {"FAIRSEQ2_USER_ASSET_DIR": str(cards)}
    result = run_cli(*EVAL, "--output-dir", cards.parent / "out", env=environment)
    assert result.returncode == 1, result.stderr
    message = last_line(result)
    assert message.startswith(f"error: {cards / 'ctc.pt'} does not fit a wav2vec2_llama model")
    assert "and holds a CTC model of fairseq1 (wav2vec2_asr): encoder_frontend." in message
    assert "Traceback" not in result.stderr
