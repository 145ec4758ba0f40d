"""The architecture table against the facts about the published models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import pytest
from fairseq2.models.transformer import TransformerNormOrder
from fairseq2.models.wav2vec2 import Wav2Vec2Config, Wav2Vec2EncoderConfig
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrConfig
from fairseq2.runtime.config_registry import get_config
from fairseq2.runtime.dependency import get_dependency_resolver

from wavellama import ModelType, Wav2Vec2LlamaConfig
from wavellama.model import archs

LID, ZERO_SHOT = ModelType.LLM_ASR_LID, ModelType.ZERO_SHOT


class Encoder(NamedTuple):
    """Facts about an encoder."""

    layers: int
    model_dim: int
    ffn: int
    heads: int
    quantized_dim: int
    first_pass_dropout_p: float


ENCODERS = {
    "300m": Encoder(24, 1024, 4096, 16, 768, 0.0),
    "1b": Encoder(48, 1280, 5120, 16, 1024, 0.1),
    "3b": Encoder(60, 2048, 8192, 16, 1024, 0.1),
    "7b": Encoder(128, 2048, 8192, 16, 1024, 0.1),
}


class Llama(NamedTuple):
    """Facts about an architecture of the decoder family."""

    encoder: str
    vocab: int
    model_type: ModelType = LID
    special_tokens: int = 1
    stacking: int = 1
    lang_p: float = 0.5
    streaming: bool = False
    base: int | None = None
    examples: int = 0
    max_seq_len: int = 8192


LLAMAS = {
    "300m": Llama("300m", 9812),
    "1b": Llama("1b", 9812),
    "3b": Llama("3b", 9812),
    "7b": Llama("7b", 9812),
    "7b_v1_variant7": Llama("7b", 9818),
    "7b_zs": Llama("7b", 9812, ZERO_SHOT, 6, 3, 0.0, examples=10, max_seq_len=16384),
    "300m_v2": Llama("300m", 10288, base=9812),
    "1b_v2": Llama("1b", 10288, base=9812),
    "3b_v2": Llama("3b", 10288, base=9812),
    "7b_v2": Llama("7b", 10288),
    "300m_unlimited_v2": Llama("300m", 10288, LID, 3, 1, 0.8, True, 9812),
    "1b_unlimited_v2": Llama("1b", 10288, LID, 3, 1, 0.8, True, 9812),
    "3b_unlimited_v2": Llama("3b", 10288, LID, 3, 1, 0.8, True, 9812),
    "7b_unlimited_v2": Llama("7b", 10288, LID, 3, 1, 0.8, True),
}

CTCS = {
    f"{size}{version}": (size, vocab)
    for size in ENCODERS
    for version, vocab in (("", 9812), ("_v2", 10288))
}

SSLS = {"large_lv60k": "300m", "1b": "1b", "3b": "3b", "7b": "7b"}


def _ssl(name: str) -> Wav2Vec2Config:
    return get_config(get_dependency_resolver(), Wav2Vec2Config, name)


def _ctc(name: str) -> Wav2Vec2AsrConfig:
    return get_config(get_dependency_resolver(), Wav2Vec2AsrConfig, name)


def _llama(name: str) -> Wav2Vec2LlamaConfig:
    return get_config(get_dependency_resolver(), Wav2Vec2LlamaConfig, name)


def _check_size(config: Wav2Vec2EncoderConfig, facts: Encoder) -> None:
    assert config.num_encoder_layers == facts.layers
    assert config.model_dim == facts.model_dim
    assert config.ffn_inner_dim == facts.ffn
    assert config.num_encoder_attn_heads == facts.heads
    assert config.norm_order is TransformerNormOrder.PRE
    assert config.feature_extractor_layer_norm_convs
    assert config.feature_grad_scale == pytest.approx(0.1)
    assert config.first_pass_dropout_p == facts.first_pass_dropout_p


def test_there_are_26_published_architectures() -> None:
    assert len(LLAMAS) + len(CTCS) + len(SSLS) == 26
    table = archs.arch_table()
    assert set(LLAMAS) <= set(table["wav2vec2_llama"])
    assert {*CTCS, "tiny"} == set(table["wav2vec2_asr"])
    assert {"1b", "3b", "7b", "xlsr_base"} == set(table["wav2vec2"])


@pytest.mark.parametrize("name", SSLS)
def test_ssl_encoder(name: str) -> None:
    config, facts = _ssl(name), ENCODERS[SSLS[name]]
    _check_size(config.encoder_config, facts)
    assert (config.quantized_dim, config.final_dim) == (facts.quantized_dim, facts.quantized_dim)
    if name != "large_lv60k":
        assert config.encoder_config.dropout_p == 0.0
        assert config.encoder_config.attn_dropout_p == 0.0


def test_xlsr_base_is_large_lv60k_without_attention_dropout() -> None:
    expected = _ssl("large_lv60k")
    assert expected.encoder_config.attn_dropout_p > 0.0
    expected.encoder_config.attn_dropout_p = 0.0
    assert _ssl("xlsr_base") == expected


def _check_finetuned(config: Wav2Vec2AsrConfig, size: str, vocab: int) -> None:
    encoder = config.encoder_config
    _check_size(encoder, ENCODERS[size])
    assert (encoder.dropout_p, encoder.attn_dropout_p) == (0.0, 0.0)
    assert (encoder.ffn_inner_dropout_p, encoder.layer_drop_p) == (0.1, 0.1)
    assert not config.use_masking
    assert config.target_vocab_size == vocab


@pytest.mark.parametrize("name", CTCS)
def test_ctc_model(name: str) -> None:
    size, vocab = CTCS[name]
    config = _ctc(name)
    _check_finetuned(config, size, vocab)
    stock = _ctc("base_10h")
    expected = replace(
        stock,
        encoder_config=config.encoder_config,
        target_vocab_size=vocab,
        use_masking=False,
    )
    assert config == expected


@pytest.mark.parametrize("name", LLAMAS)
def test_llama_model(name: str) -> None:
    facts, config = LLAMAS[name], _llama(name)
    _check_finetuned(config.wav2vec2_asr_config, facts.encoder, facts.vocab)
    assert config.llama_config.vocab_size == facts.vocab
    assert config.model_type is facts.model_type
    assert config.n_special_tokens == facts.special_tokens
    assert config.encoder_stacking == facts.stacking
    assert config.lang_embeddings_p == facts.lang_p
    assert config.special_token_base == facts.base
    assert config.n_context_examples == facts.examples
    assert config.streaming_config.is_streaming == facts.streaming


@pytest.mark.parametrize("name", LLAMAS)
def test_all_published_models_share_the_decoder(name: str) -> None:
    config = _llama(name)
    llama = config.llama_config
    assert (llama.model_dim, llama.num_layers) == (4096, 12)
    assert (llama.num_attn_heads, llama.num_key_value_heads) == (8, 8)
    assert (llama.ffn_inner_dim, llama.ffn_inner_dim_multiple_of) == (4096, 256)
    assert llama.ffn_inner_dim_scale == pytest.approx(2 / 3)
    assert (llama.rope_theta, llama.dropout_p) == (10000.0, 0.1)
    assert llama.max_seq_len == LLAMAS[name].max_seq_len
    assert (config.bos_idx, config.pad_idx, config.eos_idx, config.unk_idx) == (0, 1, 2, 3)
    assert llama.pad_idx == 1


@pytest.mark.parametrize("name", [name for name, facts in LLAMAS.items() if facts.streaming])
def test_unlimited_models_read_15_seconds_with_one_segment_of_context(name: str) -> None:
    config = _llama(name).streaming_config
    assert (config.segment_secs, config.n_context_segments) == (15.0, 1)
    assert config.text_tokenizer == "omniASR_tokenizer_written_v2"


def test_an_architecture_is_a_fresh_object_each_time() -> None:
    first = _llama("tiny")
    first.llama_config.model_dim = 7
    first.wav2vec2_asr_config.encoder_config.model_dim = 7
    assert _llama("tiny").llama_config.model_dim == 48
    assert _llama("tiny").wav2vec2_asr_config.encoder_config.model_dim == 32


OURS = ["tiny", "tiny_lid", "conformer_6m", "transformer_4m", "whisper_base"]


@pytest.mark.parametrize("name", OURS)
def test_our_own_architectures_are_consistent(name: str) -> None:
    assert not _llama(name).validate().has_error()


# No row repeats what it inherits.

Leaf: TypeAlias = tuple[str, ...]


def _leaves(row: Mapping[str, Any], path: Leaf = ()) -> Iterator[Leaf]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, key))
        elif (*path, key)[0] not in archs._LINKS:
            yield (*path, key)


def _inheriting_leaves() -> list[Any]:
    return [
        (family, name, leaf)
        for family, rows in archs.arch_table().items()
        if family != "templates"
        for name, row in rows.items()
        if row.get("template") != "none"
        for leaf in _leaves(row)
    ]


CONFIGS = {"wav2vec2": _ssl, "wav2vec2_asr": _ctc, "wav2vec2_llama": _llama}


@pytest.mark.parametrize(("family", "name", "leaf"), _inheriting_leaves(), ids=str)
def test_no_row_repeats_a_value_that_it_inherits(
    family: str, name: str, leaf: Leaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any one of its values, a row describes something else."""
    full = CONFIGS[family](name)
    table: Any = deepcopy(archs.arch_table())
    holder = table[family][name]
    for key in leaf[:-1]:
        holder = holder[key]
    del holder[leaf[-1]]
    monkeypatch.setattr(archs, "arch_table", lambda: table)
    assert CONFIGS[family](name) != full
