"""Transcripts: segments, and words where they were asked for. All times are in seconds."""

from __future__ import annotations

import zlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word (a character, in scripts without spaces) and when it is spoken."""

    text: str
    """The word as it stands in the segment's text, punctuation included."""

    start: float
    end: float
    confidence: float | None = None
    """How probable it is that the word is right, from 0 to 1; None where nothing is known."""


@dataclass(frozen=True)
class Alternative:
    """Another hypothesis for a segment."""

    text: str
    score: float
    """The score by which the search ranks it; higher is better."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of speech and its text."""

    text: str
    """With a space in front where one separates it from the segment before."""

    start: float
    end: float
    tokens: tuple[int, ...] = ()
    token_logprobs: tuple[float, ...] = ()
    """The log-probability of each of the tokens; empty where those of a text are not known."""

    words: tuple[Word, ...] = ()
    """The words with their times; empty unless word times were asked for."""

    alternatives: tuple[Alternative, ...] = ()
    """The best hypotheses, this segment's own first; empty unless several were asked for."""

    avg_logprob: float | None = None
    """The mean log-probability of the tokens, the end of the text included."""

    confidence: float | None = None
    """How probable it is that a word of the segment is right, from 0 to 1."""

    no_speech_prob: float | None = None
    """How probable it is that nobody speaks (``pipeline.silence``); None: nobody has looked."""

    language: str | None = None
    """The code of the language: the one that was given, or the one that was detected."""

    language_probability: float | None = None
    """How probable the detected language is; None where the language was given."""

    stop_reason: str = "eos"
    """Why the text ended: ``eos``, ``length``, ``repetition`` or ``context`` (``search.types``)."""

    @property
    def compression_ratio(self) -> float:
        """How many times smaller zlib makes the text; repetitions make it large."""
        data = self.text.encode()
        return len(data) / len(zlib.compress(data))


@dataclass(frozen=True)
class Timings:
    """Where the time of a transcript went, in seconds of work."""

    audio_secs: float = 0.0
    """Reading the audio, and looking for speech in it."""

    recognition_secs: float = 0.0
    """The model: its share of the batches that the audio was part of."""

    alignment_secs: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """What was said in one input."""

    source: str
    """The path of the input, or what messages call it."""

    index: int
    """The place of the input in the list of inputs."""

    segments: tuple[Segment, ...]
    """In the order of time."""

    duration: float
    language: str | None = None
    """The language of most of the speech, where it was given or detected."""

    language_probability: float | None = None
    """How probable the detected language is, on average over its segments."""

    timings: Timings = Timings()

    @property
    def text(self) -> str:
        """The texts of all segments, one after the other."""
        return "".join(segment.text for segment in self.segments).strip()
