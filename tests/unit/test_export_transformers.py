"""Models in the form of Hugging Face Transformers: there and back, and what it cannot express."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq2.assets import AssetCard
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.fakes_checkpoints import new_model
from wavellama import load_model
from wavellama.checkpoints.convert import convert_checkpoint
from wavellama.checkpoints.hub import ModelSource, find_model
from wavellama.errors import CheckpointError, ConfigError
from wavellama.export.transformers import write_transformers

CODES = ["eng_Latn", "roh_Latn_surs1244", "qaa_Cyrl"]
FAMILIES = {"tiny_lid": "wav2vec2_llama", "tiny": "wav2vec2_asr"}


def make_model(
    folder: Path, arch: str, dtype: torch.dtype = torch.float32, **config: Any
) -> ModelSource:
    """Save a model with random weights, and return its source."""
    fields: dict[str, Any] = {
        "model_family": FAMILIES.get(arch, "wav2vec2_llama"),
        "model_arch": arch,
        "model_config": config,
        "tokenizer_ref": "toy_tokenizer",
        "checkpoint": str(folder / "model.safetensors"),
    }
    source = ModelSource(AssetCard("toy", fields))
    model = new_model(fields["model_family"], source.load_config())
    save_file({name: w.to(dtype) for name, w in model.state_dict().items()}, fields["checkpoint"])
    return source


def weights_of(source: ModelSource) -> dict[str, Tensor]:
    """Return the weights of a model, with the weight norm of the positions multiplied out."""
    weights = dict(source.load().state_dict())
    norm, direction = (
        weights.pop(f"encoder_frontend.pos_encoder.conv.weight_{part}") for part in "gv"
    )
    return {**weights, "positions": torch._weight_norm(direction, norm, 2)}


@pytest.mark.parametrize("arch", FAMILIES)
def test_there_and_back_weights_are_bit_equal(arch: str, tmp_path: Path) -> None:
    config: dict[str, Any] = {"languages": CODES} if arch == "tiny_lid" else {}
    source = make_model(tmp_path, arch, **config)
    write_transformers(source, tmp_path / "theirs")
    back = find_model(tmp_path / "theirs")
    before, after = weights_of(source), weights_of(back)
    assert set(before) == set(after)
    for name, weight in before.items():
        assert torch.equal(weight, after[name]), name
    write_transformers(back, tmp_path / "again")
    theirs, again = (load_file(tmp_path / f / "model.safetensors") for f in ("theirs", "again"))
    assert all(torch.equal(theirs[name], again[name]) for name in theirs)
    for file in ("config.json", "tokenizer.json", "generation_config.json"):
        contents = [json.loads((tmp_path / f / file).read_text()) for f in ("theirs", "again")]
        assert contents[0] == contents[1], file


def test_languages_come_back_with_their_rows(tmp_path: Path) -> None:
    write_transformers(make_model(tmp_path, "tiny_lid", languages=CODES), tmp_path / "own")
    assert list(find_model(tmp_path / "own").languages) == CODES
    write_transformers(make_model(tmp_path, "tiny_lid"), tmp_path / "published")
    back = find_model(tmp_path / "published").load_config()
    assert back.languages is None  # type: ignore[attr-defined]


def test_texts_are_cut_and_written_as_before(tmp_path: Path) -> None:
    source = make_model(tmp_path, "tiny")
    write_transformers(source, tmp_path / "theirs")
    ours, back = source.load_tokenizer(), find_model(tmp_path / "theirs").load_tokenizer()
    assert back.vocab_info == ours.vocab_info
    for text in ("ta ke", " fa  ti", "", "tXa"):
        tokens = ours.create_encoder()(text)
        assert torch.equal(back.create_encoder()(text), tokens), text
        assert back.create_decoder()(tokens) == ours.create_decoder()(tokens)


def test_weights_keep_their_type(tmp_path: Path) -> None:
    source = make_model(tmp_path, "tiny_lid", torch.bfloat16, languages=CODES)
    write_transformers(source, tmp_path / "theirs")
    theirs = load_file(tmp_path / "theirs" / "model.safetensors")
    assert {weight.dtype for weight in theirs.values()} == {torch.bfloat16}
    write_transformers(find_model(tmp_path / "theirs"), tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(theirs[name], again[name]) for name in theirs)


def test_marker_among_the_texts_is_the_row_that_was_read(tmp_path: Path) -> None:
    """Published models of the second version read an ordinary row as their marker."""
    source = make_model(tmp_path, "tiny_lid", languages=CODES, special_token_base=20)
    write_transformers(source, tmp_path / "theirs")
    before = source.load().state_dict()["text_frontend.weight"]
    after = find_model(tmp_path / "theirs").load().state_dict()["text_frontend.weight"]
    assert torch.equal(after[:32], before[:32])
    assert torch.equal(after[32], before[20])


def test_snapshot_in_several_files(tmp_path: Path) -> None:
    source = make_model(tmp_path, "tiny")
    write_transformers(source, tmp_path / "theirs")
    whole = tmp_path / "theirs" / "model.safetensors"
    weights, places = load_file(whole), {}
    whole.unlink()
    for i, name in enumerate(weights):
        places[name] = f"model-0000{i % 2 + 1}-of-00002.safetensors"
    for file in set(places.values()):
        part = {name: weights[name] for name, place in places.items() if place == file}
        save_file(part, tmp_path / "theirs" / file)
    index = tmp_path / "theirs" / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    expected, found = weights_of(source), weights_of(find_model(tmp_path / "theirs"))
    assert all(torch.equal(weight, found[name]) for name, weight in expected.items())
    (tmp_path / "theirs" / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"index\.json cannot be read"):
        load_model(tmp_path / "theirs")


def test_folder_becomes_a_checkpoint_of_ours(tmp_path: Path) -> None:
    source = make_model(tmp_path, "tiny")
    write_transformers(source, tmp_path / "theirs")
    convert_checkpoint(tmp_path / "theirs", tmp_path / "back.pt")
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    before = source.load().state_dict()
    assert set(back) == set(before)
    assert torch.equal(back["final_proj.weight"], before["final_proj.weight"])


@pytest.mark.parametrize(
    ("arch", "config", "reason"),
    [
        ("tiny", {}, "model_type: LLM_ASR_LID"),
        ("tiny_zero_shot", {}, "model_type: LLM_ASR_LID"),
        ("tiny_streaming", {}, "is_streaming: False"),
        ("tiny_lid", {"encoder_stacking": 2}, "encoder_stacking: 1"),
        ("tiny_lid", {"ctc_head": True}, "ctc_head: False"),
        ("transformer_4m", {}, "use_fbank: False"),
        ("conformer_6m", {}, "norm_order: PRE"),
    ],
)
def test_what_transformers_lacks_is_refused(
    arch: str, config: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    fields = {
        "model_family": "wav2vec2_llama",
        "model_arch": arch,
        "model_config": config,
        "tokenizer_ref": "toy_tokenizer",
    }
    with pytest.raises(ConfigError, match=reason):
        write_transformers(ModelSource(AssetCard("toy", fields)), tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_small_model_is_refused_by_its_front_end(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use_log_mel: False"):
        write_transformers(find_model("wavellama_small"), tmp_path / "theirs")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "wav2vec2"}, "of the kind wav2vec2"),
        ({"text_config": {"tie_word_embeddings": True}}, "tie_word_embeddings: False"),
        ({"audio_config": {"hidden_act": "relu"}}, "hidden_act: gelu"),
        ({"audio_config": {}}, "lacks 'hidden_size'"),
    ],
)
def test_what_we_lack_is_refused(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    write_transformers(make_model(tmp_path, "tiny_lid", languages=CODES), tmp_path / "theirs")
    file = tmp_path / "theirs" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ConfigError, match=reason):
        find_model(tmp_path / "theirs")


def test_tokenizer_of_another_size_is_refused(tmp_path: Path) -> None:
    source = make_model(tmp_path, "tiny", target_vocab_size=40)
    with pytest.raises(ConfigError, match="The tokenizer has 32 tokens"):
        write_transformers(source, tmp_path / "theirs")
