"""fairseq2's hub of this model family."""

from __future__ import annotations

from fairseq2.models import ModelHubAccessor

from wavellama.model.config import WAV2VEC2_LLAMA_FAMILY, Wav2Vec2LlamaConfig
from wavellama.model.model import Wav2Vec2LlamaModel

get_wav2vec2_llama_model_hub = ModelHubAccessor(
    WAV2VEC2_LLAMA_FAMILY, Wav2Vec2LlamaModel, Wav2Vec2LlamaConfig
)
