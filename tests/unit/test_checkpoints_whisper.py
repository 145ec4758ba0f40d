"""Whisper's encoders in each of the forms in which they are published."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from fairseq2.nn import BatchLayout, SinusoidalPositionEncoder
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.fakes import GOLDEN, arch_config, create_model
from wavellama.checkpoints.convert import convert_checkpoint
from wavellama.errors import CheckpointError, ConfigError
from wavellama.model.mel import LogMelExtractor
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.tasks.setup import copy_encoder

TINY: Final[dict[str, Any]] = {
    "wav2vec2_asr_config": {
        "encoder_config": {
            "model_dim": 32,
            "feature_dim": 32,
            "num_encoder_layers": 2,
            "num_encoder_attn_heads": 4,
            "ffn_inner_dim": 64,
            "log_mel_gain": 1.0,
        }
    }
}
"""Overrides of ``whisper_base``: the size of the golden model."""

Weights = dict[str, Tensor]


def tiny_whisper() -> Wav2Vec2LlamaModel:
    return create_model(arch_config("whisper_base", TINY), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def golden() -> Weights:
    return load_file(GOLDEN / "whisper" / "tiny.safetensors")


@pytest.fixture(scope="module")
def hugging_face(golden: Weights) -> Weights:
    return {name: weight for name, weight in golden.items() if name.startswith("model.")}


def test_the_encoder_hears_what_an_independent_implementation_hears(
    golden: Weights, hugging_face: Weights, tmp_path: Path
) -> None:
    """The log-mel windows and the frames are those of transformers, which padded the clip."""
    save_file(hugging_face, tmp_path / "hf.safetensors")
    convert_checkpoint(tmp_path / "hf.safetensors", tmp_path / "ours.safetensors")
    model, waveform = tiny_whisper(), golden["waveform"][None]
    copy_encoder(model, str(tmp_path / "ours.safetensors"))
    extractor = model.encoder_frontend.feature_extractor
    assert isinstance(extractor, LogMelExtractor)
    mels: list[Tensor] = []
    extractor.conv1.register_forward_pre_hook(lambda _, args: mels.append(args[0]))
    with torch.inference_mode():
        frames, layout = model.encode_audio(waveform, [waveform.size(1)])
    torch.testing.assert_close(mels[0][0], golden["mel"], atol=2e-4, rtol=0)
    torch.testing.assert_close(frames[0], golden["hidden"], atol=2e-3, rtol=0)
    assert isinstance(layout, BatchLayout)


def to_openai(weights: Weights) -> Weights:
    names = {
        "self_attn.q_proj": "attn.query",
        "self_attn.k_proj": "attn.key",
        "self_attn.v_proj": "attn.value",
        "self_attn.out_proj": "attn.out",
        "self_attn_layer_norm": "attn_ln",
        "fc1": "mlp.0",
        "fc2": "mlp.2",
        "final_layer_norm": "mlp_ln",
        "encoder.layer_norm": "encoder.ln_post",
        "encoder.embed_positions.weight": "encoder.positional_embedding",
        "layers": "blocks",
    }
    renamed: Weights = {}
    for name, weight in weights.items():
        new = name.removeprefix("model.")
        for theirs, openai in names.items():
            new = new.replace(theirs, openai)
        renamed[new] = weight
    return renamed


def to_ctranslate2(weights: Weights) -> bytes:
    """Write what CTranslate2 writes: queries, keys and values are one matrix."""
    plain = {name.removeprefix("model.encoder."): weight for name, weight in weights.items()}
    tensors: Weights = {
        "encoder/position_encodings/encodings": plain["embed_positions.weight"],
        "encoder/num_heads": torch.tensor(4, dtype=torch.int16),
        "decoder/embeddings/weight": torch.zeros(3, 2),
    }
    for name in ("conv1", "conv2"):
        tensors |= {
            f"encoder/{name}/{kind}": plain[f"{name}.{kind}"] for kind in ("weight", "bias")
        }
    norms = {"encoder/layer_norm": "layer_norm"}
    for i in range(2):
        theirs, ours = f"encoder/layer_{i}", f"layers.{i}"
        for kind in ("weight", "bias"):
            qkv = [plain.get(f"{ours}.self_attn.{x}_proj.{kind}", torch.zeros(32)) for x in "qkv"]
            tensors[f"{theirs}/self_attention/linear_0/{kind}"] = torch.cat(qkv)
            output = plain[f"{ours}.self_attn.out_proj.{kind}"]
            tensors[f"{theirs}/self_attention/linear_1/{kind}"] = output
            tensors[f"{theirs}/ffn/linear_0/{kind}"] = plain[f"{ours}.fc1.{kind}"]
            tensors[f"{theirs}/ffn/linear_1/{kind}"] = plain[f"{ours}.fc2.{kind}"]
        norms[f"{theirs}/self_attention/layer_norm"] = f"{ours}.self_attn_layer_norm"
        norms[f"{theirs}/ffn/layer_norm"] = f"{ours}.final_layer_norm"
    for theirs, ours in norms.items():
        tensors[f"{theirs}/gamma"] = plain[f"{ours}.weight"]
        tensors[f"{theirs}/beta"] = plain[f"{ours}.bias"]
    return _pack(tensors)


def _pack(tensors: Mapping[str, Tensor]) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    content = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, tensor in tensors.items():
        kind = 2 if tensor.dtype == torch.int16 else 0
        data = tensor.contiguous().numpy().tobytes()
        content += text(name) + struct.pack("<B", tensor.dim())
        content += struct.pack(f"<{tensor.dim()}I", *tensor.shape)
        content += struct.pack("<BI", kind, len(data)) + data
    return content + struct.pack("<I", 0)


def write_openai(weights: Weights, folder: Path) -> Path:
    content = {"dims": {"n_mels": 80}, "model_state_dict": to_openai(weights)}
    torch.save(content, folder / "tiny.pt")
    return folder / "tiny.pt"


def write_hugging_face(weights: Weights, folder: Path) -> Path:
    save_file({**weights, "model.decoder.x": torch.zeros(2)}, folder / "model.safetensors")
    return folder / "model.safetensors"


def write_ctranslate2(weights: Weights, folder: Path) -> Path:
    (folder / "model.bin").write_bytes(to_ctranslate2(weights))
    return folder / "model.bin"


Writer = Callable[[Weights, Path], Path]


@pytest.mark.parametrize("write", [write_openai, write_hugging_face, write_ctranslate2])
def test_every_form_gives_the_same_encoder(
    write: Writer, hugging_face: Weights, tmp_path: Path
) -> None:
    convert_checkpoint(write(hugging_face, tmp_path), tmp_path / "out.pt")
    converted = torch.load(tmp_path / "out.pt", weights_only=True)
    model = tiny_whisper()
    parts = ("encoder_frontend.", "encoder.")
    expected = {name: w for name, w in model.state_dict().items() if name.startswith(parts)}
    assert {name: w.shape for name, w in converted.items()} == {
        name: w.shape for name, w in expected.items()
    }
    query = hugging_face["model.encoder.layers.1.self_attn.q_proj.weight"]
    assert torch.equal(converted["encoder.layers.1.self_attn.q_proj.weight"], query)
    assert not converted["encoder.layers.1.self_attn.k_proj.bias"].any()
    copy_encoder(model, str(tmp_path / "out.pt"))
    assert torch.equal(model.encoder.state_dict()["layers.1.self_attn.q_proj.weight"], query)


def test_positions_that_were_trained_are_refused(hugging_face: Weights, tmp_path: Path) -> None:
    name = "model.encoder.embed_positions.weight"
    changed = {**hugging_face, name: hugging_face[name] + 0.1}
    with pytest.raises(CheckpointError, match="no sinusoids"):
        convert_checkpoint(write_hugging_face(changed, tmp_path), tmp_path / "out.pt")


def test_quantised_weights_are_refused(hugging_face: Weights, tmp_path: Path) -> None:
    name = "model.encoder.layers.0.fc1.weight"
    changed = {**hugging_face, name: torch.zeros(64, 32, dtype=torch.int8)}
    with pytest.raises(CheckpointError, match=r"encoder\.layers\.0\.fc1\.weight is quantised"):
        convert_checkpoint(write_hugging_face(changed, tmp_path), tmp_path / "out.pt")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
def test_a_file_of_ctranslate2_that_was_cut_off_is_named(
    share: float, hugging_face: Weights, tmp_path: Path
) -> None:
    path = write_ctranslate2(hugging_face, tmp_path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError, match=r"model\.bin is cut off"):
        convert_checkpoint(path, tmp_path / "out.pt")


def test_an_encoder_of_another_size_is_refused(hugging_face: Weights, tmp_path: Path) -> None:
    convert_checkpoint(write_hugging_face(hugging_face, tmp_path), tmp_path / "out.pt")
    model = create_model(arch_config("tiny"), dtype=torch.float32)
    with pytest.raises(ConfigError, match="`encoder_from`: the encoder_frontend of"):
        copy_encoder(model, str(tmp_path / "out.pt"))


def test_our_positions_are_whispers(hugging_face: Weights) -> None:
    theirs = hugging_face["model.encoder.embed_positions.weight"]
    torch.testing.assert_close(SinusoidalPositionEncoder(32, 100).freqs[1:], theirs)
