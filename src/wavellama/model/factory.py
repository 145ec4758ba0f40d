"""Builds the network from its configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeGuard, cast, final

import torch
from fairseq2.data.tokenizers import VocabularyInfo
from fairseq2.models.conformer import ConformerConvolution
from fairseq2.models.feature_extractor import SequenceFeatureExtractor
from fairseq2.models.llama import LLaMAConfig, LLaMAFactory
from fairseq2.models.transformer import (
    CausalAttentionBias,
    create_default_sdpa,
)
from fairseq2.models.transformer_lm import (
    TransformerLMDecoder,
)
from fairseq2.models.wav2vec2 import (
    Wav2Vec2EncoderConfig,
    Wav2Vec2EncoderFactory,
    Wav2Vec2Frontend,
    Wav2Vec2Masker,
)
from fairseq2.nn import Linear, SinusoidalPositionEncoder, StandardEmbedding
from fairseq2.utils.validation import StandardObjectValidator
from torch.nn import Dropout, Identity
from torch.nn.init import trunc_normal_
from typing_extensions import override

from wavellama.errors import ConfigError
from wavellama.model.config import Wav2Vec2LlamaConfig
from wavellama.model.ctc_head import LanguageCtcHead
from wavellama.model.encoder_config import EncoderConfig
from wavellama.model.language_head import LanguageHead
from wavellama.model.masking import create_standard_masker, standard_masker_config
from wavellama.model.mel import FilterBankExtractor, LogMelExtractor
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.text_encoder import card_encoder


def create_wav2vec2_llama_model(config: Wav2Vec2LlamaConfig) -> Wav2Vec2LlamaModel:
    """Create a model; weights are random, or absent on the meta device.

    :raises ValidationError: the configuration contradicts itself.
    """
    StandardObjectValidator().validate(config)
    return Wav2Vec2LlamaFactory(config).create_model()


class Wav2Vec2LlamaFactory:
    """Creates the parts of a model; each can be overridden."""

    def __init__(self, config: Wav2Vec2LlamaConfig) -> None:
        self._config = config
        self._encoder_factory = EncoderFactory(config.wav2vec2_asr_config.encoder_config)
        self._decoder_factory = DecoderFactory(config.llama_config)

    def create_model(self) -> Wav2Vec2LlamaModel:
        """Create the whole model."""
        config, tokenizer = self._config, self._config.streaming_config.text_tokenizer
        return Wav2Vec2LlamaModel(
            config.model_type,
            config.llama_config.model_dim,
            self._encoder_factory.create_encoder_frontend(),
            self._encoder_factory.create_encoder(),
            self.create_encoder_proj(),
            self.create_text_frontend(),
            self._decoder_factory.create_decoder(),
            self.create_final_proj(),
            VocabularyInfo(
                *(config.target_vocab_size, config.unk_idx),
                *(config.bos_idx, config.eos_idx, config.pad_idx),
            ),
            masker=self.create_masker(),
            max_generation_length=config.llama_config.max_seq_len,
            encoder_stacking=config.encoder_stacking,
            lang_embeddings_p=config.lang_embeddings_p,
            language_column_name=config.language_column_name,
            lang_embeddings=self.create_lang_embeddings(),
            lang_mapping=config.language_table,
            context_text_only=config.context_text_only,
            beam_search_config=config.beam_search_config,
            streaming_config=config.streaming_config,
            text_encoder=card_encoder(tokenizer) if tokenizer else None,
            n_context_examples=config.n_context_examples,
            zero_shot_swapped_bos_eos=config.zero_shot_swapped_bos_eos,
            special_token_base=config.special_token_base,
            ctc_head=self.create_ctc_head(),
            language_head=self.create_language_head(),
            syntax=config.find_syntax(),
        )

    def create_encoder_proj(self) -> Linear:
        """Create the projection of stacked encoder frames into the decoder's space."""
        config = self._config
        return Linear(
            config.wav2vec2_asr_config.encoder_config.model_dim * config.encoder_stacking,
            config.llama_config.model_dim,
            bias=True,
        )

    def create_text_frontend(self) -> StandardEmbedding:
        """Create the embedding of target and special tokens."""
        config = self._config
        return StandardEmbedding(
            config.target_vocab_size + config.n_special_tokens,
            config.llama_config.model_dim,
            config.pad_idx,
            init_fn=_init_embedding,
        )

    def create_lang_embeddings(self) -> StandardEmbedding | None:
        """Create the embedding of languages, where the syntax reads one."""
        table = self._config.language_table
        if not table:
            return None
        return StandardEmbedding(
            len(table) + 1, self._config.llama_config.model_dim, init_fn=_init_embedding
        )

    def create_final_proj(self) -> Linear:
        """Create the projection from decoder outputs to logits."""
        config = self._config
        return Linear(
            config.llama_config.model_dim,
            config.target_vocab_size,
            bias=False,
            init_fn=_init_projection,
        )

    def create_ctc_head(self) -> Linear | LanguageCtcHead | None:
        """Create the CTC output, where the configuration asks for one."""
        config, width = self._config, self._config.wav2vec2_asr_config.encoder_config.model_dim
        if not config.ctc_head:
            return None
        if config.ctc_head_layers == 0:
            return Linear(width, config.target_vocab_size, bias=True)
        num_languages = len(config.language_table or ()) + 1
        return LanguageCtcHead(
            width, num_languages, config.target_vocab_size, config.ctc_head_layers
        )

    def create_language_head(self) -> LanguageHead | None:
        """Create the output that hears the language, where the configuration asks for one.

        Nothing here trains it.

        :raises ConfigError: the model knows no languages, or the encoder has fewer layers.
        """
        table, depth = self._config.language_table, self._config.language_head_layer
        encoder = self._config.wav2vec2_asr_config.encoder_config
        if not depth:
            return None
        if not table or not 0 < depth <= encoder.num_encoder_layers:
            raise ConfigError(
                f"`language_head_layer` is {depth}; it needs a model that takes a language, and"
                f" at most the layers of its encoder ({encoder.num_encoder_layers})."
            )
        return LanguageHead(encoder.model_dim, len(table), depth).requires_grad_(False)

    def create_masker(self) -> Wav2Vec2Masker | None:
        """Create the feature masker, where the configuration asks for one."""
        config = self._config.wav2vec2_asr_config
        if not config.use_masking:
            return None
        return create_standard_masker(
            config.encoder_config.model_dim, standard_masker_config(config)
        )


@final
class EncoderFactory(Wav2Vec2EncoderFactory):
    """fairseq2's encoder, with Whisper's front end and positions where they are asked for.

    Two things that would let rows influence each other differ: filter banks are computed from the
    waveform inside the model, and conformer convolutions use layer norm instead of batch norm.
    """

    def __init__(self, config: Wav2Vec2EncoderConfig) -> None:
        super().__init__(config)
        self._encoder_config = config

    @override
    def create_encoder_frontend(self) -> Wav2Vec2Frontend:
        config, frontend = self._encoder_config, super().create_encoder_frontend()
        if _uses_log_mel(config):
            # Whisper has none; fairseq2 always makes one, and does nothing but call it.
            frontend.post_extract_layer_norm = Identity()  # type: ignore[assignment]
        if config.pos_encoder_type == "sinusoidal":
            frontend.pos_encoder = SinusoidalPositionEncoder(config.model_dim, config.max_seq_len)
        return frontend

    @override
    def create_feature_extractor(self) -> SequenceFeatureExtractor:
        config = self._encoder_config
        if _uses_log_mel(config):
            return LogMelExtractor(
                config.num_fbank_channels, config.feature_dim, config.log_mel_gain
            )
        if config.use_fbank:
            return FilterBankExtractor(config.num_fbank_channels, config.fbank_stride)
        return super().create_feature_extractor()

    @override
    def create_conformer_conv(self) -> ConformerConvolution:
        config = self._encoder_config
        return ConformerConvolution(
            config.model_dim, config.depthwise_conv_kernel_size, norm_type="layer_norm"
        )


def _uses_log_mel(config: Wav2Vec2EncoderConfig) -> TypeGuard[EncoderConfig]:
    return isinstance(config, EncoderConfig) and config.use_log_mel


@final
class DecoderFactory(LLaMAFactory):
    """fairseq2's Llama decoder with dropout where the published models have it.

    ``dropout_p`` acts inside attention, inside the feed-forward network, and once after the final
    layer norm; the residual branches have none (facts of the published checkpoints).
    """

    def __init__(self, config: LLaMAConfig) -> None:
        super().__init__(replace(config, dropout_p=0.0))
        self._dropout_p = config.dropout_p

    @override
    def create_decoder(self) -> TransformerLMDecoder:
        decoder: Any = super().create_decoder()
        if self._dropout_p > 0.0:
            decoder.dropout = Dropout(self._dropout_p)
            for layer in decoder.layers:
                sdpa = create_default_sdpa(CausalAttentionBias(), dropout_p=self._dropout_p)
                layer.self_attn.sdpa = sdpa
                layer.ffn.inner_dropout = Dropout(self._dropout_p)
        return cast("TransformerLMDecoder", decoder)


def _init_projection(proj: Linear) -> None:
    _init_truncated_normal(proj.weight, proj.input_dim**-0.5)


def _init_embedding(embed: StandardEmbedding) -> None:
    _init_truncated_normal(embed.weight, embed.embed_dim**-0.5)


def _init_truncated_normal(weight: torch.Tensor, std: float) -> None:
    trunc_normal_(weight, 0.0, std, -3 * std, 3 * std)
