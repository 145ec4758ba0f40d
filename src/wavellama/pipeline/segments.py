"""From what was recognised in a clip to a segment, and from segments to a transcript."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count, pairwise, takewhile
from typing import final

import torch
from fairseq2.data.tokenizers import Tokenizer

from wavellama.audio.chunks import Chunk
from wavellama.decoding.token_texts import word_token_spans
from wavellama.pipeline.jobs import Clip, Job
from wavellama.pipeline.options import TranscribeOptions
from wavellama.pipeline.overlap import join_windows
from wavellama.pipeline.recogniser import Recognition
from wavellama.pipeline.silence import drop_unspoken
from wavellama.pipeline.word_times import WordTimer
from wavellama.search.types import Hypothesis
from wavellama.text.words import needs_space, split_words
from wavellama.transcript.calibration import Confidence
from wavellama.transcript.types import Alternative, Segment, Timings, Transcript, Word
from wavellama.units import samples_to_seconds


@final
class SegmentBuilder:
    """Turns hypotheses into segments with times."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        options: TranscribeOptions,
        confidence: Confidence,
        timer: WordTimer | None,
    ) -> None:
        """:param timer: finds the times of words; None leaves them out."""
        self._decode, self._options = tokenizer.create_decoder(), options
        self._confidence, self._timer = confidence, timer

    def build(self, clip: Clip, recognition: Recognition) -> Segment:
        """Return the segment of a clip, with times from the beginning of the input."""
        best = recognition.hypotheses[0]
        spoken, (start, end) = clip.chunk.speech_probability, _speech_span(clip.chunk)
        segment = Segment(
            text=self.to_text(best.tokens),
            start=start,
            end=end,
            tokens=tuple(best.tokens),
            token_logprobs=_logprobs_of_text(best),
            alternatives=self._alternatives(recognition.hypotheses),
            avg_logprob=_mean(best.token_logprobs),
            confidence=self._confidence.of_word(best.token_logprobs),
            no_speech_prob=None if spoken is None else 1.0 - spoken,
            language=recognition.language,
            language_probability=recognition.language_probability,
            stop_reason=best.stop_reason,
        )
        with clip.job.timed("audio"):
            segment = drop_unspoken(segment, clip.chunk, self._options)
        if self._timer is None:
            return segment
        with clip.job.timed("alignment"):
            return self._add_words(segment, clip, best, self._timer)

    def to_text(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        return self._decode(torch.tensor(tokens, dtype=torch.int64)) if tokens else ""

    def continue_text(self, before: Sequence[int], tokens: Sequence[int]) -> str:
        """Return the text of tokens that follow others, with the space in front of it."""
        return self.to_text([*before, *tokens])[len(self.to_text(before)) :]

    def _alternatives(self, hypotheses: Sequence[Hypothesis]) -> tuple[Alternative, ...]:
        shown = hypotheses[: self._options.nbest] if self._options.nbest > 1 else ()
        return tuple(Alternative(self.to_text(h.tokens), h.score) for h in shown)

    def _add_words(
        self, segment: Segment, clip: Clip, best: Hypothesis, timer: WordTimer
    ) -> Segment:
        """Return the segment with the times of its words, between which it then lies."""
        words = split_words(segment.text, segment.language)
        if not words:
            return segment
        spans = word_token_spans(self._decode, best.tokens, words)
        times = timer(clip, segment, spans)
        offset = samples_to_seconds(clip.chunk.start)
        timed = tuple(
            Word(word.text, offset + start, offset + end, self._word_confidence(best, span))
            for word, (start, end), span in zip(words, times, spans, strict=True)
        )
        return replace(segment, words=timed, start=timed[0].start, end=timed[-1].end)

    def _word_confidence(self, hypothesis: Hypothesis, span: slice) -> float | None:
        """Return how probable a word is; nothing is known where BOS or padding was written, too."""
        if not _is_exact(hypothesis):
            return None
        return self._confidence.of_word(hypothesis.token_logprobs[span])


def to_transcript(job: Job) -> Transcript:
    """Return what was said in an input, whose clips have all been recognised."""
    segments = _join_clips(job, sorted(job.segments))
    language, probability = _main_language(segments)
    return Transcript(
        source=job.input.name,
        index=job.input.index,
        segments=tuple(segments),
        duration=samples_to_seconds(job.num_samples),
        language=language,
        language_probability=probability,
        timings=Timings(**{f"{work}_secs": secs for work, secs in job.secs.items()}),
    )


def settled_segments(job: Job) -> list[Segment]:
    """Return those segments of an input that will not change any more, while it is recognised."""
    if job.is_done:
        return _join_clips(job, sorted(job.segments))
    segments = _join_clips(job, takewhile(job.segments.__contains__, count()))
    # Windows, in which nobody looked for speech, have audio in common with the next one.
    is_last_open = not job.is_continuous and any(one.no_speech_prob is None for one in segments)
    return segments[:-1] if is_last_open else segments


def _join_clips(job: Job, numbers: Iterable[int]) -> list[Segment]:
    """Return the segments of clips that have a text, with nothing written twice."""
    joined: list[Segment] = []
    previous_end = 0.0
    for number in numbers:
        segment, (begin, end) = job.segments[number], job.spans[number]
        if joined and begin < previous_end:
            joined[-1:] = join_windows(joined[-1], segment, (begin, previous_end))
        else:
            joined.append(segment)
        previous_end = end
    segments = [segment for segment in joined if segment.text]
    return segments if job.is_continuous else _with_spaces(segments)


def _with_spaces(segments: Sequence[Segment]) -> list[Segment]:
    """Return the segments with a space in front of those that need one."""
    spaced = list(segments[:1])
    for before, segment in pairwise(segments):
        space = " " if needs_space(before.text, segment.text) else ""
        spaced.append(replace(segment, text=f"{space}{segment.text}"))
    return spaced


def _main_language(segments: Sequence[Segment]) -> tuple[str | None, float | None]:
    """Return the language of most of the time, and its mean probability in its segments."""
    secs: defaultdict[str, float] = defaultdict(float)
    for segment in segments:
        if segment.language is not None:
            secs[segment.language] += segment.end - segment.start
    if not secs:
        return None, None
    language = max(secs, key=lambda code: secs[code])
    found = [
        segment.language_probability
        for segment in segments
        if segment.language == language and segment.language_probability is not None
    ]
    return language, _mean(found)


def _speech_span(chunk: Chunk) -> tuple[float, float]:
    """Return when speech begins and ends in a chunk, in seconds of the input."""
    begin, end = chunk.start, chunk.start + len(chunk.waveform)
    if chunk.regions:
        begin = max(begin, chunk.regions[0].start)
        end = min(end, chunk.regions[-1].end)
    return samples_to_seconds(begin), samples_to_seconds(end)


def _logprobs_of_text(hypothesis: Hypothesis) -> tuple[float, ...]:
    logprobs = hypothesis.token_logprobs[: len(hypothesis.tokens)]
    return tuple(logprobs) if _is_exact(hypothesis) else ()


def _is_exact(hypothesis: Hypothesis) -> bool:
    """Return whether each log-probability but the last is that of a token of the text."""
    return len(hypothesis.token_logprobs) - len(hypothesis.tokens) <= hypothesis.finished


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
