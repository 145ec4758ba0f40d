"""Transcripts in the forms of OpenAI's speech endpoints."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any, Final, TypeAlias

from wavellama.transcript.options import READABLE, WriterOptions
from wavellama.transcript.records import write_json
from wavellama.transcript.subtitles import write_srt, write_vtt
from wavellama.transcript.types import Segment, Transcript

Json: TypeAlias = dict[str, Any]

CONTENT_TYPES: Final[Mapping[str, str]] = {
    "json": "application/json",
    "verbose_json": "application/json",
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}
"""The formats of replies, and what each is sent as."""

_NUMBERS: Final = ("avg_logprob", "compression_ratio", "no_speech_prob")
"""What typed clients take for numbers, even where nothing is known."""


def to_body(
    transcript: Transcript,
    response_format: str,
    granularities: Iterable[str],
    token_texts: Sequence[str] | None,
) -> str:
    """Return the body of a reply.

    :param granularities: which times ``verbose_json`` has: ``segment``, ``word`` or both.
    :param token_texts: what each token writes, where probabilities of tokens are asked for.
    """
    if response_format == "text":
        return transcript.text
    if response_format == "srt":
        return write_srt(transcript, READABLE)
    if response_format == "vtt":
        return write_vtt(transcript, READABLE)
    if response_format == "verbose_json":
        return dump(verbose_record(transcript, granularities))
    return dump(plain_record(transcript, token_texts))


def plain_record(transcript: Transcript, token_texts: Sequence[str] | None) -> Json:
    """Return what ``json`` tells."""
    record: Json = {"text": transcript.text, **_languages(transcript), **_usage(transcript)}
    if token_texts is not None:
        record["logprobs"] = logprobs(transcript.segments, token_texts)
    return record


def verbose_record(transcript: Transcript, granularities: Iterable[str]) -> Json:
    """Return what ``verbose_json`` tells."""
    record = json.loads(write_json(transcript, WriterOptions()))
    segments = record["segments"]
    words = [word for segment in segments for word in segment.pop("words", ())]
    for segment in segments:
        segment |= {name: segment[name] or 0.0 for name in _NUMBERS}
    verbose: Json = {
        "task": "transcribe",
        "language": transcript.language or "",
        "duration": record["duration"],
        "text": transcript.text,
        **_languages(transcript),
        **_usage(transcript),
    }
    if "segment" in granularities:
        verbose["segments"] = segments
    if "word" in granularities:
        verbose["words"] = [{**word, "word": word["word"].strip()} for word in words]
    return verbose


def delta_event(delta: str, segments: Sequence[Segment], token_texts: Sequence[str] | None) -> Json:
    """Return the event that tells more of the text."""
    event: Json = {"type": "transcript.text.delta", "delta": delta}
    if token_texts is not None:
        event["logprobs"] = logprobs(segments, token_texts)
    return event


def done_event(
    transcript: Transcript, granularities: Iterable[str], token_texts: Sequence[str] | None
) -> Json:
    """Return the event that ends a stream; what ``verbose_json`` tells comes with it."""
    event = {"type": "transcript.text.done", **verbose_record(transcript, granularities)}
    del event["task"], event["usage"]  # in an event, a usage counts tokens
    if token_texts is not None:
        event["logprobs"] = logprobs(transcript.segments, token_texts)
    return event


def logprobs(segments: Iterable[Segment], token_texts: Sequence[str]) -> list[Json]:
    """Return how probable each token was; nothing of segments where that is not known."""
    return [
        {"token": text, "bytes": [*text.encode()], "logprob": round(logprob, 6)}
        for segment in segments
        for token, logprob in zip(segment.tokens, segment.token_logprobs, strict=False)
        for text in (token_texts[token],)
    ]


def dump(record: Json) -> str:
    """Return JSON in one line."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def _languages(transcript: Transcript) -> Json:
    codes = dict.fromkeys(segment.language for segment in transcript.segments)
    languages = [{"code": code} for code in codes if code is not None]
    return {"languages": languages} if languages else {}


def _usage(transcript: Transcript) -> Json:
    return {"usage": {"type": "duration", "seconds": ceil(transcript.duration)}}
