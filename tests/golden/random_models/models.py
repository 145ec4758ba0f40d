"""Random models and what they are given, made from a case of ``cases.jsonl`` alone.

Nothing here needs wavellama or the published implementation, so that both build the same. All draws
are those of numpy's ``RandomState``, whose numbers are frozen.

Shapes: T samples, K examples, S tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

EOS = 2

LANGUAGES = ("eng_Latn", "deu_Latn", "spa_Latn", "fra_Latn", "rus_Cyrl")
"""What the models know, in the order of their embeddings, of which the first means none."""

LAYERS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
"""Kernel and stride of the layers of the feature extractor."""


@dataclass(frozen=True)
class Row:
    """One utterance."""

    waveform: Tensor
    """*Shape:* (T)."""

    lang: str | None
    """The code of its language."""

    example_audio: list[Tensor]
    """*Shape of each:* (T)."""

    example_texts: list[Tensor]
    """*Shape of each:* (S)."""


def config_overrides(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return a case's model configuration, by the field names of ``Wav2Vec2LlamaConfig``."""
    streaming = case["streaming"]
    special = {"LLM_ASR": 0, "LLM_ASR_LID": 1, "ZERO_SHOT": 6}[case["model_type"]]
    channels = case["feature_dim"]
    encoder = {
        **case["encoder"],
        "feature_dim": channels,
        "feature_extractor_layer_descs": [[channels, *layer] for layer in LAYERS],
        "feature_extractor_layer_norm_convs": True,
        "pos_encoder_type": "conv",
        "pos_encoder_depth": 1,
        "max_seq_len": 4096,
        "dropout_p": 0.0,
        "attn_dropout_p": 0.0,
        "ffn_inner_dropout_p": 0.0,
        "first_pass_dropout_p": 0.0,
        "layer_drop_p": 0.0,
    }
    decoder = {**case["decoder"], "vocab_size": case["vocab_size"], "pad_idx": 1, "dropout_p": 0.0}
    asr = {"target_vocab_size": case["vocab_size"], "use_masking": False, "encoder_config": encoder}
    return {
        "model_type": case["model_type"],
        "wav2vec2_asr_config": asr,
        "llama_config": decoder,
        "encoder_stacking": case["stacking"],
        "n_special_tokens": 3 if streaming else special,
        "n_context_examples": case["num_examples"],
        "lang_embeddings_p": 0.5 if case["model_type"] == "LLM_ASR_LID" else 0.0,
        "streaming_config": {"is_streaming": True, **streaming} if streaming else {},
    }


def random_weights(
    shapes: Mapping[str, Sequence[int]], case: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return weights for a model's state dict, drawn in the order of the names.

    The embeddings of all tokens share a direction, to which EOS answers: ``eos_bonus`` says how
    early texts end. ``sharpness`` is what the output layer is multiplied by.
    """
    draw = np.random.RandomState(case["seed"])
    weights = {}
    for name, shape in sorted(shapes.items()):
        weights[name] = draw.standard_normal(tuple(shape)) * _scale(name, shape)
        if _is_gain(name):
            weights[name] += 1.0
    weights["text_frontend.weight"] += 1.0
    output = weights["final_proj.weight"]
    output *= case["sharpness"]
    output[EOS] += case["eos_bonus"] / output.shape[1]
    return {name: torch.from_numpy(weight).float() for name, weight in weights.items()}


def _is_gain(name: str) -> bool:
    return name.endswith(("layer_norm.weight", "original0"))


def _scale(name: str, shape: Sequence[int]) -> float:
    """Return the standard deviation of a weight."""
    if len(shape) < 2 or _is_gain(name):
        return 0.1
    if name in {"text_frontend.weight", "lang_embeddings.weight"}:
        return 1.0
    return 1.5 * float(prod(shape[1:]) ** -0.5)


def random_rows(case: Mapping[str, Any]) -> list[Row]:
    """Return the utterances of a case: noise, and random tokens as the texts of examples."""
    draw = np.random.RandomState(case["seed"] + 1_000_000)

    def noise(length: int) -> Tensor:
        return torch.from_numpy(draw.standard_normal(length)).float()

    def text(length: int) -> Tensor:
        return torch.from_numpy(draw.randint(4, case["vocab_size"], length)).long()

    return [
        Row(
            noise(row["samples"]),
            row["lang"],
            [noise(samples) for samples, _ in row["examples"]],
            [text(length) for _, length in row["examples"]],
        )
        for row in case["rows"]
    ]


def example_columns(row: Row) -> dict[str, dict[str, Any]]:
    """Return what ``batch.example`` holds of a row's examples. *Shapes:* (K, T), (K, S)."""
    kinds = {"context_audio": row.example_audio, "context_text": row.example_texts}
    return {
        name: {
            "seqs": torch.nn.utils.rnn.pad_sequence(items, batch_first=True),
            "seq_lens": [len(item) for item in items],
        }
        for name, items in kinds.items()
        if items
    }
