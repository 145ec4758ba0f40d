"""From hypotheses to segments, and from segments to a transcript."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from fairseq2.data.tokenizers import load_tokenizer

from wavellama.audio.chunks import Chunk
from wavellama.audio.regions import SpeechRegion
from wavellama.pipeline.inputs import Input
from wavellama.pipeline.jobs import Clip, Job
from wavellama.pipeline.options import TranscribeOptions
from wavellama.pipeline.recogniser import Recognition
from wavellama.pipeline.segments import SegmentBuilder, to_transcript
from wavellama.search.types import Hypothesis
from wavellama.transcript.calibration import Confidence
from wavellama.transcript.types import Segment, Transcript

RATE = 16_000


def even_times(clip: Clip, segment: Segment, spans: Sequence[slice]) -> list[tuple[float, float]]:
    """Give each word a tenth of a second."""
    return [(i / 10, (i + 1) / 10) for i in range(len(spans))]


def joined(*segments: Segment, is_continuous: bool = False) -> Transcript:
    job = Job(Input(0, "a.wav"), is_continuous=is_continuous, num_samples=10 * RATE)
    for i, segment in enumerate(segments):
        job.add(i, segment, (segment.start, segment.end))
    job.num_clips = len(segments)
    return to_transcript(job)


def segment(text: str, start: float, end: float, language: str | None = None) -> Segment:
    return Segment(text=text, start=start, end=end, language=language, language_probability=0.5)


def test_spaces_stand_where_the_scripts_have_them() -> None:
    parts = [segment(text, i, i + 1) for i, text in enumerate(["one", "", "two", "天", "気"])]
    transcript = joined(*parts)
    assert transcript.text == "one two 天気"
    assert [part.text for part in transcript.segments] == ["one", " two", " 天", "気"]


def test_the_texts_of_streaming_models_follow_each_other_as_they_are() -> None:
    parts = segment("on", 0, 1), segment("e two", 1, 2)
    assert joined(*parts, is_continuous=True).text == "one two"


def test_the_language_is_that_of_most_of_the_time() -> None:
    transcript = joined(
        segment("a", 0, 1, "eng_Latn"),
        segment("b", 1, 2, "eng_Latn"),
        segment("c", 2, 5, "deu_Latn"),
    )
    assert (transcript.language, transcript.language_probability) == ("deu_Latn", 0.5)


def build(tokens: list[int], logprobs: list[float], finished: bool = True) -> Segment:
    options = TranscribeOptions(no_speech_threshold=1.0)
    builder = SegmentBuilder(load_tokenizer("toy_tokenizer"), options, Confidence(), even_times)
    regions = (SpeechRegion(RATE + 400, RATE + 8_000, 0.9),)
    chunk = Chunk(torch.zeros(RATE), RATE, regions, 0.9)
    clip = Clip(Job(Input(0, "a.wav")), 0, chunk)
    hypothesis = Hypothesis(tokens, -1.0, logprobs, finished, "eos" if finished else "length")
    return builder.build(clip, Recognition([hypothesis], "deu_Latn"))


def test_words_have_the_confidence_of_their_own_tokens() -> None:
    tokens = load_tokenizer("toy_tokenizer").create_encoder()("ab ba").tolist()
    logprobs = [-0.1] * 2 + [-2.0] * (len(tokens) - 2) + [-9.0]
    built = build(tokens, logprobs)
    assert [word.text for word in built.words] == ["ab", "ba"]
    first, second = (word.confidence for word in built.words)
    assert first is not None
    assert second is not None
    assert first > second
    assert built.confidence == Confidence().of_word(logprobs), "of all tokens, the end too"
    assert [built.start, built.end] == pytest.approx([1.0, 1.2])
    assert built.no_speech_prob == pytest.approx(0.1)


@pytest.mark.parametrize("finished", [True, False])
def test_nothing_is_said_of_words_among_which_control_tokens_were_written(finished: bool) -> None:
    tokens = load_tokenizer("toy_tokenizer").create_encoder()("ab ba").tolist()
    built = build(tokens, [-0.1] * (len(tokens) + 1 + finished), finished)
    assert [word.confidence for word in built.words] == [None, None]


def test_a_segment_without_a_text_has_no_words() -> None:
    assert build([], [-0.5]).words == ()
