"""The configuration: defaults, and the errors of one that contradicts itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq2.utils.validation import ValidationError

from tests.fakes import LID, SMALL, arch_config, merge
from wavellama import (
    ModelType,
    Wav2Vec2LlamaBeamSearchConfig,
    Wav2Vec2LlamaConfig,
    Wav2Vec2LlamaStreamingConfig,
)
from wavellama.model.factory import create_wav2vec2_llama_model


def test_the_defaults_are_those_of_the_specification() -> None:
    config = Wav2Vec2LlamaConfig()
    assert config.model_type is ModelType.LLM_ASR
    assert config.encoder_stacking == 1
    assert config.lang_embeddings_p == 0.0
    assert config.language_column_name == "lang"
    assert not config.context_text_only
    assert config.n_context_examples == 0
    assert config.n_special_tokens == 0
    assert (config.bos_idx, config.pad_idx, config.eos_idx, config.unk_idx) == (0, 1, 2, 3)
    assert config.special_token_base is None
    assert config.zero_shot_swapped_bos_eos
    assert not config.ctc_head


def test_the_search_defaults_are_those_of_the_specification() -> None:
    config = Wav2Vec2LlamaBeamSearchConfig()
    assert (config.nbest, config.length_norm) == (5, False)
    assert (config.compression_window, config.compression_threshold) == (100, 4.0)
    assert config.repetition_guard
    assert config.max_new_tokens is None


def test_the_streaming_defaults_are_those_of_the_specification() -> None:
    config = Wav2Vec2LlamaStreamingConfig()
    assert (config.is_streaming, config.segment_secs, config.sample_rate) == (False, 15.0, 16000)
    assert (config.n_context_segments, config.text_tokenizer, config.min_audio_ms) == (1, "", 25)


def test_a_configuration_without_arguments_is_consistent() -> None:
    config = Wav2Vec2LlamaConfig()
    assert not config.validate().has_error()
    assert config.llama_config.pad_idx == config.pad_idx == 1
    with torch.device("meta"):
        create_wav2vec2_llama_model(config)


def test_two_configurations_share_nothing() -> None:
    first, second = Wav2Vec2LlamaConfig(), Wav2Vec2LlamaConfig()
    first.llama_config.vocab_size = 5
    first.beam_search_config.nbest = 9
    first.wav2vec2_asr_config.encoder_config.model_dim = 8
    assert second == Wav2Vec2LlamaConfig()


def _small(overrides: dict[str, Any]) -> Callable[[], object]:
    config = arch_config("tiny", merge(SMALL, overrides))
    return lambda: create_wav2vec2_llama_model(config)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"llama_config": {"vocab_size": 13}}, ["target_vocab_size", "12", "vocab_size", "13"]),
        ({"llama_config": {"pad_idx": 7}}, ["pad_idx", "1", "7"]),
        ({"llama_config": {"pad_idx": None}}, ["pad_idx", "1", "None"]),
        ({"pad_idx": 4}, ["pad_idx", "4", "1"]),
        ({"n_special_tokens": 3}, ["n_special_tokens", "3", "0", "LLM_ASR"]),
        ({"model_type": "LLM_ASR_LID"}, ["n_special_tokens", "0", "1", "LLM_ASR_LID"]),
        ({"encoder_stacking": 0}, ["encoder_stacking", "0"]),
        ({"lang_embeddings_p": 1.5}, ["lang_embeddings_p", "1.5"]),
        ({"lang_embeddings_p": -0.1}, ["lang_embeddings_p", "-0.1"]),
        ({"beam_search_config": {"nbest": 0}}, ["nbest", "0"]),
        ({"beam_search_config": {"max_new_tokens": 0}}, ["max_new_tokens", "0"]),
        ({"beam_search_config": {"compression_window": 1}}, ["compression_window", "1"]),
        ({"context_text_only": True}, ["LLM_ASR", "text-only"]),
        ({"streaming_config": {"is_streaming": True}}, ["LLM_ASR", "streaming"]),
    ],
    ids=str,
)
def test_a_contradiction_is_an_error_that_names_both_values(
    overrides: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises(ValidationError) as caught:
        _small(overrides)()
    for word in named:
        assert word in str(caught.value)


def test_all_contradictions_are_named_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        _small({"llama_config": {"vocab_size": 13, "pad_idx": 7}, "n_special_tokens": 3})()
    for field in ("vocab_size", "pad_idx", "n_special_tokens"):
        assert field in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        {"eos_idx": 12},
        {"bos_idx": 12},
        {"unk_idx": 99},
        merge(LID, {"special_token_base": 13}),
        merge(LID, {"special_token_base": -1}),
    ],
    ids=str,
)
def test_ids_outside_the_tables_are_errors(overrides: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _small(overrides)()


@pytest.mark.parametrize("name", ["frozen_encoder", "boh_idx", "eoh_idx"])
def test_fields_that_did_nothing_do_not_exist(name: str) -> None:
    assert not hasattr(Wav2Vec2LlamaConfig(), name)


OWN = ["ita_Latn", "qaa_Latn", "en"]


def test_a_model_knows_the_languages_of_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("\n".join(OWN))
    for languages in (OWN, str(tmp_path / "own.txt")):
        config = arch_config("tiny", merge(LID, {"languages": languages}))
        assert config.languages == OWN, "a file is read at once: checkpoints keep the codes"
        model = create_wav2vec2_llama_model(config)
        assert dict(model.lang_mapping) == {"ita_Latn": 1, "qaa_Latn": 2, "en": 3}
        assert model.lang_embeddings is not None
        assert len(model.lang_embeddings.weight) == 4
        assert model.lang_mapping.resolve("it") == "ita_Latn"


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        ([], "names no language"),
        (["eng_Latn", "english"], "`languages` has 'english', which is no code"),
        (["eng_Latn", "ENG_latn"], "`languages` has eng_latn 2 times"),
    ],
)
def test_languages_that_are_none_are_refused(languages: list[str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        create_wav2vec2_llama_model(arch_config("tiny", merge(LID, {"languages": languages})))


def test_languages_without_a_place_in_the_prompt_are_refused() -> None:
    config = arch_config("tiny", merge(SMALL, {"languages": OWN}))
    with pytest.raises(ValidationError, match="the LLM_ASR syntax reads no language"):
        create_wav2vec2_llama_model(config)
    assert not arch_config("tiny", SMALL).language_table
