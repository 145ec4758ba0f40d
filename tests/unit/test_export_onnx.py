"""Models as graphs of ONNX say what torch says, at any batch size and length."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from fairseq2.nn import BatchLayout
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.fakes_checkpoints import new_model
from tests.pages import ROOT
from tests.unit.test_export_transformers import CODES, make_model
from wavellama import Wav2Vec2LlamaModel, generate
from wavellama.batch import AsrBatch
from wavellama.checkpoints.hub import ModelSource, find_model
from wavellama.errors import ConfigError
from wavellama.export.forms import ExportSettings, write_form
from wavellama.export.graphs import CtcGraph, PrefillGraph
from wavellama.export.onnx import write_onnx, write_sherpa
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig

LENGTHS = [(1, 900), (3, 4321), (2, 16000)]


def say(file: Path, **inputs: Any) -> list[Any]:
    """Return what a graph says."""
    session = onnxruntime.InferenceSession(file)
    known = {node.name for node in session.get_inputs()}
    return list(session.run(None, {k: np.asarray(v) for k, v in inputs.items() if k in known}))


def ctc_logits(model: Any, audio: Tensor) -> Any:
    with torch.no_grad():
        return model(audio, BatchLayout.of(audio))[0].numpy()


@pytest.fixture(scope="module")
def ctc(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelSource, Path]:
    folder = tmp_path_factory.mktemp("ctc")
    source = make_model(folder, "tiny")
    write_sherpa(source, folder / "sherpa")
    return source, folder / "sherpa"


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelSource, Path]:
    folder = tmp_path_factory.mktemp("llm")
    source = make_model(folder, "tiny_lid", languages=CODES, encoder_stacking=2)
    weights = load_file(folder / "model.safetensors")
    weights["final_proj.weight"][:5] = 0.0  # else texts are spaces, or end at once
    save_file(weights, folder / "model.safetensors")
    write_onnx(source, folder / "onnx")
    return source, folder / "onnx"


def test_ctc_logits_are_those_of_torch(ctc: tuple[ModelSource, Path]) -> None:
    model = ctc[0].load().eval()
    for shape in LENGTHS:
        audio = torch.randn(shape)
        (logits,) = say(ctc[1] / "model.onnx", audio=audio)
        assert np.abs(logits - ctc_logits(model, audio)).max() < 1e-4


def test_sherpa_reads_one_input_and_all_pieces(ctc: tuple[ModelSource, Path]) -> None:
    session = onnxruntime.InferenceSession(ctc[1] / "model.onnx")
    assert [node.name for node in session.get_inputs()] == ["audio"]
    assert [node.name for node in session.get_outputs()] == ["logits"]
    assert session.get_outputs()[0].shape[-1] == 32
    assert session.get_modelmeta().custom_metadata_map["model_type"] == "omnilingual-asr"
    lines = (ctc[1] / "tokens.txt").read_text("utf-8").splitlines()
    assert lines[:5] == ["<s> 0", "<pad> 1", "</s> 2", "<unk> 3", "▁ 4"]
    assert len(lines) == 32


def test_prefill_and_step_say_what_the_search_says(llm: tuple[ModelSource, Path]) -> None:
    model = llm[0].load().eval()
    assert isinstance(model, Wav2Vec2LlamaModel)
    program: Any = runpy.run_path(str(ROOT / "examples/onnx_greedy.py"))
    texts = (llm[1] / "tokens.txt").read_text("utf-8").splitlines()
    search = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=20, repetition_guard=False)
    program["transcribe"].__globals__["MOST_TOKENS"] = 20
    written = []
    for samples, row in ((4000, 0), (7777, 3), (9000, 1), (12001, 2), (6500, 0)):
        audio = torch.randn(1, samples)
        code = CODES[row - 1] if row else None
        (best,) = generate(model, AsrBatch(audio, [samples], [[]], [code]), search)
        pieces = [texts[token].rpartition(" ")[0] for token in best[0].tokens if token != 2]
        said = program["transcribe"](llm[1], audio.numpy(), row)
        assert said == "".join(pieces).replace("▁", " ").strip()
        written.append(said)
    assert any(written)


def test_rows_of_a_batch_decode_together(llm: tuple[ModelSource, Path]) -> None:
    audio = np.random.randn(3, 3000).astype(np.float32)
    together = say(llm[1] / "prefill.onnx", audio=audio, language=[1])
    tokens = together[0].argmax(-1)
    stepped = say(llm[1] / "step.onnx", token=tokens, cache=together[1])
    for row in range(3):
        alone = say(llm[1] / "prefill.onnx", audio=audio[row : row + 1], language=[1])
        assert np.abs(alone[0] - together[0][row]).max() < 1e-4
        after = say(llm[1] / "step.onnx", token=tokens[row : row + 1], cache=alone[1])
        assert np.abs(after[0] - stepped[0][row]).max() < 1e-4


def test_languages_are_listed_with_their_rows(llm: tuple[ModelSource, Path]) -> None:
    lines = (llm[1] / "languages.txt").read_text("utf-8").splitlines()
    assert lines == [f"{code} {row}" for row, code in enumerate(CODES, start=1)]


def test_eight_bits_take_less_and_say_nearly_the_same(
    ctc: tuple[ModelSource, Path], tmp_path: Path
) -> None:
    (file, _) = write_sherpa(ctc[0], tmp_path / "sherpa", int8=True)
    assert file.name == "model.int8.onnx"
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.int8.onnx", "tokens.txt"]
    assert file.read_bytes() != (ctc[1] / "model.onnx").read_bytes()
    audio = torch.randn(1, 8000)
    (logits,), (exact,) = say(file, audio=audio), say(ctc[1] / "model.onnx", audio=audio)
    assert 0 < np.abs(logits - exact).max() < 0.1 * np.abs(exact).max()


def test_log_mel_front_end_and_head_of_a_language_are_those_of_the_model() -> None:
    encoder = {"model_dim": 32, "feature_dim": 32, "ffn_inner_dim": 48, "num_encoder_layers": 1}
    config = {
        "wav2vec2_asr_config": {"target_vocab_size": 32, "encoder_config": encoder},
        "llama_config": {"model_dim": 32, "vocab_size": 32, "num_layers": 1, "ffn_inner_dim": 48},
        "languages": CODES,
        "encoder_stacking": 2,
        "ctc_head_layers": 1,
    }
    from fairseq2.assets import AssetCard

    fields = {
        "model_family": "wav2vec2_llama",
        "model_arch": "whisper_base",
        "model_config": config,
    }
    source = ModelSource(AssetCard("toy", fields))
    model = new_model("wav2vec2_llama", source.load_config()).eval()
    assert isinstance(model, Wav2Vec2LlamaModel)
    ctc, prefill = CtcGraph(model), PrefillGraph(model)
    for samples in (2500, 6401):  # an odd and an even number of frames to stack
        audio = torch.randn(1, samples)
        with torch.no_grad():
            frames, _ = model.encode_audio(audio, [samples])
            expected = model.ctc_logits(frames, None, [2])
            assert (ctc(audio, torch.tensor([2])) - expected).abs().max() < 1e-3
            prompt = model.embed_prompt(AsrBatch(audio, [samples], [[]], [CODES[1]]))
            hidden = model.llama_decoder(prompt.seqs, BatchLayout.of(prompt.seqs))
            logits, cache = prefill(audio, torch.tensor([2]))
            assert (logits - model.final_proj(hidden[:, -1])).abs().max() < 1e-3
            assert cache.shape[3] == prompt.seqs.shape[1]


@pytest.mark.parametrize(
    ("arch", "reason"),
    [
        ("tiny_streaming", "Prompts of audio, language and tokens are written"),
        ("tiny_zero_shot", "Prompts of audio, language and tokens are written"),
        ("conformer_6m", "`norm_order: PRE` are written, and this has `POST`"),
        ("transformer_4m", "`use_fbank: False` are written, and this has `True`"),
    ],
)
def test_what_cannot_be_written_is_refused(arch: str, reason: str, tmp_path: Path) -> None:
    config: dict[str, Any] = {}
    if not arch.startswith("tiny"):
        config = {
            "wav2vec2_asr_config": {"target_vocab_size": 32},
            "llama_config": {"vocab_size": 32},
        }
    source = make_model(tmp_path, arch, **config)
    with pytest.raises(ConfigError, match=reason):
        write_onnx(source, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_sherpa_needs_a_ctc_part_and_no_language_where_none_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no CTC head"):
        write_sherpa(make_model(tmp_path, "tiny_lid", languages=CODES), tmp_path / "sherpa")
    with pytest.raises(ConfigError, match="reads no language"):
        write_sherpa(make_model(tmp_path, "tiny"), tmp_path / "sherpa", "eng_Latn")
    for form, setting in (("transformers", {"int8": True}), ("onnx", {"language": "eng_Latn"})):
        settings = ExportSettings(**setting)
        with pytest.raises(ConfigError, match=f"--{next(iter(setting))} means nothing with"):
            write_form(form, find_model("wavellama_small"), tmp_path / "out", settings)


def test_published_form_has_the_names_of_fairseq2_under_model(tmp_path: Path) -> None:
    source = make_model(tmp_path, "tiny")
    ((file, digest),) = write_form("published", source, tmp_path / "a.pt", ExportSettings())
    assert len(digest) == 64
    content = torch.load(file, weights_only=True)
    assert list(content) == ["model"]
    before = source.load().state_dict()
    assert set(content["model"]) == set(before)
    assert all(torch.equal(weight, before[name]) for name, weight in content["model"].items())
