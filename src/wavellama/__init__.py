"""wavellama: Wav2Vec2-Llama speech recognition as a fairseq2 plugin.

Data flows one way; a module imports only from rows below its own (docs/architecture.md)::

    cli
    tasks | extension
    pipeline
    decoding
    model | search | metrics
    data | prompt
    audio | text | batch
    units | errors | native
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from wavellama.native import ensure_libsndfile

ensure_libsndfile()  # before anything below can import fairseq2

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fairseq2.models import load_model as load_model

    from wavellama.decoding.generate import generate as generate
    from wavellama.model.config import Wav2Vec2LlamaBeamSearchConfig as Wav2Vec2LlamaBeamSearchConfig
    from wavellama.model.config import Wav2Vec2LlamaConfig as Wav2Vec2LlamaConfig
    from wavellama.model.config import Wav2Vec2LlamaStreamingConfig as Wav2Vec2LlamaStreamingConfig
    from wavellama.model.hub import get_wav2vec2_llama_model_hub as get_wav2vec2_llama_model_hub
    from wavellama.model.model import Wav2Vec2LlamaModel as Wav2Vec2LlamaModel
    from wavellama.pipeline.inference import ASRInferencePipeline as ASRInferencePipeline
    from wavellama.prompt.syntaxes import ModelType as ModelType
    from wavellama.search.types import Hypothesis as Hypothesis

_PUBLIC = {
    "ASRInferencePipeline": "wavellama.pipeline.inference",
    "Hypothesis": "wavellama.search.types",
    "ModelType": "wavellama.prompt.syntaxes",
    "Wav2Vec2LlamaBeamSearchConfig": "wavellama.model.config",
    "Wav2Vec2LlamaConfig": "wavellama.model.config",
    "Wav2Vec2LlamaModel": "wavellama.model.model",
    "Wav2Vec2LlamaStreamingConfig": "wavellama.model.config",
    "generate": "wavellama.decoding.generate",
    "get_wav2vec2_llama_model_hub": "wavellama.model.hub",
    "load_model": "fairseq2.models",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that ``import wavellama`` stays light."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
