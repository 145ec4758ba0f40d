"""wavellama: Wav2Vec2-Llama speech recognition as a fairseq2 plugin.

Data flows one way; a module imports only from rows below its own (docs/architecture.md)::

    cli
    tasks | extension | corpora
    pipeline
    decoding | alignment
    checkpoints
    model | search | engine | metrics
    data | prompt
    audio | text | batch | transcript
    units | files | libsndfile | plugins | yaml_files | fairseq2_private
    errors
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from wavellama.libsndfile import ensure_libsndfile

ensure_libsndfile()  # before anything below can import fairseq2

__version__ = "0.1.0"

if TYPE_CHECKING:
    from wavellama.alignment.aligner import align
    from wavellama.checkpoints.hub import get_wav2vec2_llama_model_hub, load_model
    from wavellama.decoding.generate import generate
    from wavellama.errors import AudioError, TranscriptionError, WavellamaError
    from wavellama.model.config import (
        Wav2Vec2LlamaBeamSearchConfig,
        Wav2Vec2LlamaConfig,
        Wav2Vec2LlamaStreamingConfig,
    )
    from wavellama.model.model import Wav2Vec2LlamaModel
    from wavellama.pipeline.inference import ASRInferencePipeline
    from wavellama.pipeline.inputs import ContextExample
    from wavellama.pipeline.options import TranscribeOptions
    from wavellama.prompt.syntaxes import ModelType
    from wavellama.search.types import Hypothesis
    from wavellama.transcript.types import Segment, Transcript, Word
    from wavellama.transcript.writers import Format, WriterOptions

_PUBLIC = {
    "ASRInferencePipeline": "wavellama.pipeline.inference",
    "AudioError": "wavellama.errors",
    "ContextExample": "wavellama.pipeline.inputs",
    "Format": "wavellama.transcript.writers",
    "Hypothesis": "wavellama.search.types",
    "ModelType": "wavellama.prompt.syntaxes",
    "Segment": "wavellama.transcript.types",
    "TranscribeOptions": "wavellama.pipeline.options",
    "Transcript": "wavellama.transcript.types",
    "TranscriptionError": "wavellama.errors",
    "Wav2Vec2LlamaBeamSearchConfig": "wavellama.model.config",
    "Wav2Vec2LlamaConfig": "wavellama.model.config",
    "Wav2Vec2LlamaModel": "wavellama.model.model",
    "Wav2Vec2LlamaStreamingConfig": "wavellama.model.config",
    "WavellamaError": "wavellama.errors",
    "Word": "wavellama.transcript.types",
    "WriterOptions": "wavellama.transcript.writers",
    "align": "wavellama.alignment.aligner",
    "generate": "wavellama.decoding.generate",
    "get_wav2vec2_llama_model_hub": "wavellama.checkpoints.hub",
    "load_model": "wavellama.checkpoints.hub",
}

__all__ = [
    "ASRInferencePipeline",
    "AudioError",
    "ContextExample",
    "Format",
    "Hypothesis",
    "ModelType",
    "Segment",
    "TranscribeOptions",
    "Transcript",
    "TranscriptionError",
    "Wav2Vec2LlamaBeamSearchConfig",
    "Wav2Vec2LlamaConfig",
    "Wav2Vec2LlamaModel",
    "Wav2Vec2LlamaStreamingConfig",
    "WavellamaError",
    "Word",
    "WriterOptions",
    "__version__",
    "align",
    "generate",
    "get_wav2vec2_llama_model_hub",
    "load_model",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that ``import wavellama`` stays light."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
