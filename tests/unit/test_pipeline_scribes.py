"""Clips that are written step by step, while others join them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.unit.test_pipeline_inference import create_pipeline, noise
from tests.unit.test_pipeline_word_times import ctc_pipeline
from wavellama import ASRInferencePipeline, TranscribeOptions, Wav2Vec2LlamaBeamSearchConfig
from wavellama.audio.chunks import Chunk
from wavellama.pipeline.attempts import Fault
from wavellama.pipeline.inputs import ContextExample
from wavellama.pipeline.jobs import Clip, Job
from wavellama.pipeline.scribes import ClipScribe, ClipWriting, Written
from wavellama.transcript.types import Segment

SECS = (0.7, 0.2, 1.1, 0.4, 0.7, 1.5)


def create_clips(
    pipeline: ASRInferencePipeline,
    langs: list[str | None] | None = None,
    examples: list[list[ContextExample]] | None = None,
) -> list[Clip]:
    """Return pieces of noise, each of an input of its own."""
    audio = [torch.from_numpy(noise(secs, place)) for place, secs in enumerate(SECS)]
    inputs = pipeline.inputs([b""] * len(audio), langs, examples)
    return [Clip(Job(one), 0, Chunk(own, 0)) for one, own in zip(inputs, audio, strict=True)]


def create_scribe(pipeline: ASRInferencePipeline, options: TranscribeOptions) -> ClipScribe:
    scribe = pipeline.plan(options).scribe
    assert isinstance(scribe, ClipScribe)
    return scribe


def write_joined(scribe: ClipScribe, clips: list[Clip]) -> list[Written]:
    """Write two clips, which two more join after a step, and two more after the next one."""
    done: list[tuple[Clip, Written]] = []
    writing = start(scribe, clips[:2])
    for begin in (2, 4):
        done += writing.step()
        new = start(scribe, clips[begin : begin + 2])
        if writing.clips:
            writing.join(new)
        else:
            writing = new
    while writing.clips:
        done += writing.step()
    found = {id(clip): written for clip, written in done}
    assert len(found) == len(done) == len(clips)
    return [found[id(clip)] for clip in clips]


def start(scribe: ClipScribe, clips: list[Clip]) -> ClipWriting:
    writing = scribe.start(clips)
    assert writing is not None
    assert list(map(id, writing.clips)) == list(map(id, clips))
    return writing


def assert_alike(actual: Written, expected: Written) -> None:
    """Check that two segments are the same, but for what is rounded."""
    assert isinstance(actual, Segment)
    assert isinstance(expected, Segment)
    assert actual.tokens == expected.tokens
    assert actual.text == expected.text
    assert actual.token_logprobs == pytest.approx(expected.token_logprobs, abs=1e-4)
    assert [one.text for one in actual.alternatives] == [one.text for one in expected.alternatives]
    assert (actual.language, actual.stop_reason) == (expected.language, expected.stop_reason)


@pytest.mark.parametrize(
    "options",
    [
        {"nbest": 2},
        {"search": Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=12)},
        {"word_timestamps": True},
        {"hotwords": ("ab",), "languages": ("eng_Latn", "deu_Latn")},
    ],
)
def test_clips_that_join_have_the_texts_of_clips_alone(options: dict[str, Any]) -> None:
    pipeline = create_pipeline()
    scribe = create_scribe(pipeline, TranscribeOptions(no_speech_threshold=1.0, **options))
    clips = create_clips(pipeline, ["eng_Latn", None] * 3)
    alone = [scribe.write([clip])[0] for clip in clips]
    assert len({one.text for one in alone if isinstance(one, Segment)}) > 2
    for actual, expected in zip(write_joined(scribe, clips), alone, strict=True):
        assert_alike(actual, expected)


def test_each_clip_may_have_examples_of_its_own() -> None:
    pipeline = create_pipeline("zero_shot")
    scribe = create_scribe(pipeline, TranscribeOptions(no_speech_threshold=1.0))
    audio = {"waveform": noise(0.5, 9), "sample_rate": 16000}
    given = [[ContextExample(audio, text)] for text in ("ab", "ba")]
    clips = create_clips(pipeline, examples=given * 3)
    alone = [scribe.write([clip])[0] for clip in clips]
    for actual, expected in zip(write_joined(scribe, clips), alone, strict=True):
        assert_alike(actual, expected)


def test_a_clip_that_cannot_be_recognised_costs_no_other() -> None:
    pipeline = create_pipeline()
    scribe = create_scribe(pipeline, TranscribeOptions(no_speech_threshold=1.0))
    clips = create_clips(pipeline)
    clips[3].chunk.waveform[:] = torch.nan
    alone = [scribe.write([clip])[0] for clip in clips]
    for actual, expected in zip(write_joined(scribe, clips), alone, strict=True):
        if isinstance(expected, Fault):
            assert actual == expected
        else:
            assert_alike(actual, expected)
    assert [isinstance(one, Fault) for one in alone] == [place == 3 for place in range(6)]


@pytest.mark.parametrize("nbest", [1, 2])
def test_clips_that_leave_are_forgotten_and_change_no_other(nbest: int) -> None:
    pipeline = create_pipeline()
    search = Wav2Vec2LlamaBeamSearchConfig(nbest=nbest, max_new_tokens=12)
    options = TranscribeOptions(no_speech_threshold=1.0, search=search)
    scribe, clips = create_scribe(pipeline, options), create_clips(pipeline)
    alone = dict(zip(map(id, clips), scribe.write(clips), strict=True))
    writing = start(scribe, clips[:4])
    done = writing.step()
    assert not done
    writing.leave([clips[0], clips[2]])
    assert writing.clips == [clips[1], clips[3]]
    writing.join(start(scribe, clips[4:]))
    writing.leave([clips[5]])
    while writing.clips:
        done += writing.step()
    assert {id(clip) for clip, _ in done} == {id(clips[place]) for place in (1, 3, 4)}
    for clip, written in done:
        assert_alike(written, alone[id(clip)])


def test_time_is_shared_by_the_clips_that_it_was_spent_on() -> None:
    pipeline = create_pipeline()
    scribe = create_scribe(pipeline, TranscribeOptions(no_speech_threshold=1.0))
    clips = create_clips(pipeline)[:2]
    writing = start(scribe, clips)
    while writing.clips:
        writing.step()
    long, short = (clip.job.secs["recognition"] for clip in clips)
    assert long > short > 0


def test_what_takes_no_steps_is_written_batch_by_batch() -> None:
    drafted = Wav2Vec2LlamaBeamSearchConfig(nbest=1, ctc_draft=True)
    pipeline, ctc = create_pipeline(), ctc_pipeline()
    scribe = create_scribe(pipeline, TranscribeOptions(search=drafted))
    assert scribe.start(create_clips(pipeline)) is None
    assert create_scribe(ctc, TranscribeOptions()).start(create_clips(ctc)) is None
    streaming = create_pipeline("streaming")
    assert create_scribe(streaming, TranscribeOptions()).start(create_clips(streaming)) is None
