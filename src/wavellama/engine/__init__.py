"""The Llama decoder for decoding: a fixed view of its weights, run over a shared key/value cache.

Imports torch alone, so that it can be read, tested and measured without the rest.
"""

from wavellama.engine.cache import KeyValueCache
from wavellama.engine.continuations import EngineContinuations
from wavellama.engine.decoder import Engine, Prefix
from wavellama.engine.linear import WeightForm
from wavellama.engine.session import EngineStepDecoder
from wavellama.engine.verifier import EngineVerifier
from wavellama.engine.weights import DecoderWeights, LayerWeights

__all__ = [
    "DecoderWeights",
    "Engine",
    "EngineContinuations",
    "EngineStepDecoder",
    "EngineVerifier",
    "KeyValueCache",
    "LayerWeights",
    "WeightForm",
    "Prefix",
]
