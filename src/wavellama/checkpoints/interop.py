"""From a published, trained, fairseq1 or Transformers state dict to that of a model here.

Names change, tensors do not: every converter returns the tensors that it was given, but for the
few that a checkpoint lacks and a model needs, or that Transformers stores in another order.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Final, cast

import torch
from fairseq2.models.transformer import TransformerNormOrder
from fairseq2.models.utils.checkpoint import convert_fairseq_state_dict
from fairseq2.models.wav2vec2 import Wav2Vec2Config
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrConfig
from torch import Tensor
from torch.nn.init import trunc_normal_

from wavellama.checkpoints.transformers_layout import from_theirs
from wavellama.model.config import Wav2Vec2LlamaConfig
from wavellama.model.factory import Wav2Vec2LlamaFactory

_log = logging.getLogger(__name__)

_MASKER: Final = "masker.temporal_mask_embed"

_LANGUAGES: Final = "lang_embeddings.weight"

_FRONTEND: Final = "encoder_frontend."
_FEATURES: Final = _FRONTEND + "feature_extractor.layers."

_FAIRSEQ1_NAMES: Final = {
    r"^(encoder\.layers\.[0-9]+)\.self_attn\.out_proj\.": r"\1.self_attn.output_proj.",
    r"^(encoder\.layers\.[0-9]+)\.fc1\.": r"\1.ffn.inner_proj.",
    r"^(encoder\.layers\.[0-9]+)\.fc2\.": r"\1.ffn.output_proj.",
    r"^(encoder\.layers\.[0-9]+)\.final_layer_norm\.": r"\1.ffn_layer_norm.",
    r"^encoder\.pos_conv\.0\.(?!0)": _FRONTEND + "pos_encoder.conv.",
    r"^feature_extractor\.conv_layers\.([0-9]+)\.0\.": _FEATURES + r"\1.conv.",
    r"^feature_extractor\.conv_layers\.([0-9]+)\.2\.1\.": _FEATURES + r"\1.layer_norm.",
    r"^feature_extractor\.conv_layers\.0\.2\.": _FEATURES + "0.group_norm.",
    r"^layer_norm\.": _FRONTEND + "post_extract_layer_norm.",
    r"^post_extract_proj\.": _FRONTEND + "model_dim_proj.",
    r"^mask_emb$": _MASKER,
    r"^quantizer\.vars$": "quantizer.entries",
    r"^quantizer\.weight_proj\.": "quantizer.entry_proj.",
    r"^project_q\.": "final_target_proj.",
}
"""Names of fairseq1's wav2vec 2.0 -> ours; what is not listed has the same name in both."""

_FAIRSEQ1_CTC: Final = (("w2v_encoder.w2v_model.", ""), ("w2v_encoder.proj.", "final_proj."))
"""Prefixes of a fairseq1 CTC model, which holds the self-supervised model inside."""

_KINDS: Final = (
    ("llama_decoder.", "a decoder model (wav2vec2_llama)"),
    ("w2v_encoder.", "a CTC model of fairseq1 (wav2vec2_asr)"),
    ("project_q.", "a self-supervised encoder of fairseq1 (wav2vec2)"),
    ("final_target_proj.", "a self-supervised encoder (wav2vec2)"),
    ("final_proj.", "a CTC model (wav2vec2_asr)"),
)
"""What tells the kinds of model apart: a name that the kinds below it do not have."""


def convert_state_dict(
    state_dict: dict[str, object], config: Wav2Vec2LlamaConfig
) -> dict[str, object]:
    """Return the state dict of a decoder model.

    Parts that the configuration asks for and the checkpoint lacks (masker embedding, CTC head,
    embeddings of languages that were appended) start fresh; a masker that the configuration does
    not ask for is dropped, since it acts in training only. Each is logged.
    """
    state_dict = from_theirs(unwrap_state_dict(state_dict), config)
    state_dict = _fit_masker(state_dict, config.wav2vec2_asr_config)
    _add_languages(state_dict, config)
    head = Wav2Vec2LlamaFactory(config).create_ctc_head()
    if head is not None:
        for name, weight in head.state_dict().items():
            _add_missing(state_dict, f"ctc_head.{name}", weight)
    return state_dict


def convert_ctc_state_dict(
    state_dict: dict[str, object], config: Wav2Vec2AsrConfig
) -> dict[str, object]:
    """Return the state dict of a CTC model, from the names of fairseq1, fairseq2 or Transformers.

    The masker starts fresh or is dropped as in a decoder model.
    """
    post_norm = config.encoder_config.norm_order == TransformerNormOrder.POST
    state_dict = from_theirs(unwrap_state_dict(state_dict), config)
    return _fit_masker(rename_fairseq1(state_dict, post_norm), config)


def convert_ssl_state_dict(
    state_dict: dict[str, object], config: Wav2Vec2Config
) -> dict[str, object]:
    """Return the state dict of a self-supervised encoder, from fairseq1's or fairseq2's names."""
    post_norm = config.encoder_config.norm_order == TransformerNormOrder.POST
    return rename_fairseq1(unwrap_state_dict(state_dict), post_norm)


_WRAPPERS: Final = ("model", "state_dict", "model_state_dict")


def unwrap_state_dict(state_dict: Mapping[str, object]) -> dict[str, object]:
    """Return the named tensors themselves.

    A published checkpoint has them under ``model``, Whisper under ``model_state_dict``, and those
    of other trainers under ``state_dict``. A wrapped module has ``module.`` before each name, a
    compiled one ``_orig_mod.`` where it stands.
    """
    inner = next((state_dict[key] for key in _WRAPPERS if key in state_dict), None)
    names = cast("Mapping[str, object]", inner) if isinstance(inner, Mapping) else state_dict
    return {
        str(name).replace("_orig_mod.", "").removeprefix("module."): value
        for name, value in names.items()
    }


def rename_fairseq1(
    state_dict: dict[str, object], post_norm: bool | None = None
) -> dict[str, object]:
    """Return a state dict with fairseq2's names for fairseq1's; one without any is untouched.

    :param post_norm: whether layer norm comes after the residual; None finds it out by the rule
        of all published fairseq1 models, where such models, and only they, have a group norm.
    """
    marks = r"w2v_encoder\.|feature_extractor\.conv_layers\."
    if not any(re.match(marks, name) for name in state_dict):
        return state_dict
    renamed = {_strip_ctc(name): value for name, value in state_dict.items()}
    if post_norm is None:
        post_norm = "feature_extractor.conv_layers.0.2.weight" in renamed
    if post_norm:
        # The norm before the first layer, which fairseq1 counts among the encoder's parts.
        for part in ("weight", "bias"):
            if f"encoder.layer_norm.{part}" in renamed:
                renamed[f"encoder_frontend.layer_norm.{part}"] = renamed.pop(
                    f"encoder.layer_norm.{part}"
                )
    converted = convert_fairseq_state_dict(renamed, _FAIRSEQ1_NAMES)
    if "quantizer.entries" in converted:
        converted["quantizer.num_updates"] = torch.zeros((), dtype=torch.int64)
    return converted


def describe_kind(names: Iterable[str]) -> str | None:
    """Return what kind of model has parameters of these names, or None for none known here."""
    known = list(names)
    for prefix, kind in _KINDS:
        if any(name.startswith(prefix) for name in known):
            return kind
    return None


def _strip_ctc(name: str) -> str:
    for prefix, replacement in _FAIRSEQ1_CTC:
        if name.startswith(prefix):
            return replacement + name.removeprefix(prefix)
    return name


def _fit_masker(state_dict: dict[str, object], config: Wav2Vec2AsrConfig) -> dict[str, object]:
    """Drop the masker if the model has none; give it fresh weights if only the model has one."""
    if config.use_masking:
        _add_missing(state_dict, _MASKER, torch.rand(config.encoder_config.model_dim))
        return state_dict
    for name in [name for name in state_dict if name.startswith("masker.")]:
        _log.info("Leaving out %s: the model is configured without masking.", name)
        del state_dict[name]
    return state_dict


def _add_languages(state_dict: dict[str, object], config: Wav2Vec2LlamaConfig) -> None:
    """Give languages that stand behind those of the checkpoint fresh embeddings."""
    num_rows = len(config.language_table) + 1
    known, texts = state_dict.get(_LANGUAGES), state_dict.get("text_frontend.weight")
    if not isinstance(known, Tensor) or not isinstance(texts, Tensor) or len(known) >= num_rows:
        return
    if len(texts) != config.target_vocab_size + config.n_special_tokens:
        return  # a shard, whose rows are not all, or of another model
    _log.warning(
        "The checkpoint knows %d languages, the model %d: the last ones start from fresh weights.",
        len(known) - 1,
        num_rows - 1,
    )
    std = known.shape[1] ** -0.5
    fresh = torch.empty(num_rows - len(known), known.shape[1])
    trunc_normal_(fresh, 0.0, std, -3 * std, 3 * std)
    state_dict[_LANGUAGES] = torch.cat([known, fresh.to(known)])


def _add_missing(state_dict: dict[str, object], name: str, fresh: Tensor) -> None:
    if name not in state_dict:
        _log.warning("The checkpoint has no %s: it starts from fresh weights.", name)
        state_dict[name] = fresh
