"""Options of wrong types, given in Python, on the command line and in YAML."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.e2e.forked import run_forked
from tests.e2e.runs import last_line
from tests.fakes import golden_model, golden_tokenizer
from wavellama import ASRInferencePipeline, TranscribeOptions
from wavellama.errors import BatchError, ConfigError


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lang", 5, "`lang` must be str or None, but is 5"),
        ("nbest", 1.5, "`nbest` must be int, but is 1.5"),
        ("nbest", True, "`nbest` must be int, but is True"),
        ("nbest", "3", "`nbest` must be int, but is '3'"),
        ("vad", "yes", "`vad` must be bool or None, but is 'yes'"),
        ("word_timestamps", 1, "`word_timestamps` must be bool, but is 1"),
        ("chunk_secs", "12", "`chunk_secs` must be float or None"),
        ("chunk_secs", math.nan, "`chunk_secs` must lie between"),
        ("endpoint_secs", math.nan, "`endpoint_secs` must lie between"),
        ("hotwords", 3, "`hotwords` takes several strings, but is 3"),
        ("hotwords", [1], "`hotwords` takes several strings"),
        ("languages", "eng_Latn", "`languages` takes several strings: write"),
    ],
)
def test_options_of_another_type_are_named(name: str, value: object, message: str) -> None:
    """They were compared as they came, and ended in a stack trace, or in nothing."""
    options: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=message):
        TranscribeOptions(**options)


@pytest.fixture(scope="module")
def pipeline() -> ASRInferencePipeline:
    return ASRInferencePipeline(
        None, model=golden_model("llm_asr_lid"), tokenizer=golden_tokenizer(), device="cpu"
    )


AUDIO = {"waveform": torch.zeros(8000), "sample_rate": 16_000}


@pytest.mark.parametrize("size", ["2", 1.5, None, True])
def test_a_batch_size_of_another_type_is_named(pipeline: ASRInferencePipeline, size: Any) -> None:
    with pytest.raises(ConfigError, match="`batch_size` must be int"):
        pipeline.transcribe(AUDIO, batch_size=size)


@pytest.mark.parametrize("lang", [5, [5], [b"eng_Latn"]])
def test_languages_of_another_type_are_named(pipeline: ASRInferencePipeline, lang: Any) -> None:
    with pytest.raises((BatchError, ConfigError), match="`lang` must "):
        pipeline.transcribe(AUDIO, lang=lang)


@pytest.mark.parametrize("device", ["gpu", "xpu:99"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    model, tokenizer = golden_model("llm_asr_lid"), golden_tokenizer()
    with pytest.raises(ConfigError, match=f"`device {device}` cannot be used"):
        ASRInferencePipeline(None, model=model, tokenizer=tokenizer, device=device)


def test_more_threads_than_cores_are_refused(tmp_path: Path) -> None:
    """9999 of them took 95 seconds for two seconds of audio."""
    (tmp_path / "a.wav").touch()
    result = run_forked(
        *("transcribe", tmp_path / "a.wav", "--model", "omniASR_LLM_300M", "--threads", "9999")
    )
    assert result.returncode == 2
    assert "`--threads` must be at most" in last_line(result)


def test_a_hotword_in_a_recipe_is_not_taken_letter_by_letter(tmp_path: Path) -> None:
    result = run_forked(
        *("recipe", "asr", "transcribe", "transcribe_files", "--output-dir", tmp_path),
        *("--no-rich", "--config", "files=[a.wav]", "options.hotwords=Word"),
    )
    assert result.returncode == 2
    assert "[Word] is one word" in last_line(result)
