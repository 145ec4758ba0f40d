"""Transcripts as JSON: the fields that openai-whisper writes, and ours."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any, Final, TypeAlias

from wavellama.transcript.options import WriterOptions
from wavellama.transcript.pieces import spell_words
from wavellama.transcript.types import Segment, Transcript
from wavellama.units import seconds_to_ms

Record: TypeAlias = dict[str, Any]

FRAMES_PER_SECOND: Final = 100
"""Whisper's frames, in which ``seek`` counts."""

_SEPARATORS: Final = {ord(char): f"\\u{ord(char):04x}" for char in "\x7f\x85\u2028\u2029"}
"""What some readers take for the end of a line, although JSON lets it stand."""


def write_json(transcript: Transcript, options: WriterOptions) -> str:
    """Return a transcript as one JSON object in one line, so that several can follow each other.

    :raises ValueError: the words of a segment do not stand in its text.
    """
    text = json.dumps(_to_record(transcript), ensure_ascii=False, allow_nan=False)
    return text.translate(_SEPARATORS) + "\n"


def _to_record(transcript: Transcript) -> Record:
    has_words = any(segment.words for segment in transcript.segments)
    return {
        "text": transcript.text,
        "segments": [
            {"id": i, **_segment_record(segment), **(_words_record(segment) if has_words else {})}
            for i, segment in enumerate(transcript.segments)
        ],
        "language": transcript.language,
        "language_probability": _number(transcript.language_probability),
        "source": transcript.source,
        "duration": _number(transcript.duration),
        "timings": {name: _number(secs) for name, secs in asdict(transcript.timings).items()},
    }


def _segment_record(segment: Segment) -> Record:
    """Return all but the words; whisper's fields first."""
    return {
        "seek": round(max(segment.start, 0.0) * FRAMES_PER_SECOND),
        **_span(segment.start, segment.end),
        "text": segment.text,
        "tokens": segment.tokens,
        "temperature": 0.0,  # nothing is sampled
        "avg_logprob": _number(segment.avg_logprob),
        "compression_ratio": _number(segment.compression_ratio),
        "no_speech_prob": _number(segment.no_speech_prob),
        "confidence": _number(segment.confidence),
        "language": segment.language,
        "language_probability": _number(segment.language_probability),
        "stop_reason": segment.stop_reason,
        "alternatives": [
            {"text": item.text, "score": _number(item.score)} for item in segment.alternatives
        ],
    }


def _words_record(segment: Segment) -> Record:
    """Return the words; as whisper's, they begin with the space before them."""
    spelled = spell_words(segment.text, [word.text for word in segment.words])
    words = [
        {"word": text, **_span(word.start, word.end), "probability": _number(word.confidence)}
        for text, word in zip(spelled, segment.words, strict=True)
    ]
    return {"words": words}


def _span(start: float, end: float) -> Record:
    """Return two times in milliseconds' precision, the first not below 0 or behind the second."""
    first = max(0, seconds_to_ms(start))
    return {"start": first / 1000, "end": max(first, seconds_to_ms(end)) / 1000}


def _number(value: float | None) -> float | None:
    """Return a number as JSON can hold it: one that is not finite becomes null."""
    return round(value, 6) if value is not None and math.isfinite(value) else None
