"""A model as plain functions of tensors, which exporters can trace at any batch size and length.

All rows of a batch have the same length, so nothing is masked. Shapes: N rows, T samples, F
windows, S frames, E encoder width, M decoder width, P positions in the cache, L layers, H query
heads, G key/value heads, D width of a head, V vocabulary.
"""

from __future__ import annotations

from typing import Any, Final, cast, final

import torch
from fairseq2.models.transformer import TransformerNormOrder
from fairseq2.models.wav2vec2 import Wav2Vec2EncoderConfig
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrModel
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import conv1d, gelu, pad, rms_norm, scaled_dot_product_attention, silu
from typing_extensions import override

from wavellama.decoding.engine_view import read_weights
from wavellama.engine import DecoderWeights
from wavellama.errors import ConfigError
from wavellama.model.ctc_head import LanguageCtcHead
from wavellama.model.mel import HOP, WINDOW, LogMelExtractor
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.prompt.parts import Audio, Language, Token

_ENCODER_HAS: Final = {
    "norm_order": TransformerNormOrder.PRE,
    "use_fbank": False,
    "use_conformer": False,
    "pos_encoder_depth": 1,
}
"""Encoders that can be written."""


def check_encoder(config: Wav2Vec2EncoderConfig) -> None:
    """Refuse, by name, encoders that cannot be written: a ConfigError."""
    for key, value in _ENCODER_HAS.items():
        found = getattr(config, key)
        if found != value:
            text, other = (getattr(item, "name", item) for item in (value, found))
            raise ConfigError(f"Encoders with `{key}: {text}` are written, and this has `{other}`.")


@final
class EncoderGraph(Module):
    """Waveforms of unit variance (N, T) -> frames (N, S, E)."""

    def __init__(self, model: Wav2Vec2LlamaModel | Wav2Vec2AsrModel) -> None:
        super().__init__()
        self.frontend: Any = model.encoder_frontend
        self.encoder: Any = model.encoder
        extractor = self.frontend.feature_extractor
        self.log_mel = LogMelGraph(extractor) if isinstance(extractor, LogMelExtractor) else None

    @override
    def forward(self, audio: Tensor) -> Tensor:
        if self.log_mel is not None:
            features = self.log_mel(audio)
        else:
            features = self.frontend.feature_extractor.layers(audio[:, None]).transpose(1, 2)
        features = self.frontend.post_extract_layer_norm(features)
        if self.frontend.model_dim_proj is not None:
            features = self.frontend.model_dim_proj(features)
        hidden = self._add_positions(features)
        for layer in self.encoder.layers:
            hidden = hidden + _attend_all(layer.self_attn, layer.self_attn_layer_norm(hidden))
            network = layer.ffn
            inner = gelu(network.inner_proj(layer.ffn_layer_norm(hidden)))
            hidden = hidden + network.output_proj(inner)
        return cast(Tensor, self.encoder.layer_norm(hidden))

    def _add_positions(self, features: Tensor) -> Tensor:
        positions = self.frontend.pos_encoder
        if hasattr(positions, "freqs"):
            table = cast(Tensor, positions.freqs)
            return features + table[1 : 1 + features.size(1)]  # row 0 is padding's
        encodings = positions.conv(features.transpose(1, 2))
        if positions.remove_pad:
            encodings = encodings[:, :, :-1]
        return features + gelu(encodings).transpose(1, 2)


def _attend_all(attention: Any, seqs: Tensor) -> Tensor:  # noqa: ANN401
    """Let every frame see all (N, S, E), without positions."""
    query, key, value = (
        _split(proj(seqs), attention.num_heads)
        for proj in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    seen = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    return cast(Tensor, attention.output_proj(seen))


@final
class LogMelGraph(Module):
    """Whisper's front end (N, T) -> (N, S, E); its Fourier transform is a convolution."""

    waves: Tensor

    def __init__(self, extractor: LogMelExtractor) -> None:
        super().__init__()
        self.extractor: Any = extractor
        turns = torch.outer(torch.arange(WINDOW // 2 + 1.0), torch.arange(float(WINDOW))) / WINDOW
        angles = (turns.double() % 1) * 2 * torch.pi
        waves = torch.cat([angles.cos(), angles.sin()]) * extractor.window.double()
        self.register_buffer("waves", waves.float()[:, None])  # (2 WINDOW / 2 + 2, 1, WINDOW)

    @override
    def forward(self, audio: Tensor) -> Tensor:
        around, num_windows = WINDOW // 2, audio.size(1) // HOP
        audio = audio * self.extractor.gain
        audio = torch.cat([audio[:, 1 : around + 1].flip(1), pad(audio, (0, around))], dim=1)
        real, imaginary = conv1d(audio[:, None], self.waves, stride=HOP).chunk(2, dim=1)
        power = (real.square() + imaginary.square())[:, :, :num_windows]
        log_mel = (self.extractor.mel.T @ power).clamp_min(1e-10).log10()
        loudest = log_mel.amax((1, 2), keepdim=True)
        log_mel = (torch.maximum(log_mel, loudest - 8.0) + 4.0) / 4.0
        hidden = gelu(self.extractor.conv2(gelu(self.extractor.conv1(log_mel))))
        return hidden.transpose(1, 2)


@final
class CtcGraph(Module):
    """Waveforms (N, T) and a language -> logits (N, S, V) of a CTC model or a CTC head."""

    def __init__(self, model: Wav2Vec2LlamaModel | Wav2Vec2AsrModel) -> None:
        super().__init__()
        self.encoder = EncoderGraph(model)
        self.head: Any = (
            model.ctc_head if isinstance(model, Wav2Vec2LlamaModel) else model.final_proj
        )

    @override
    def forward(self, audio: Tensor, language: Tensor) -> Tensor:
        """:param language: as a row of the model's table, 0: not known. *Shape:* (1)."""
        frames = self.encoder(audio)
        if not isinstance(self.head, LanguageCtcHead):
            return cast(Tensor, self.head(frames))
        hidden = self.head.layer_norm(frames) + self.head.languages(language)[:, None]
        for layer in self.head.layers:
            hidden = hidden + gelu(layer(hidden.transpose(1, 2)).transpose(1, 2))
        logits: Tensor = self.head.proj(hidden)
        return logits


@final
class CtcOfLanguage(Module):
    """Waveforms (N, T) -> logits (N, S, V), told one language for good."""

    language: Tensor

    def __init__(self, ctc: CtcGraph, language: int) -> None:
        super().__init__()
        self.ctc = ctc  # `graph` is a name of torch.fx's own
        self.register_buffer("language", torch.tensor([language]))

    @override
    def forward(self, audio: Tensor) -> Tensor:
        return cast(Tensor, self.ctc(audio, self.language))


@final
class DecoderGraph(Module):
    """A plain Llama decoder over a cache (2 L, N, G, P, D), keys before values of each layer."""

    def __init__(self, weights: DecoderWeights) -> None:
        super().__init__()
        self.weights = weights

    @override
    def forward(self, seqs: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor]:
        """Read (N, S, M) behind what the cache holds; return the last logits, and the new cache."""
        weights, grown = self.weights, []
        first = 0 if cache is None else cache.size(3)
        angles = weights.rotations[first : first + seqs.size(1)]
        for i, layer in enumerate(weights.layers):
            hidden = rms_norm(seqs, seqs.shape[-1:], layer.attention_norm, weights.norm_eps)
            query = _rotate(_split(hidden @ layer.query.T, weights.num_heads), angles)
            key = _rotate(_split(hidden @ layer.key.T, weights.num_key_value_heads), angles)
            value = _split(hidden @ layer.value.T, weights.num_key_value_heads)
            if cache is not None:
                key, value = (
                    torch.cat([cache[2 * i], key], 2),
                    torch.cat([cache[2 * i + 1], value], 2),
                )
            grown += [key, value]
            repeats = weights.num_heads // weights.num_key_value_heads
            key, value = (part.repeat_interleave(repeats, 1) for part in (key, value))
            seen = scaled_dot_product_attention(query, key, value, is_causal=cache is None)
            seqs = seqs + seen.transpose(1, 2).flatten(2) @ layer.attention_output.T
            hidden = rms_norm(seqs, seqs.shape[-1:], layer.ffn_norm, weights.norm_eps)
            inner = silu(hidden @ layer.gate.T) * (hidden @ layer.up.T)
            seqs = seqs + inner @ layer.down.T
        last = rms_norm(seqs[:, -1], seqs.shape[-1:], weights.norm, weights.norm_eps)
        return last @ weights.output.T, torch.stack(grown)


def _split(seqs: Tensor, num_heads: int) -> Tensor:
    """(N, S, H D) -> (N, H, S, D)."""
    return seqs.reshape(*seqs.shape[:2], num_heads, -1).transpose(1, 2)


def _rotate(seqs: Tensor, angles: Tensor) -> Tensor:
    """Turn neighbouring values (N, H, S, D) by the angles of their positions (S, D / 2, 2)."""
    even, odd = seqs[..., 0::2], seqs[..., 1::2]
    cos, sin = angles[..., 0], angles[..., 1]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


@final
class PrefillGraph(Module):
    """Waveforms (N, T) and a language (1) -> logits of the first token (N, V), and the cache."""

    def __init__(self, model: Wav2Vec2LlamaModel) -> None:
        """:raises ConfigError: the prompt is more than audio, language and tokens."""
        super().__init__()
        unknown = [p for p in model.syntax.prompt if not isinstance(p, Audio | Language | Token)]
        if unknown:
            raise ConfigError(
                f"Prompts of audio, language and tokens are written; that of {model.syntax.name}"
                f" has a {type(unknown[0]).__name__}, too."
            )
        self.model = model
        self.encoder = EncoderGraph(model)
        self.decoder = DecoderGraph(read_weights(model))

    @override
    def forward(self, audio: Tensor, language: Tensor) -> tuple[Tensor, Tensor]:
        model: Any = self.model
        parts = []
        for part in model.syntax.prompt:
            if isinstance(part, Audio):
                frames = self.encoder(audio)
                parts.append(_project_stacked(model.encoder_proj, frames, model.encoder_stacking))
            elif isinstance(part, Language):
                parts.append(
                    model.lang_embeddings.weight[language][None].expand(audio.size(0), 1, -1)
                )
            else:
                token = model.text_frontend.weight[model.token_ids[part.reads or part.name]]
                parts.append(token[None, None].expand(audio.size(0), 1, -1))
        return cast("tuple[Tensor, Tensor]", self.decoder(torch.cat(parts, 1), None))


@final
class StepGraph(Module):
    """The last tokens (N) and the cache -> logits of the next ones (N, V), and the cache."""

    def __init__(self, model: Wav2Vec2LlamaModel) -> None:
        super().__init__()
        self.decoder = DecoderGraph(read_weights(model))

    @override
    def forward(self, token: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        seqs = self.decoder.weights.embeddings[token][:, None]
        return cast("tuple[Tensor, Tensor]", self.decoder(seqs, cache))


def _project_stacked(projection: Any, frames: Tensor, factor: int) -> Tensor:  # noqa: ANN401
    """Project every ``factor`` frames (N, S, E) together, the last ones filled up with zeros."""
    kernel = projection.weight.unflatten(1, (factor, -1)).transpose(1, 2)  # (M, E, factor)
    filled = pad(frames, (0, 0, 0, factor - 1)).transpose(1, 2)
    return conv1d(filled, kernel, projection.bias, stride=factor).transpose(1, 2)
