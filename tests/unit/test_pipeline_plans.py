"""``ASRInferencePipeline.plan``: what needs the model can be done elsewhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import current_thread
from typing import Any

import pytest
import torch

from tests.unit.test_pipeline_inference import RATE, create_pipeline, noise
from tests.unit.test_pipeline_live import speech
from wavellama import TranscribeOptions
from wavellama.pipeline.jobs import Job
from wavellama.pipeline.scribes import Scribe, Written
from wavellama.pipeline.segments import settled_segments, to_transcript

LONG = {"waveform": speech()[: 8 * RATE], "sample_rate": RATE}


class ElsewhereScribe:
    """Lets another thread write; says which threads asked."""

    def __init__(self, scribe: Scribe[Any], pool: ThreadPoolExecutor) -> None:
        self._scribe, self._pool = scribe, pool
        self.num_rows = 0

    def write(self, rows: list[Any]) -> list[Written]:
        self.num_rows += len(rows)
        return self._pool.submit(self._write, rows).result()

    def _write(self, rows: list[Any]) -> list[Written]:
        assert current_thread().name.startswith("model")
        return self._scribe.write(rows)


@pytest.mark.parametrize("case", ["llm_asr_lid", "streaming"])
@pytest.mark.parametrize("word_timestamps", [False, True])
def test_another_thread_writes_the_same(case: str, word_timestamps: bool) -> None:
    pipeline = create_pipeline(case)
    chunk_secs = None if case == "streaming" else 2.0
    options = TranscribeOptions(
        chunk_secs=chunk_secs, word_timestamps=word_timestamps, no_speech_threshold=1.0
    )
    (expected,) = pipeline.stream_results(LONG, options)
    assert expected.text
    settled: list[str] = []

    def note(job: Job, secs: float) -> None:
        settled.append("".join(segment.text for segment in settled_segments(job)))

    with ThreadPoolExecutor(1, "model") as pool:
        plan = pipeline.plan(options)
        scribe = ElsewhereScribe(plan.scribe, pool)
        inputs = pipeline.inputs([LONG], None, None)
        (job,) = replace(plan, scribe=scribe).run(inputs, note)
    found = to_transcript(job)
    assert replace(found, timings=expected.timings) == expected
    assert scribe.num_rows > 1
    assert settled[-1].strip() == expected.text
    assert all(settled[-1].startswith(text) for text in settled), "what is settled stays"


def test_live_audio_is_written_by_the_scribe_of_the_plan() -> None:
    pipeline = create_pipeline("streaming")
    options = TranscribeOptions(no_speech_threshold=1.0)
    audio = torch.from_numpy(noise(3.0))
    expected = pipeline.live(options)
    expected.feed(audio)
    expected.finish()
    with ThreadPoolExecutor(1, "model") as pool:
        plan = pipeline.plan(options, is_live=True)
        scribe = ElsewhereScribe(plan.scribe, pool)
        session = replace(plan, scribe=scribe).listen(pipeline.inputs([b""], None, None)[0])
        session.feed(audio)
        session.finish()
    assert session.segments == expected.segments
    assert scribe.num_rows >= 3


def test_what_overlaps_the_next_window_is_not_settled() -> None:
    pipeline = create_pipeline()
    texts: list[str] = []

    def note(job: Job, secs: float) -> None:
        texts.append("".join(segment.text for segment in settled_segments(job)))

    options = TranscribeOptions(vad=False, chunk_secs=1.0, batch_secs=1.0, no_speech_threshold=1.0)
    plan = pipeline.plan(options)
    (job,) = plan.run(pipeline.inputs([LONG], None, None), note)
    assert len(set(texts)) > 2
    final = "".join(segment.text for segment in to_transcript(job).segments)
    assert texts[-1] == final
    assert all(final.startswith(text) for text in texts)
