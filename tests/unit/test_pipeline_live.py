"""Live transcription: what comes out does not depend on how the audio came in."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.unit.test_pipeline_inference import RATE, create_pipeline, noise
from wavellama import (
    ASRInferencePipeline,
    ContextExample,
    TranscribeOptions,
    Wav2Vec2LlamaModel,
)
from wavellama.audio.chunks import Chunk, HeldAudio
from wavellama.audio.load import load_audio
from wavellama.errors import AudioError, BatchError, ConfigError
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.pipeline.jobs import Clip
from wavellama.pipeline.live import STEP, LiveSession, LiveUpdate
from wavellama.pipeline.recogniser import LlamaRecogniser, Recognition

MINI = Path(__file__).parents[2] / "assets/corpora/mini"

SEARCH = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=8)


@cache
def speech() -> Tensor:
    """Return recordings of a person with a second of silence after each. (T)."""
    files = sorted((MINI / "audio/ita_Latn").rglob("*.ogg"))[:5]
    silence = torch.zeros(RATE)
    return torch.cat([part for file in files for part in (load_audio(file), silence)])


def options(**changes: object) -> TranscribeOptions:
    fields = {"search": SEARCH, "normalization": "causal", "update_secs": 0.5}
    fields |= {"no_speech_threshold": 1.0, **changes}  # noise stands for speech
    return TranscribeOptions(**fields)  # type: ignore[arg-type]


def run(
    pipeline: ASRInferencePipeline, audio: Tensor, piece: int, chosen: TranscribeOptions
) -> tuple[list[LiveUpdate], str]:
    """Feed audio in pieces; return all updates, and the text."""
    session = pipeline.live(chosen)
    updates: list[LiveUpdate] = []
    for samples in torch.split(audio, piece):
        before = session.text
        updates += session.feed(samples)
        assert session.text.startswith(before), "what is stable never changes"
    updates.append(session.finish())
    assert session.text == "".join(update.stable for update in updates).strip()
    return updates, session.text


@pytest.mark.parametrize("name", ["llm_asr_lid", "streaming"])
def test_how_audio_arrives_changes_nothing(name: str) -> None:
    pipeline = create_pipeline(name)
    audio = speech()
    expected, text = run(pipeline, audio, len(audio), options())
    assert len(expected) > 5
    assert text
    for secs in (0.02, 0.1, 1.0):
        assert run(pipeline, audio, round(secs * RATE), options()) == (expected, text)


def test_each_utterance_is_stable_after_the_silence_that_follows_it() -> None:
    updates, _ = run(create_pipeline(), speech(), 1600, options())
    stable = [update for update in updates if update.segments]
    assert len(stable) >= 5
    delays = sorted(update.time - update.segments[0].end for update in stable[:-1])
    assert 0.5 < delays[len(delays) // 2] < 0.8, "the rest is speech without silences, cut"
    for update in stable:
        (segment,) = update.segments
        assert update.tentative == ""
        assert segment.no_speech_prob is not None
        assert segment.no_speech_prob < 0.5


def test_tentative_texts_come_as_often_as_asked_for() -> None:
    pipeline, audio = create_pipeline(), speech()
    counts = []
    for secs in (0.3, 1.0):
        updates, _ = run(pipeline, audio, 1600, options(update_secs=secs))
        counts.append(sum(not update.segments for update in updates))
    assert counts[0] > counts[1] > 0


def test_short_silences_end_nothing_where_longer_ones_are_asked_for() -> None:
    pipeline = create_pipeline()
    counts = [
        sum(bool(u.segments) for u in run(pipeline, speech(), 1600, options(endpoint_secs=s))[0])
        for s in (0.3, 2.0)
    ]
    assert counts[0] > counts[1]


def test_long_phrases_do_not_wait_until_they_have_to_be_cut() -> None:
    """The pauses between these lines are shorter than an endpoint."""
    sonnet = load_audio(MINI / "audio/sonnet.ogg")[: 20 * RATE]
    updates, _ = run(create_pipeline(), sonnet, 1600, options(chunk_secs=5.0, update_secs=3600.0))
    delays = [update.time - update.segments[0].end for update in updates if update.segments]
    assert len(delays) > 4
    assert max(delays) < 0.8


def test_speech_without_silences_is_cut() -> None:
    pipeline = create_pipeline()
    audio = torch.cat([load_audio(file) for file in sorted((MINI / "audio").rglob("*.ogg"))[:8]])
    updates, _ = run(pipeline, audio, 1600, options(chunk_secs=2.0, endpoint_secs=60.0))
    segments = [segment for update in updates for segment in update.segments]
    assert len(segments) > len(audio) / RATE / 2.5
    assert all(segment.end - segment.start <= 2.0 + 1e-6 for segment in segments)


@pytest.mark.parametrize(
    "changes", [{"chunk_secs": 2.0, "endpoint_secs": 60.0}, {"endpoint_secs": 0.1}]
)
def test_pieces_have_nothing_in_common(
    changes: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their margins once reached into the speech before and after them."""
    chunks: list[Chunk] = []
    recognise = LlamaRecogniser.recognise

    def listen(recogniser: LlamaRecogniser, clips: list[Clip]) -> list[Recognition]:
        chunks.extend(clip.chunk for clip in clips)
        return recognise(recogniser, clips)

    monkeypatch.setattr(LlamaRecogniser, "recognise", listen)
    session = create_pipeline().live(options(update_secs=3600.0, **changes))
    session.feed(speech()[: 8 * RATE])
    session.finish()
    assert len(chunks) > 3
    assert all(first.end <= second.start for first, second in pairwise(chunks))
    assert all(len(chunk.waveform) <= changes.get("chunk_secs", 8.0) * RATE for chunk in chunks)


def test_what_was_heard_when_it_was_interrupted_is_not_heard_again() -> None:
    heard: list[float] = []

    class Interrupted:
        def hear(self, samples: Tensor) -> None:
            heard.extend(samples.tolist())
            if len(heard) == 2 * STEP:
                raise KeyboardInterrupt

        def end(self) -> LiveUpdate:
            return LiveUpdate(0.0, (), "")

    session, audio = LiveSession(Interrupted()), torch.arange(3.0 * STEP)
    with pytest.raises(KeyboardInterrupt):
        session.feed(audio[: 2 * STEP + 9])
    session.feed(audio[2 * STEP + 9 :])
    session.finish()
    assert heard == audio.tolist()


def test_a_streaming_model_says_live_what_it_says_of_the_file() -> None:
    pipeline = create_pipeline("streaming")
    audio = torch.from_numpy(noise(3.3))
    (transcript,) = pipeline.stream_results({"waveform": audio, "sample_rate": RATE}, options())
    assert run(pipeline, audio, 777, options())[1] == transcript.text


def test_zero_shot_models_read_examples_first() -> None:
    pipeline = create_pipeline("zero_shot")
    example = ContextExample({"waveform": noise(0.5), "sample_rate": RATE}, "ab")
    session = pipeline.live(options(normalization="clip"), examples=[example])
    session.feed(speech()[: 3 * RATE])
    assert session.finish().tentative == ""
    with pytest.raises(BatchError, match="reads examples"):
        pipeline.live(options())


def test_the_end_may_come_at_any_sample() -> None:
    """What the last, short step of a stream made known was once lost."""
    pipeline = create_pipeline("streaming")
    assert isinstance(pipeline.model, Wav2Vec2LlamaModel)
    secs = pipeline.model.streaming_config.segment_secs
    for extra in (300, 400, 401, 500, 900):
        audio = torch.from_numpy(noise(4.0))[: round(secs * RATE) + extra]
        (transcript,) = pipeline.stream_results({"waveform": audio, "sample_rate": RATE}, options())
        updates, text = run(pipeline, audio, len(audio), options())
        assert text == transcript.text
        assert sum(len(update.segments) for update in updates) == len(transcript.segments)


def test_samples_of_any_type() -> None:
    pipeline = create_pipeline()
    audio = (speech()[: 4 * RATE] * 32_767).to(torch.int16)
    as_float = audio.float() / 32_768
    texts = []
    for samples in (as_float, audio, audio.numpy(), as_float.double().numpy()):
        session = pipeline.live(options())
        session.feed(samples)
        session.finish()
        texts.append(session.text)
    assert texts[0]
    assert len(set(texts)) == 1


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (torch.zeros(2, 1_600), r"mono samples, but got float32 of the shape \(2, 1600\)"),
        (torch.full((1_600,), float("nan")), "NaN or infinite"),
        (torch.zeros(10, dtype=torch.bool).numpy(), "bool"),
        (torch.tensor([0, 300, -300]), "64-bit integers"),
    ],
)
def test_what_is_no_mono_audio_is_refused(samples: Tensor, words: str) -> None:
    with pytest.raises(AudioError, match=words):
        create_pipeline().live(options()).feed(samples)


def test_silence_and_nothing_at_all_are_no_text() -> None:
    for name in ("llm_asr_lid", "streaming"):
        pipeline = create_pipeline(name)
        assert run(pipeline, torch.zeros(10), 3, options())[1] == ""
    assert run(create_pipeline(), torch.zeros(3 * RATE), 1600, options())[1] == ""


def test_what_is_kept_of_the_audio_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    forget, starts = HeldAudio.drop_before, list[int]()

    def record(held: HeldAudio, start: int) -> None:
        starts.append(start)
        forget(held, start)

    monkeypatch.setattr(HeldAudio, "drop_before", record)
    create_pipeline().live(options()).feed(torch.zeros(20 * RATE))
    assert starts[-1] > 19 * RATE


def test_a_streaming_model_cannot_be_normalised_by_what_is_not_there_yet() -> None:
    with pytest.raises(ConfigError, match="choose causal"):
        create_pipeline("streaming").live(options(normalization="clip"))
