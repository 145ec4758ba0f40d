"""Small models of each family, and their weights under the names of fairseq1."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq2.assets import AssetCard
from fairseq2.gang import create_fake_gangs
from fairseq2.models import ModelFamily
from fairseq2.models.transformer import TransformerNormOrder
from fairseq2.models.wav2vec2 import Wav2Vec2Config, Wav2Vec2EncoderConfig
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrConfig
from fairseq2.runtime import dependency
from torch import Tensor
from torch.nn import Module

CPU = torch.device("cpu")


def use_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let fairseq2 start anew, for the time of a test, with ``folder`` as its cache of assets."""
    monkeypatch.setenv("FAIRSEQ2_CACHE_DIR", str(folder))
    monkeypatch.setattr(dependency, "_resolver", None)
    return folder


def encoder_config(*, post_norm: bool = False, **changes: Any) -> Wav2Vec2EncoderConfig:
    """Return a small encoder: like ``large_lv60k``, or like ``base`` with ``post_norm``."""
    config = Wav2Vec2EncoderConfig(
        model_dim=16,
        feature_dim=8,
        feature_extractor_layer_descs=[(8, 10, 5), (8, 3, 2), (8, 2, 2)],
        layer_norm_features=post_norm,
        feature_extractor_bias=not post_norm,
        feature_extractor_layer_norm_convs=not post_norm,
        norm_order=TransformerNormOrder.POST if post_norm else TransformerNormOrder.PRE,
        pos_conv_kernel_size=4,
        num_pos_conv_groups=2,
        num_encoder_layers=2,
        num_encoder_attn_heads=2,
        ffn_inner_dim=24,
    )
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def ssl_config(*, post_norm: bool = False, **changes: Any) -> Wav2Vec2Config:
    """Return a small self-supervised encoder."""
    encoder = encoder_config(post_norm=post_norm, **changes)
    return Wav2Vec2Config(
        encoder_config=encoder, final_dim=8, quantized_dim=12, num_codebook_entries=5
    )


def ctc_config(
    *, post_norm: bool = False, use_masking: bool = False, **changes: Any
) -> Wav2Vec2AsrConfig:
    """Return a small CTC model."""
    encoder = encoder_config(post_norm=post_norm, **changes)
    return Wav2Vec2AsrConfig(
        encoder_config=encoder,
        target_vocab_size=12,
        use_masking=use_masking,
        spatial_mask_span_len=4,
    )


def family(name: str) -> ModelFamily:
    """Return a registered family."""
    return dependency.get_dependency_resolver().resolve(ModelFamily, key=name)


def new_model(name: str, config: object, seed: int = 0) -> Module:
    """Create a model of a family, all of whose weights are random."""
    model = family(name).create_new_model(
        config, create_fake_gangs(CPU), torch.float32, False, True
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.5, 0.5, generator=generator)
    return model


def load(
    name: str,
    config: object,
    checkpoint: Path | str,
    dtype: torch.dtype = torch.float32,
    **card: Any,
) -> Module:
    """Load a checkpoint by a card of its own."""
    fields = {"model_family": name, "checkpoint": str(checkpoint), **card}
    return family(name).load_model(
        AssetCard("my_model", fields), create_fake_gangs(CPU), dtype, config, False, False
    )


def save_shards(weights: dict[str, Tensor], folder: Path, count: int) -> Path:
    """Write a checkpoint as fairseq2's trainer does, cut along the first dimension."""
    parts = {name: weight.chunk(count) for name, weight in weights.items()}
    (folder / "pp_00" / "tp_00").mkdir(parents=True)
    for i in range(count):
        shard = {name: part[i].clone() for name, part in parts.items() if i < len(part)}
        torch.save(shard, folder / "pp_00" / "tp_00" / f"sdp_{i:02d}.pt")
    return folder


def write_run(folder: Path, config: str = "") -> Path:
    """Write what a run of one step leaves, but for weights."""
    (folder / "checkpoints" / "step_1" / "model").mkdir(parents=True)
    model = "name: checkpoint\nmodel_family: wav2vec2_asr\n"
    (folder / "checkpoints" / "model.yaml").write_text(model)
    (folder / "config.yaml").write_text(config)
    return folder


def fairseq1_ssl(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of a self-supervised encoder as fairseq1 names them."""
    renamed = {_fairseq1_name(name): weight for name, weight in weights.items()}
    renamed.pop("quantizer.num_updates", None)
    return renamed


def fairseq1_ctc(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of a CTC model as fairseq1 names them."""
    return {
        f"w2v_encoder.proj.{name.removeprefix('final_proj.')}"
        if name.startswith("final_proj.")
        else f"w2v_encoder.w2v_model.{_fairseq1_name(name)}": weight
        for name, weight in weights.items()
    }


_FEATURES = r"encoder_frontend\.feature_extractor\.layers"

_FAIRSEQ1 = (
    (_FEATURES + r"\.(\d)\.conv", r"feature_extractor.conv_layers.\1.0"),
    (_FEATURES + r"\.(\d)\.layer_norm", r"feature_extractor.conv_layers.\1.2.1"),
    (_FEATURES + r"\.0\.group_norm", "feature_extractor.conv_layers.0.2"),
    (r"encoder_frontend\.post_extract_layer_norm", "layer_norm"),
    (r"encoder_frontend\.model_dim_proj", "post_extract_proj"),
    (r"encoder_frontend\.pos_encoder\.conv", "encoder.pos_conv.0"),
    (r"encoder_frontend\.layer_norm", "encoder.layer_norm"),
    (r"self_attn\.output_proj", "self_attn.out_proj"),
    (r"ffn\.inner_proj", "fc1"),
    (r"ffn\.output_proj", "fc2"),
    (r"ffn_layer_norm", "final_layer_norm"),
    (r"masker\.temporal_mask_embed", "mask_emb"),
    (r"quantizer\.entries", "quantizer.vars"),
    (r"quantizer\.entry_proj", "quantizer.weight_proj"),
    (r"final_target_proj", "project_q"),
)


def _fairseq1_name(name: str) -> str:
    """Return what wav2vec2.py and transformer modules of fairseq1 call a parameter."""
    for pattern, replacement in _FAIRSEQ1:
        name = re.sub(pattern, replacement, name)
    return name
