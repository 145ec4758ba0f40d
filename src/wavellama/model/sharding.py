"""How the model is sharded, checkpointed and compiled: layer by layer."""

from __future__ import annotations

from typing import Any

from fairseq2.error import NotSupportedError
from fairseq2.models.utils.ac import apply_layerwise_ac
from fairseq2.models.utils.fsdp import apply_layerwise_fsdp
from fairseq2.nn.fsdp import FSDPWrapper
from torch.nn import Module, ModuleList

from wavellama.model.model import Wav2Vec2LlamaModel


def apply_fsdp(model: Wav2Vec2LlamaModel, granularity: str, wrapper: FSDPWrapper) -> Module:
    """Shard encoder and decoder by ``layer`` or by ``stack``; fairseq2 shards the rest itself.

    :raises NotSupportedError: the granularity is another one.
    """
    if granularity == "layer":
        for layers in _layer_stacks(model):
            apply_layerwise_fsdp(layers, wrapper)
    elif granularity == "stack":
        model.register_module("encoder", wrapper(model.encoder))
        model.register_module("llama_decoder", wrapper(model.llama_decoder))
    else:
        raise NotSupportedError(f"`granularity` must be layer or stack, but is {granularity}.")
    return model


def apply_layerwise_checkpointing(model: Wav2Vec2LlamaModel, every_nth_layer: int) -> Module:
    """Recompute activations of every n-th layer of encoder and decoder in the backward pass."""
    for layers in _layer_stacks(model):
        apply_layerwise_ac(layers, every_nth_layer)
    return model


def compile_decoder(model: Wav2Vec2LlamaModel, *args: Any, **kwargs: Any) -> None:
    """Compile the decoder's layers; the encoder of fairseq2 cannot be compiled."""
    model.llama_decoder.compile_layerwise(*args, **kwargs)


def _layer_stacks(model: Wav2Vec2LlamaModel) -> list[ModuleList]:
    return [_layers(model.encoder), _layers(model.llama_decoder)]


def _layers(stack: Module) -> ModuleList:
    layers = stack.layers
    if not isinstance(layers, ModuleList):
        raise TypeError(f"`layers` of {type(stack).__name__} must be a `ModuleList`.")
    return layers
