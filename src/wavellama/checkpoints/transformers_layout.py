"""These models in Hugging Face Transformers (5.24 on), as ``omniasr`` and ``omniasr_ctc``.

One table of names and one of configuration serve both ways. What else differs: the decoder's rotary
positions pair halves of a head there and neighbours here, so rows of q and k change places; the
weight norm of the positions is multiplied out; marker, audio and languages are rows of the
decoder's table of embeddings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TypeAlias, cast

import torch
from fairseq2.models.transformer import TransformerNormOrder
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrConfig
from torch import Tensor

from wavellama.errors import CheckpointError, ConfigError
from wavellama.model.config import Wav2Vec2LlamaConfig
from wavellama.prompt.syntaxes import ModelType

Config: TypeAlias = "Wav2Vec2AsrConfig | Wav2Vec2LlamaConfig"

_TOWER: Final = "model.audio_tower."
_TEXT: Final = "model.language_model."

_NAMES: Final = {
    "encoder_frontend.feature_extractor.layers.{}.conv": _TOWER + "subsampling.conv_layers.{}.conv",
    "encoder_frontend.feature_extractor.layers.{}.layer_norm": (
        _TOWER + "subsampling.conv_layers.{}.layer_norm"
    ),
    "encoder_frontend.post_extract_layer_norm": _TOWER + "subsampling.layer_norm",
    "encoder_frontend.model_dim_proj": _TOWER + "subsampling.projection",
    "encoder_frontend.pos_encoder.conv": _TOWER + "encode_positions.conv",
    "encoder.layers.{}.self_attn_layer_norm": _TOWER + "layers.{}.layer_norm",
    "encoder.layers.{}.self_attn.q_proj": _TOWER + "layers.{}.attention.q_proj",
    "encoder.layers.{}.self_attn.k_proj": _TOWER + "layers.{}.attention.k_proj",
    "encoder.layers.{}.self_attn.v_proj": _TOWER + "layers.{}.attention.v_proj",
    "encoder.layers.{}.self_attn.output_proj": _TOWER + "layers.{}.attention.out_proj",
    "encoder.layers.{}.ffn_layer_norm": _TOWER + "layers.{}.final_layer_norm",
    "encoder.layers.{}.ffn.inner_proj": _TOWER + "layers.{}.feed_forward.intermediate_dense",
    "encoder.layers.{}.ffn.output_proj": _TOWER + "layers.{}.feed_forward.output_dense",
    "encoder.layer_norm": _TOWER + "layer_norm",
}
_LLM_NAMES: Final = {
    **_NAMES,
    "encoder_proj": "model.multi_modal_projector",
    "text_frontend": _TEXT + "embed_tokens",
    "llama_decoder.layers.{}.self_attn_layer_norm": _TEXT + "layers.{}.input_layernorm",
    "llama_decoder.layers.{}.self_attn.q_proj": _TEXT + "layers.{}.self_attn.q_proj",
    "llama_decoder.layers.{}.self_attn.k_proj": _TEXT + "layers.{}.self_attn.k_proj",
    "llama_decoder.layers.{}.self_attn.v_proj": _TEXT + "layers.{}.self_attn.v_proj",
    "llama_decoder.layers.{}.self_attn.output_proj": _TEXT + "layers.{}.self_attn.o_proj",
    "llama_decoder.layers.{}.ffn_layer_norm": _TEXT + "layers.{}.post_attention_layernorm",
    "llama_decoder.layers.{}.ffn.gate_proj": _TEXT + "layers.{}.mlp.gate_proj",
    "llama_decoder.layers.{}.ffn.inner_proj": _TEXT + "layers.{}.mlp.up_proj",
    "llama_decoder.layers.{}.ffn.output_proj": _TEXT + "layers.{}.mlp.down_proj",
    "llama_decoder.layer_norm": _TEXT + "norm",
    "final_proj": "lm_head",
}
_CTC_NAMES: Final = {**_NAMES, "final_proj": "ctc_head"}
"""Our names of modules -> theirs; ``{}`` is the number of a layer."""

_AUDIO: Final = {
    "model_dim": "hidden_size",
    "num_encoder_layers": "num_hidden_layers",
    "num_encoder_attn_heads": "num_attention_heads",
    "ffn_inner_dim": "intermediate_size",
    "pos_conv_kernel_size": "num_conv_pos_embeddings",
    "num_pos_conv_groups": "num_conv_pos_embedding_groups",
    "feature_extractor_bias": "conv_bias",
    "dropout_p": "hidden_dropout",
    "attn_dropout_p": "attention_dropout",
    "ffn_inner_dropout_p": "activation_dropout",
    "layer_drop_p": "layerdrop",
}
_DECODER: Final = {
    "model_dim": "hidden_size",
    "max_seq_len": "max_position_embeddings",
    "num_layers": "num_hidden_layers",
    "num_attn_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads",
}
"""Our keys of the configuration -> theirs."""

_CONVS: Final = ("conv_dim", "conv_kernel", "conv_stride")

_ENCODER_HAS: Final[Mapping[str, object]] = {
    "norm_order": TransformerNormOrder.PRE,
    "feature_extractor_layer_norm_convs": True,
    "layer_norm_features": False,
    "use_fbank": False,
    "use_log_mel": False,
    "use_conformer": False,
    "pos_encoder_type": "conv",
    "pos_encoder_depth": 1,
}
_MODEL_HAS: Final[Mapping[str, object]] = {
    "model_type": ModelType.LLM_ASR_LID,
    "streaming_config.is_streaming": False,
    "encoder_stacking": 1,
    "ctc_head": False,
    "syntax": None,
    "llama_config.use_scaled_rope": False,
    "llama_config.tied_embeddings": False,
    "bos_idx": 0,
    "pad_idx": 1,
    "eos_idx": 2,
    "unk_idx": 3,
}
"""What Transformers can express of our configurations."""

_THEIRS_HAVE: Final[Mapping[str, object]] = {
    "audio_config.hidden_act": "gelu",
    "audio_config.layer_norm_eps": 1e-5,
    "text_config.hidden_act": "silu",
    "text_config.rms_norm_eps": 1e-5,
    "text_config.attention_bias": False,
    "text_config.mlp_bias": False,
    "text_config.tie_word_embeddings": False,
    "text_config.rope_parameters.rope_type": "default",
    "blank_token_id": 0,
    "pad_token_id": 1,
}
"""What our models can express of theirs; a key that is not there has this value."""

NUM_RESERVED: Final = 2
"""Rows of embeddings between texts and languages: the marker before the language, and audio."""

_FOLDED: Final = "encoder_frontend.pos_encoder.conv.weight"
_EMBED: Final = "text_frontend.weight"
_LANGUAGES: Final = "lang_embeddings.weight"
_PROJECTION: Final = "final_proj.weight"


def check_expressible(config: Config) -> None:
    """Refuse, by name, what Transformers' classes do not have: a ConfigError."""
    asr = config.wav2vec2_asr_config if isinstance(config, Wav2Vec2LlamaConfig) else config
    required = {f"encoder_config.{key}": value for key, value in _ENCODER_HAS.items()}
    _check("Transformers", required, {key: _attribute(asr, key) for key in required})
    if isinstance(config, Wav2Vec2LlamaConfig):
        _check("Transformers", _MODEL_HAS, {key: _attribute(config, key) for key in _MODEL_HAS})


def to_theirs(weights: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Return a state dict of ours in Transformers' form; a masker, for training only, is dropped.

    :raises CheckpointError: there is a weight that Transformers' class does not have.
    """
    changed = {name: value for name, value in weights.items() if not name.startswith("masker.")}
    weight = torch._weight_norm(
        changed[_FOLDED + "_v"].float(), changed.pop(_FOLDED + "_g").float(), 2
    )
    changed[_FOLDED] = weight.to(changed.pop(_FOLDED + "_v").dtype)
    if not isinstance(config, Wav2Vec2LlamaConfig):
        return _rename(changed, _CTC_NAMES)
    vocab_size, embed, languages = config.target_vocab_size, changed[_EMBED], changed[_LANGUAGES]
    base = vocab_size if config.special_token_base is None else config.special_token_base
    marker, audio = embed[base : base + 1], torch.zeros_like(embed[:1])
    changed[_EMBED] = torch.cat([embed[:vocab_size], marker, audio, changed.pop(_LANGUAGES)])
    unused = embed.new_zeros(NUM_RESERVED + len(languages), embed.shape[1])
    changed[_PROJECTION] = torch.cat([changed[_PROJECTION], unused.to(changed[_PROJECTION])])
    _permute(changed, config, to_halves=True)
    return _rename(changed, _LLM_NAMES)


def from_theirs(weights: Mapping[str, object], config: Config) -> dict[str, object]:
    """Return a state dict of Transformers in our form; one of another form as it is.

    :raises CheckpointError: there is a weight that Transformers' class does not have.
    """
    if not any(name.startswith(_TOWER) for name in weights):
        return dict(weights)
    is_llm = isinstance(config, Wav2Vec2LlamaConfig)
    names = {theirs: ours for ours, theirs in (_LLM_NAMES if is_llm else _CTC_NAMES).items()}
    changed = _rename(cast("Mapping[str, Tensor]", weights), names)
    weight = changed.pop(_FOLDED)
    changed[_FOLDED + "_v"] = weight
    changed[_FOLDED + "_g"] = torch._weight_norm_interface(
        weight.float(), weight.new_ones(1, 1, weight.shape[2], dtype=torch.float32), 2
    )[1]
    if isinstance(config, Wav2Vec2LlamaConfig):
        vocab_size, embed = config.target_vocab_size, changed[_EMBED]
        changed[_EMBED] = embed[: vocab_size + 1]
        changed[_LANGUAGES] = embed[vocab_size + NUM_RESERVED :]
        changed[_PROJECTION] = changed[_PROJECTION][:vocab_size]
        _permute(changed, config, to_halves=False)
    return cast("dict[str, object]", changed)


def theirs_of(config: Config, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the content of ``config.json``.

    :param weights: in our form; the width inside the decoder's networks is theirs.
    """
    asr = config.wav2vec2_asr_config if isinstance(config, Wav2Vec2LlamaConfig) else config
    encoder = asr.encoder_config
    audio = {theirs: getattr(encoder, ours) for ours, theirs in _AUDIO.items()}
    convs = zip(*encoder.feature_extractor_layer_descs, strict=True)
    audio |= dict(zip(_CONVS, map(list, convs), strict=True)) | {"model_type": "omniasr_audio"}
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "audio_config": audio}
    if not isinstance(config, Wav2Vec2LlamaConfig):
        return {"model_type": "omniasr_ctc", "vocab_size": asr.target_vocab_size, **ids}
    size, llama = asr.target_vocab_size, config.llama_config
    text = {theirs: getattr(llama, ours) for ours, theirs in _DECODER.items()}
    text |= {
        "model_type": "llama",
        "intermediate_size": len(weights["llama_decoder.layers.0.ffn.gate_proj.weight"]),
        "vocab_size": size + NUM_RESERVED + len(config.language_table) + 1,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_theta": llama.rope_theta, "rope_type": "default"},
        "tie_word_embeddings": False,
    }
    return {"model_type": "omniasr", "audio_token_id": size + 1, "text_config": text, **ids}


def ours_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a card's ``model_config``, but for languages, from the content of ``config.json``.

    :raises ConfigError: our models do not have what it asks for.
    """
    found = {key: _item(config, key) for key in _THEIRS_HAVE}
    given = {key: value for key, value in found.items() if value is not None}
    _check("wavellama", _THEIRS_HAVE, {**_THEIRS_HAVE, **given})
    try:
        audio = config["audio_config"]
        encoder = {ours: audio[theirs] for ours, theirs in _AUDIO.items()}
        descs = [list(desc) for desc in zip(*(audio[key] for key in _CONVS), strict=True)]
        encoder |= {"feature_extractor_layer_descs": descs, "feature_dim": descs[-1][0]}
        encoder |= {"norm_order": "PRE", "feature_extractor_layer_norm_convs": True}
        encoder["layer_norm_features"] = False
        asr = {"encoder_config": encoder, "use_masking": False}
        if config["model_type"] == "omniasr_ctc":
            return {**asr, "target_vocab_size": config["vocab_size"]}
        size, text = config["audio_token_id"] - 1, config["text_config"]
        llama = {ours: text[theirs] for ours, theirs in _DECODER.items()}
        llama |= {"vocab_size": size, "ffn_inner_dim": text["intermediate_size"]}
        llama |= {"ffn_inner_dim_scale": 1.0, "ffn_inner_dim_multiple_of": 1}
        llama["rope_theta"] = _item(config, "text_config.rope_parameters.rope_theta") or 10_000.0
    except KeyError as ex:
        raise ConfigError(f"The configuration lacks {ex}.") from None
    return {
        "wav2vec2_asr_config": {**asr, "target_vocab_size": size},
        "llama_config": llama,
        "model_type": "LLM_ASR_LID",
        "n_special_tokens": 1,
        "lang_embeddings_p": 0.5,
    }


def _rename(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        module, _, part = name.rpartition(".")
        number = re.search(r"\.(\d+)\.", module)
        known = names.get(re.sub(r"\.\d+\.", ".{}.", module, count=1))
        if known is None:
            raise CheckpointError(f"{name} has no place in the other form of the model.")
        renamed[f"{known.format(*(number.groups() if number else ()))}.{part}"] = weight
    return renamed


def _permute(
    weights: MutableMapping[str, Tensor], config: Wav2Vec2LlamaConfig, *, to_halves: bool
) -> None:
    """Let pairs of rotary positions lie half a head apart, or side by side again."""
    llama = config.llama_config
    heads = {"q_proj": llama.num_attn_heads, "k_proj": llama.num_key_value_heads}
    for name in weights:
        found = re.fullmatch(r"llama_decoder\.layers\.\d+\.self_attn\.([qk]_proj)\.weight", name)
        if found is not None:
            weight, pair = weights[name], ((-1, 2) if to_halves else (2, -1))
            rows = weight.view(heads[found[1]], *pair, weight.shape[1])
            weights[name] = rows.transpose(1, 2).reshape(weight.shape)


def _check(reader: str, required: Mapping[str, object], found: Mapping[str, object]) -> None:
    for key, value in required.items():
        if found[key] != value:
            raise ConfigError(
                f"{reader} reads models with `{key}: {_text(value)}` only, and this one has"
                f" `{_text(found[key])}`."
            )


def _text(value: object) -> str:
    return str(getattr(value, "name", value))


def _attribute(config: object, key: str) -> object:
    for part in key.split("."):
        config = getattr(config, part, False)  # fairseq2's own lack what this package adds
    return config


def _item(config: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401
    found: Any = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
