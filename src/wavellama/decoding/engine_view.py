"""A model's decoder as the engine's weights, built once for as long as they stay what they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

import torch
from fairseq2.models.transformer import (
    CausalAttentionBias,
    GLUFeedForwardNetwork,
    StandardMultiheadAttention,
    TransformerNormOrder,
)
from fairseq2.models.transformer.sdpa.torch import TorchSDPA
from fairseq2.models.transformer_lm import (
    StandardTransformerLMDecoder,
    StandardTransformerLMDecoderLayer,
)
from fairseq2.nn import (
    AdditiveResidualConnect,
    ColumnShardedLinear,
    Linear,
    RMSNorm,
    RotaryEncoder,
    RowShardedLinear,
    StandardEmbedding,
)
from torch import Tensor
from torch.nn import Dropout, Module, ModuleList, SiLU

from wavellama.engine import DecoderWeights, Engine, LayerWeights, WeightForm
from wavellama.engine.torch_private import count_writes, has_forward_hooks
from wavellama.errors import ConfigError
from wavellama.fairseq2_private import has_attention_hooks
from wavellama.model.model import Wav2Vec2LlamaModel

_MODULES: Final = {
    AdditiveResidualConnect,
    ColumnShardedLinear,
    Dropout,
    GLUFeedForwardNetwork,
    ModuleList,
    RMSNorm,
    RotaryEncoder,
    RowShardedLinear,
    SiLU,
    StandardMultiheadAttention,
    StandardTransformerLMDecoder,
    StandardTransformerLMDecoderLayer,
    TorchSDPA,
}
"""What a plain Llama decoder is made of; sharding and adapters bring classes of their own."""

_PARAMETERS: Final = {
    "attention_norm": "self_attn_layer_norm.weight",
    "query": "self_attn.q_proj.weight",
    "key": "self_attn.k_proj.weight",
    "value": "self_attn.v_proj.weight",
    "attention_output": "self_attn.output_proj.weight",
    "ffn_norm": "ffn_layer_norm.weight",
    "gate": "ffn.gate_proj.weight",
    "up": "ffn.inner_proj.weight",
    "down": "ffn.output_proj.weight",
}
"""The engine's names of a layer's weights, and the model's."""

_SAMPLE_SIZE: Final = 16
"""Values per matrix, compared from call to call, which takes below 1 ms at 1.2 billion weights."""

_engines: Final[WeakKeyDictionary[Module, dict[WeightForm, tuple[object, Engine]]]] = (
    WeakKeyDictionary()
)


def find_engine(model: Wav2Vec2LlamaModel, form: WeightForm = "native") -> Engine | None:
    """Return an engine with the model's current weights, or None if its decoder is not a plain
    Llama decoder in one piece and has to be run by its modules.

    One engine of each form is kept until a weight is changed or moved.

    :raises ConfigError: the form is not possible with this model or device.
    """
    if not _is_plain_llama(model):
        _check_form_of_modules(form)
        return None
    own = model.text_frontend.weight, model.final_proj.weight
    weights = [*model.llama_decoder.parameters(), *own]
    state = (_sample(weights), *map(_version, weights))
    known = _engines.setdefault(model, {})
    for other in [other for other, (old, _) in known.items() if old != state]:
        del known[other]  # before a new one takes memory
    if form not in known:
        try:
            known[form] = state, Engine(read_weights(model), form)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    return known[form][1]


def _check_form_of_modules(form: WeightForm) -> None:
    if form != "native":
        raise ConfigError(
            f"The search's `weights` are {form}, but the decoder of this model is not a plain"
            " Llama decoder without hooks; remove hooks, or set them to native."
        )


def _is_plain_llama(model: Wav2Vec2LlamaModel) -> bool:
    """Return whether the model's decoder computes what the engine computes, and nothing else."""
    decoder = model.llama_decoder
    if any(type(module) not in _MODULES for module in decoder.modules()):
        return False
    modules = (*decoder.modules(), model.text_frontend, model.final_proj)
    if any(has_forward_hooks(one) or has_attention_hooks(one) for one in modules):
        return False
    layers = list(cast("Any", decoder).layers)
    expected = {f"layers.{i}.{name}" for i in range(len(layers)) for name in _PARAMETERS.values()}
    return (
        {name for name, _ in decoder.named_parameters()} == {*expected, "layer_norm.weight"}
        and all(_is_standard(layer) for layer in layers)
        and type(model.text_frontend) is StandardEmbedding
        and type(model.final_proj) is Linear
        and model.final_proj.bias is None
    )


def _is_standard(layer: StandardTransformerLMDecoderLayer) -> bool:
    attention = cast("StandardMultiheadAttention", layer.self_attn)
    sdpa, network = cast("TorchSDPA", attention.sdpa), cast("GLUFeedForwardNetwork", layer.ffn)
    bias = sdpa.bias
    return (
        layer.norm_order == TransformerNormOrder.PRE
        and attention.pos_encoder is not None
        and type(bias) is CausalAttentionBias
        and bias.attn_window_len is None
        and sdpa.scale is None
        and network.activation_sparsity == 0.0
    )


def read_weights(model: Wav2Vec2LlamaModel) -> DecoderWeights:
    """Return the weights of a plain Llama decoder, as they are in the model."""
    decoder = cast("StandardTransformerLMDecoder", model.llama_decoder)
    norm = cast("RMSNorm", decoder.layer_norm)
    attention = cast("Any", decoder.layers[0]).self_attn
    return DecoderWeights(
        embeddings=model.text_frontend.weight,
        layers=[
            LayerWeights(**{name: layer.get_parameter(key) for name, key in _PARAMETERS.items()})
            for layer in decoder.layers
        ],
        norm=cast("Tensor", norm.weight),
        output=model.final_proj.weight,
        rotations=attention.pos_encoder.freqs[1:],  # the first row is that of padding
        num_heads=attention.num_heads,
        num_key_value_heads=attention.num_key_value_heads,
        norm_eps=norm.eps,
    )


def _version(tensor: Tensor) -> tuple[object, ...]:
    """Return what changes when a tensor is written to, replaced or moved."""
    return tensor.data_ptr(), count_writes(tensor), tensor.dtype, tensor.device


def _sample(weights: Iterable[Tensor]) -> bytes:
    """Return some values of each matrix, on a CPU, where the engine works with copies.

    What is written through ``.data`` is counted nowhere. Neighbours of the sample lie in different
    rows and in different columns.
    """
    values = [w.detach().flatten() for w in weights if w.dim() == 2 and w.is_cpu]
    samples = [own[:: max(own.numel() // _SAMPLE_SIZE - 1, 1)] for own in values]
    return torch.cat(samples).view(torch.uint8).numpy().tobytes() if samples else b""
