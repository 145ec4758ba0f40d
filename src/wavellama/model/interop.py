"""From a published or trained state dict to this model's own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from wavellama.model.config import Wav2Vec2LlamaConfig

_log = logging.getLogger(__name__)


def convert_state_dict(
    state_dict: dict[str, object], config: Wav2Vec2LlamaConfig
) -> dict[str, object]:
    """Return the model's own state dict.

    A published checkpoint wraps its tensors as ``{"model": {...}}``. Parts that the configuration
    asks for and the checkpoint lacks (masker embedding, CTC head) start fresh; a masker that the
    configuration does not ask for is dropped, since it acts in training only. Either is logged.
    """
    if isinstance(state_dict.get("model"), Mapping):
        state_dict = cast("dict[str, object]", state_dict["model"])
    state_dict = dict(state_dict)
    if not config.wav2vec2_asr_config.use_masking:
        for key in [key for key in state_dict if key.startswith("masker.")]:
            _log.info("Leaving out %s: the model is configured without masking.", key)
            del state_dict[key]
    for key, tensor in _fresh_parts(config).items():
        if key not in state_dict:
            _log.warning("The checkpoint has no %s: it starts from fresh weights.", key)
            state_dict[key] = tensor
    return state_dict


def _fresh_parts(config: Wav2Vec2LlamaConfig) -> dict[str, Tensor]:
    """Return initial weights of the parts that a published checkpoint may lack."""
    asr_config = config.wav2vec2_asr_config
    model_dim = asr_config.encoder_config.model_dim
    parts: dict[str, Tensor] = {}
    if asr_config.use_masking:
        parts["masker.temporal_mask_embed"] = torch.rand(model_dim)
    if config.ctc_head:
        head = torch.nn.Linear(model_dim, config.target_vocab_size)
        parts["ctc_head.weight"] = head.weight.detach()
        parts["ctc_head.bias"] = head.bias.detach()
    return parts
