"""Models write something of silence and noise; nobody is told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.unit.test_pipeline_inference import RATE, create_pipeline, noise
from tests.unit.test_pipeline_live import speech
from tests.unit.test_pipeline_word_times import ctc_pipeline
from wavellama import ASRInferencePipeline, ContextExample
from wavellama.pipeline.options import TranscribeOptions

KINDS: dict[str, Callable[[], ASRInferencePipeline]] = {
    **{name: lambda name=name: create_pipeline(name) for name in ("llm_asr", "llm_asr_lid")},  # type: ignore[misc]
    **{name: lambda name=name: create_pipeline(name) for name in ("streaming", "zero_shot")},  # type: ignore[misc]
    "ctc": ctc_pipeline,
}

SOUNDS = {"silence": torch.zeros(3 * RATE), "noise": 0.1 * torch.from_numpy(noise(3.0, 4))}


def transcribe(kind: str, waveform: torch.Tensor, **options: Any) -> str:
    pipeline = KINDS[kind]()
    example = [ContextExample({"waveform": noise(0.4), "sample_rate": RATE}, "ab")]
    (transcript,) = pipeline.stream_results(
        {"waveform": waveform, "sample_rate": RATE},
        TranscribeOptions(**options),
        examples=example if kind == "zero_shot" else None,
    )
    return transcript.text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sound", SOUNDS)
def test_silence_has_no_text(kind: str, sound: str) -> None:
    assert transcribe(kind, SOUNDS[sound]) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_it_would_have_one(kind: str) -> None:
    assert transcribe(kind, SOUNDS["noise"], no_speech_threshold=1.0) != ""


@pytest.mark.parametrize("kind", ["llm_asr_lid", "streaming", "ctc"])
def test_speech_has_the_same_text_with_the_rule_and_without(kind: str) -> None:
    said = speech()[: 3 * RATE]
    assert transcribe(kind, said) == transcribe(kind, said, no_speech_threshold=1.0) != ""


@pytest.mark.parametrize("sound", SOUNDS)
def test_windows_of_silence_have_no_text_either(sound: str) -> None:
    options = {"vad": False, "chunk_secs": 1.0}
    assert transcribe("llm_asr_lid", SOUNDS[sound], **options) == ""


@pytest.mark.parametrize("kind", ["llm_asr_lid", "streaming"])
@pytest.mark.parametrize("sound", SOUNDS)
def test_live_silence_has_no_text(kind: str, sound: str) -> None:
    session = KINDS[kind]().live(TranscribeOptions(update_secs=0.5))
    updates = [*session.feed(SOUNDS[sound]), session.finish()]
    assert not any(update.stable or update.tentative for update in updates)


def test_what_was_made_of_silence_is_no_context() -> None:
    """A streaming model reads what it wrote before."""
    session = create_pipeline("streaming").live()
    session.feed(SOUNDS["noise"])
    past = session._listener._state.past  # type: ignore[attr-defined]
    assert len(past) > 0
    assert not any(segment.tokens for segment in past)
