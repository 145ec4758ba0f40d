"""What audio that cannot be recognised costs, and what is kept of inputs that are done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import cast
from weakref import ref

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.unit.test_pipeline_inference import RATE, create_pipeline, noise
from wavellama import TranscribeOptions
from wavellama.audio.chunks import Chunk
from wavellama.audio.load import AudioInput
from wavellama.errors import ContextTooLongError, DecodingError, TranscriptionError
from wavellama.pipeline.attempts import NO_MEMORY, _warn_of_memory, attempt_all
from wavellama.pipeline.chunked import Batching, ChunkedRun
from wavellama.pipeline.inputs import Input
from wavellama.pipeline.jobs import Clip, Job, StreamClip
from wavellama.pipeline.recogniser import Recognition, StreamRecogniser
from wavellama.pipeline.scribes import ClipScribe
from wavellama.pipeline.segments import SegmentBuilder
from wavellama.transcript.types import Segment

Raise = Callable[[], Exception]

NAN = "The model has produced NaN"


class LoudnessRecogniser:
    """Recognises clips unless one of them is loud."""

    def __init__(self, error: Raise, dtype: torch.dtype) -> None:
        self._error, self.dtype = error, dtype

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        if any(is_loud(clip) for clip in clips):
            raise self._error()
        return [Recognition([]) for _ in clips]


class Builder:
    """Makes segments, unless told to fail at loud clips."""

    def __init__(self, error: Raise | None = None) -> None:
        self._error = error

    def build(self, clip: Clip, recognition: Recognition) -> Segment:
        if self._error is not None and is_loud(clip):
            raise self._error()
        start, end = clip.span
        return Segment(text=clip.input.name, start=start, end=end)


def is_loud(clip: Clip) -> bool:
    return bool(clip.chunk.waveform.max() > 0.5)


def by_seconds(blocks: Iterator[Tensor]) -> Iterator[Chunk]:
    """Yield the middle half of each second."""
    for i, second in enumerate(torch.split(torch.cat(list(blocks)), RATE)):
        yield Chunk(second[RATE // 4 : RATE * 3 // 4].clone(), i * RATE + RATE // 4)


def level(*levels: float) -> AudioInput:
    """Return a second of each level."""
    return {"waveform": np.repeat(np.array(levels, np.float32), RATE), "sample_rate": RATE}


def create_run(
    recogniser: LoudnessRecogniser,
    builder: Builder | None = None,
    on_progress: Callable[[float], None] = lambda secs: None,
) -> ChunkedRun:
    scribe = ClipScribe(recogniser, cast("SegmentBuilder", builder or Builder()))
    batching = Batching(max_secs=2.0)
    return ChunkedRun(by_seconds, scribe, batching, lambda job, secs: on_progress(secs))


def nan() -> Exception:
    return DecodingError(f"{NAN}.")


@pytest.mark.parametrize("of_words", [False, True])
@pytest.mark.parametrize(
    ("error", "dtype", "words"),
    [
        (nan, torch.float16, rf"{NAN}\. .* choose bfloat16 or float32"),
        (nan, torch.bfloat16, rf"{NAN}\.$"),
        (torch.OutOfMemoryError, torch.float32, r"memory is too small .* \(`chunk_secs`\)"),
        (lambda: ContextTooLongError(9, 8), torch.float32, "shorter pieces of audio"),
    ],
)
def test_only_the_input_that_cannot_be_recognised_is_lost(
    error: Raise, dtype: torch.dtype, words: str, of_words: bool
) -> None:
    recogniser = LoudnessRecogniser(AssertionError if of_words else error, dtype)
    if of_words:
        recogniser.recognise = lambda clips: [Recognition([]) for _ in clips]  # type: ignore[method-assign]
    audio = [level(0.1, 0.1), level(0.1, 0.9, 0.1), level(0.2)]
    inputs = [Input(i, one) for i, one in enumerate(audio)]
    jobs = list(create_run(recogniser, Builder(error)).run(inputs))
    assert sorted(job.input.index for job in jobs) == [0, 1, 2]
    bad, *good = sorted(jobs, key=lambda job: job.error is None)
    assert bad.input.index == 1
    assert [len(job.segments) for job in good] == [job.num_clips for job in good]
    with pytest.raises(Exception, match=words):
        raise cast("Exception", bad.error)
    assert str(bad.error).startswith(bad.input.name)


def test_that_batches_are_too_large_for_the_memory_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _warn_of_memory.cache_clear()
    recogniser = LoudnessRecogniser(torch.OutOfMemoryError, torch.float32)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            list(create_run(recogniser).run([Input(i, level(0.9)) for i in range(4)]))
    (message,) = caplog.messages
    assert "`batch_secs`" in message


def test_what_fails_together_is_tried_in_halves() -> None:
    """A batch that is a little too large once was as slow as no batch at all."""
    sizes = list[int]()

    def work(rows: list[int]) -> list[int]:
        sizes.append(len(rows))
        if len(rows) > 4:
            raise torch.OutOfMemoryError
        return rows

    assert attempt_all(work, [*range(12)], torch.float32) == [*range(12)]
    assert sizes == [12, 6, 3, 3, 6, 3, 3]


def test_an_input_that_has_failed_is_not_read_on() -> None:
    recogniser = LoudnessRecogniser(nan, torch.float32)
    (job,) = create_run(recogniser).run([Input(0, level(0.9, *[0.1] * 99))])
    assert job.error is not None
    assert len(job.segments) < 40


def test_progress_adds_up_to_the_durations() -> None:
    heard: list[float] = []
    run = create_run(LoudnessRecogniser(nan, torch.float32), on_progress=heard.append)
    jobs = list(run.run([Input(0, level(0.1, 0.2)), Input(1, level(0.1))]))
    assert sum(heard) == pytest.approx(3.0)
    assert all(secs >= 0.0 for secs in heard)
    assert sum(job.num_samples for job in jobs) == 3 * RATE


def test_jobs_that_are_done_are_forgotten() -> None:
    run = create_run(LoudnessRecogniser(nan, torch.float32))
    seen: list[ref[Job]] = []
    for job in run.run([Input(i, level(0.1)) for i in range(100)]):
        seen.append(ref(job))
        assert sum(one() is not None for one in seen) <= 20, "those of a window"


def test_streams_are_decoded_one_by_one_where_they_fail_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline = create_pipeline("streaming")
    loud = noise(1.6, 2) * 5
    inputs: list[AudioInput] = [
        {"waveform": samples, "sample_rate": RATE} for samples in (noise(1.6, 1), loud, noise(0.5))
    ]
    options = TranscribeOptions(
        normalization="causal", search=pipeline.beam_search_config, no_speech_threshold=1.0
    )
    expected = [transcript.text for transcript in pipeline.stream_results(inputs, options)]
    recognise = StreamRecogniser.recognise
    fail_at: list[int] = []

    def fragile(self: StreamRecogniser, clips: list[StreamClip]) -> list[Recognition]:
        if len(clips) > 1:
            raise torch.OutOfMemoryError
        if len(clips[0].audio) in fail_at:
            raise DecodingError("no number")
        return recognise(self, clips)

    monkeypatch.setattr(StreamRecogniser, "recognise", fragile)
    found = [transcript.text for transcript in pipeline.stream_results(inputs, options)]
    assert found == expected, "no segment is normalised twice"
    fail_at.append(len(noise(0.5)))
    with pytest.raises(TranscriptionError, match="no number") as caught:
        list(pipeline.stream_results(inputs, options))
    assert list(caught.value.failures) == [2]
    assert caught.value.texts == [*expected[:2], None]
    assert NO_MEMORY not in str(caught.value)
