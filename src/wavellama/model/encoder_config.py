"""The configuration of the encoder: fairseq2's, and what this package adds."""

from __future__ import annotations

from dataclasses import dataclass, field

from fairseq2.models.wav2vec2 import Wav2Vec2EncoderConfig
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrConfig


@dataclass(kw_only=True)
class EncoderConfig(Wav2Vec2EncoderConfig):
    """fairseq2's configuration of an encoder, with Whisper's front end as another choice.

    Sinusoidal positions, as Whisper has them, are ``pos_encoder_type: sinusoidal``; ``max_seq_len``
    is then the largest number of frames.
    """

    use_log_mel: bool = False
    """If ``True``, log-mel windows of ``num_fbank_channels`` go through two convolutions of
    ``feature_dim`` channels, to frames of 20 ms."""

    log_mel_gain: float = 1.0
    """What waveforms, which have unit variance, are multiplied with before ``use_log_mel``."""


@dataclass(kw_only=True)
class AsrConfig(Wav2Vec2AsrConfig):
    """fairseq2's configuration of an encoder with its masking and its vocabulary."""

    encoder_config: EncoderConfig = field(
        default_factory=lambda: EncoderConfig(
            feature_grad_scale=1.0, dropout_p=0.0, attn_dropout_p=0.0, ffn_inner_dropout_p=0.1
        )
    )


def default_asr_config() -> AsrConfig:
    """Return a small, consistent configuration."""
    config = AsrConfig(target_vocab_size=32, use_masking=False)
    config.encoder_config.feature_extractor_layer_norm_convs = True
    return config
