"""wavellama: Wav2Vec2-Llama speech recognition as a fairseq2 plugin.

Data flows one way; docs/architecture.md has the rows from which a module may import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from wavellama.fairseq2n import ensure_fairseq2n
from wavellama.libsndfile import ensure_libsndfile

# before anything below can import fairseq2
ensure_fairseq2n()
ensure_libsndfile()

__version__ = "0.1.0"

if TYPE_CHECKING:
    from wavellama.alignment.aligner import align as align
    from wavellama.checkpoints.hub import (
        get_wav2vec2_llama_model_hub as get_wav2vec2_llama_model_hub,
    )
    from wavellama.checkpoints.hub import load_model as load_model
    from wavellama.decoding.generate import generate as generate
    from wavellama.errors import AudioError as AudioError
    from wavellama.errors import TranscriptionError as TranscriptionError
    from wavellama.errors import WavellamaError as WavellamaError
    from wavellama.model.config import Wav2Vec2LlamaConfig as Wav2Vec2LlamaConfig
    from wavellama.model.config import Wav2Vec2LlamaStreamingConfig as Wav2Vec2LlamaStreamingConfig
    from wavellama.model.model import Wav2Vec2LlamaModel as Wav2Vec2LlamaModel
    from wavellama.model.search_config import (
        Wav2Vec2LlamaBeamSearchConfig as Wav2Vec2LlamaBeamSearchConfig,
    )
    from wavellama.pipeline.inference import ASRInferencePipeline as ASRInferencePipeline
    from wavellama.pipeline.inputs import ContextExample as ContextExample
    from wavellama.pipeline.options import TranscribeOptions as TranscribeOptions
    from wavellama.prompt.syntaxes import ModelType as ModelType
    from wavellama.search.types import Hypothesis as Hypothesis
    from wavellama.transcript.types import Segment as Segment
    from wavellama.transcript.types import Transcript as Transcript
    from wavellama.transcript.types import Word as Word
    from wavellama.transcript.writers import Format as Format
    from wavellama.transcript.writers import WriterOptions as WriterOptions

_PUBLIC = {
    "wavellama.alignment.aligner": ["align"],
    "wavellama.checkpoints.hub": ["get_wav2vec2_llama_model_hub", "load_model"],
    "wavellama.decoding.generate": ["generate"],
    "wavellama.errors": ["AudioError", "TranscriptionError", "WavellamaError"],
    "wavellama.model.config": ["Wav2Vec2LlamaConfig", "Wav2Vec2LlamaStreamingConfig"],
    "wavellama.model.model": ["Wav2Vec2LlamaModel"],
    "wavellama.model.search_config": ["Wav2Vec2LlamaBeamSearchConfig"],
    "wavellama.pipeline.inference": ["ASRInferencePipeline"],
    "wavellama.pipeline.inputs": ["ContextExample"],
    "wavellama.pipeline.options": ["TranscribeOptions"],
    "wavellama.prompt.syntaxes": ["ModelType"],
    "wavellama.search.types": ["Hypothesis"],
    "wavellama.transcript.types": ["Segment", "Transcript", "Word"],
    "wavellama.transcript.writers": ["Format", "WriterOptions"],
}
"""Where the public names are, as the imports above tell type checkers."""

_MODULES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that ``import wavellama`` stays light."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
