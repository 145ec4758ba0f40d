"""Options of wrong types, given in Python, on the command line and in YAML."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch

from tests.e2e.forked import run_forked
from tests.e2e.runs import last_line
from tests.fakes import golden_model, golden_tokenizer
from wavellama import ASRInferencePipeline, TranscribeOptions
from wavellama import Wav2Vec2LlamaBeamSearchConfig as SearchConfig
from wavellama.errors import BatchError, ConfigError


def wrong(**fields: Any) -> SearchConfig:
    """Return a search with values that its types do not allow."""
    return SearchConfig(**fields)


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
        ("languages", "eng_Latn", r"`languages` takes several strings, .*: write \['eng_Latn'\]"),
        ("search", 3, "`search` must be Wav2Vec2LlamaBeamSearchConfig or None, but is 3"),
        ("search", SearchConfig(nbest=0), "`search.nbest` must be at least 1, but is 0"),
        ("search", wrong(nbest=1.5), "`search.nbest` must be int, but is 1.5"),
        ("search", wrong(ctc_weight="0.5"), "`search.ctc_weight` must be float, but is '0.5'"),
        (
            "search",
            wrong(weights="int2"),
            "`search.weights` must be .* int4, but is 'int2'",
        ),
        ("search", wrong(compression_threshold=math.nan), "`search.compression_threshold` must be"),
        ("search", SearchConfig(ctc_draft=True), "`search.ctc_draft` needs `search.nbest` 1"),
        ("normalization", "x", "`normalization` must be clip or causal or None, but is 'x'"),
        ("lm", 5, "`lm` must be Path or str or None, but is 5"),
        ("aligner", b"x", "`aligner` must be str or Path or None"),
        ("channel", 1.5, "`channel` must be str or int, but is 1.5"),
    ],
)
def test_options_of_another_type_are_named(name: str, value: object, message: str) -> None:
    """They were compared as they came, and ended in a stack trace, or in nothing."""
    options: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=message):
        TranscribeOptions(**options)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("nbest", np.int64(3), 3),
        ("channel", np.int32(2), 2),
        ("chunk_secs", np.float64(12.0), 12.0),
        ("hotword_weight", np.float32(0.5), 0.5),
        ("chunk_secs", torch.tensor(12.0), 12.0),
        ("vad", np.bool_(True), True),
        ("hotwords", np.array(["Ada"]), ("Ada",)),
        ("lm", "words.arpa", Path("words.arpa")),
        ("lm", PurePosixPath("words.arpa"), Path("words.arpa")),
        ("aligner", Path("runs/ctc"), Path("runs/ctc")),
        ("draft_model", PurePosixPath("runs/ctc"), Path("runs/ctc")),
    ],
)
def test_numbers_of_numpy_and_paths_are_taken(name: str, value: object, kept: object) -> None:
    """A number that NumPy had computed was refused, and so was a path as text."""
    options: dict[str, Any] = {name: value}
    found = getattr(TranscribeOptions(**options), name)
    assert (found, type(found)) == (kept, type(kept))


@pytest.fixture(scope="module")
def pipeline() -> ASRInferencePipeline:
    return ASRInferencePipeline(
        None,
        model=deepcopy(golden_model("llm_asr_lid")),
        tokenizer=golden_tokenizer(),
        device="cpu",
    )


AUDIO = {"waveform": torch.zeros(8000), "sample_rate": 16_000}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dtype", "bfloat16", "`dtype` must be .* such as torch.bfloat16, but is 'bfloat16'"),
        ("dtype", torch.int8, "`dtype` must be .* such as torch.bfloat16, but is torch.int8"),
        ("model_card", 5, "`model_card` must be str or Path or None, but is 5"),
        ("beam_search_config", 3, "`beam_search_config` must be Wav2Vec2LlamaBeamSearchConfig"),
        (
            "beam_search_config",
            SearchConfig(nbest=0),
            "`beam_search_config.nbest` must be at least",
        ),
        ("device", 1.5, "`device 1.5` cannot be used"),
    ],
)
def test_a_pipeline_names_an_argument_of_another_type(
    name: str, value: object, message: str
) -> None:
    arguments: dict[str, Any] = {
        "model_card": None,
        "model": deepcopy(golden_model("llm_asr_lid")),
        "tokenizer": golden_tokenizer(),
        "device": "cpu",
        name: value,
    }
    with pytest.raises(ConfigError, match=message):
        ASRInferencePipeline(**arguments)


def test_options_that_are_none_are_named(pipeline: ASRInferencePipeline) -> None:
    wrong_options: Any = "x"
    with pytest.raises(ConfigError, match="`options` must be TranscribeOptions or None, but is"):
        pipeline.stream_results(AUDIO, wrong_options)
    with pytest.raises(ConfigError, match="`options` must be TranscribeOptions or None, but is"):
        pipeline.live(wrong_options)


@pytest.mark.parametrize("options", [{"audio_track": 2}, {"audio_track": "de"}, {"channel": 1}])
def test_live_audio_has_no_tracks_and_channels(
    pipeline: ASRInferencePipeline, options: dict[str, Any]
) -> None:
    """They were ignored: a session is fed samples."""
    (name,) = options
    with pytest.raises(ConfigError, match=f"is fed mono samples: `{name}` cannot be used"):
        pipeline.live(TranscribeOptions(**options))


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


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("options.nbest=1.5", "`options.nbest` must be int, but is 1.5."),
        ("options.hotwords=Köln", "`options.hotwords` takes several strings, but is 'Köln'"),
        ("options.languages=eng_Latn", "`options.languages` takes several strings"),
        ("options.vad=maybe", "`options.vad` must be bool or None, but is 'maybe'."),
        ("options.search.nbest=1.5", "`options.search.nbest` must be int, but is 1.5."),
        ("options.search.nbest=0", "`options.search.nbest` must be at least 1, but is 0."),
        ("options.hotword=x", "`options` has an unknown key `hotword`. Did you mean hotwords"),
        ("options=3", "`options` must have keys and values, but is 3."),
        ("layout.max_line_width=1.5", "`layout.max_line_width` must be int or None, but is 1.5."),
        ("seq2seq_generator.config.nbest=1.5", "`nbest` must be int, but is 1.5."),
        ("files=a.wav", "`files` takes several strings, but is 'a.wav': write ['a.wav']."),
        ("formats=txt", "`formats` takes several strings, but is 'txt': write ['txt']."),
        ("dataset.languages=ita_Latn", "`dataset.languages` takes several strings"),
    ],
)
def test_a_recipe_names_the_key_of_a_value_of_another_type(
    value: str, message: str, tmp_path: Path
) -> None:
    """1.5 became 1, and a word in the place of a list its letters."""
    result = run_forked(
        *("recipe", "asr", "transcribe", "transcribe_files", "--output-dir", tmp_path),
        *("--no-rich", "--config", "files=[a.wav]", value),
    )
    assert result.returncode == 2
    assert message in last_line(result)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--chunk-seconds", "9999"), "`--chunk-seconds` must lie between 1 and 600"),
        (("--beam", "0"), "`--beam` must be at least 1, but is 0"),
        (("--ctc-weight", "7"), "`--ctc-weight` must lie between 0 and 1, but is 7"),
        (("--ctc-draft", "--beam", "3"), "`--ctc-draft` needs `--beam` 1 and `--ctc-weight` 0"),
        (("--channel", "0"), "`--channel` must be a number from 1 on"),
        (("--lang", "eng_Latn", "--languages", "deu_Latn"), "`--lang` says what is spoken, `--l"),
        (("--format", "srt", "--max-line-count", "0"), "`--max-line-count` must be at least 1"),
    ],
)
def test_the_command_line_names_an_option_as_it_is_typed(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    """It told of `chunk_secs`, which nobody had typed."""
    (tmp_path / "a.wav").touch()
    result = run_forked("transcribe", tmp_path / "a.wav", "--model", "omniASR_LLM_300M", *words)
    assert result.returncode == 2
    assert message in last_line(result)
