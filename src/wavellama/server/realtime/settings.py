"""What a session is told about its audio, in OpenAI's present form and in that of the beta."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from wavellama.audio.arrays import MAX_RATE
from wavellama.audio.regions import VadOptions
from wavellama.errors import ConfigError, WavellamaError
from wavellama.pipeline.options import MAX_UPDATE_SECS, TranscribeOptions
from wavellama.server.errors import from_wavellama, invalid
from wavellama.server.options import to_options
from wavellama.server.realtime.audio import A_LAW, MU_LAW, PCM, TELEPHONE_RATE
from wavellama.server.replies import Json, dump

LOGPROBS: Final = "item.input_audio_transcription.logprobs"
TENTATIVE: Final = "item.input_audio_transcription.tentative"
"""Ours: events with the text that may still change."""

SERVER_VAD: Final = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300}

MAX_CHARS: Final = 100_000
"""How long the settings of a session may be, as JSON."""

EAGERNESS_MS: Final = {"low": 1000, "high": 300}
"""The silence that ends a turn of ``semantic_vad``, which is a voice detection here; else 600."""

BETA_FORMATS: Final = {"pcm16": PCM, "g711_ulaw": MU_LAW, "g711_alaw": A_LAW}

BETA_NAMES: Final = {
    "input_audio_format": "format",
    "input_audio_transcription": "transcription",
    "turn_detection": "turn_detection",
    "input_audio_noise_reduction": "noise_reduction",
}
"""The fields of the beta, and what they are called now."""


@dataclass(frozen=True)
class Turns:
    """How speech is cut into items."""

    threshold: float
    prefix_ms: float
    silence_ms: float

    @property
    def vad_options(self) -> VadOptions:
        """What counts as speech.

        :raises ConfigError: a value is out of range.
        """
        return VadOptions(threshold=self.threshold, min_silence_ms=round(self.silence_ms))


@dataclass(frozen=True)
class Settings:
    """What a session does."""

    encoding: str
    rate: int
    model: str | None
    options: TranscribeOptions

    turns: Turns | None
    """None: the client says where items end."""

    transcribes: bool
    include: tuple[str, ...]


def first_record(model: str, rate: int) -> Json:
    """Return the settings of a session that nobody has changed yet."""
    return {
        "format": {"type": PCM, "rate": rate},
        "noise_reduction": None,
        "transcription": {"model": model},
        "turn_detection": {**SERVER_VAD, "silence_duration_ms": 500},
        "include": [],
    }


def updated(record: Json, session: Json, rate: int) -> Json:
    """Return settings with those that a client changes: what it leaves out stays.

    :param session: in either form.
    :param rate: what the beta's ``pcm16`` means.
    :raises ApiError: it asks for another kind of session, or for more than can be kept.
    """
    if session.get("type", "transcription") != "transcription":
        raise invalid("session.type", "This server has transcription sessions alone.")
    given = {new: session[old] for old, new in BETA_NAMES.items() if old in session}
    if isinstance(given.get("format"), str):
        given["format"] = _beta_format(given["format"], rate)
    given |= _record_of(_record_of(session.get("audio"), "audio").get("input"), "audio.input")
    if "include" in session:
        given["include"] = session["include"] or []
    merged = _merged(record, {name: given[name] for name in record if name in given})
    _check_size(merged)
    return merged


def to_settings(record: Json) -> Settings:
    """Return what a record means.

    :raises ApiError: a value cannot be honoured.
    """
    transcription = record["transcription"]
    about = _record_of(transcription, "transcription")
    encoding, rate = _read_format(_record_of(record["format"], "format"))
    turns = _read_turns(record["turn_detection"])
    include = _texts_of(record["include"], "include")
    for name in include:
        if name not in (LOGPROBS, TENTATIVE):
            raise invalid("include", f"`include` knows no {name!r}.")
    options = _read_options(about, turns, has_tentative=TENTATIVE in include)
    model = _text_of(about.get("model"), "model")
    return Settings(*(encoding, rate, model, options, turns, transcription is not None, include))


def beta_record(record: Json) -> Json:
    """Return settings as the beta's clients read them."""
    names = {new: old for old, new in BETA_FORMATS.items()}
    found = {old: record[new] for old, new in BETA_NAMES.items()}
    return {**found, "input_audio_format": names.get(record["format"]["type"], PCM)}


def _check_size(record: Json) -> None:
    """Check that a record may be kept, and told to the client."""
    try:
        is_too_long = len(dump(record)) > MAX_CHARS
    except RecursionError:
        is_too_long = True
    if is_too_long:
        raise invalid("session", f"The settings may have {MAX_CHARS} characters at most.")


def _merged(record: Json, change: Json) -> Json:
    """Return a record with a change in it, which goes into the records of one type in it."""
    merged = {**record, **change}
    for name, value in change.items():
        old = record[name]
        if isinstance(old, dict) and isinstance(value, dict):
            is_same = old.get("type") == value.get("type", old.get("type"))
            merged[name] = {**old, **value} if is_same else value
    return merged


def _beta_format(name: str, rate: int) -> Json:
    if name not in BETA_FORMATS:
        raise invalid("input_audio_format", f"The format must be one of {', '.join(BETA_FORMATS)}.")
    return {"type": BETA_FORMATS[name], **({"rate": rate} if name == "pcm16" else {})}


def _record_of(value: object, name: str) -> Mapping[str, Any]:
    """Return an object of JSON; an empty one for null."""
    if value is not None and not isinstance(value, dict):
        raise invalid(name, f"`{name}` must be an object.")
    return value or {}


def _text_of(value: object, name: str) -> str | None:
    """Return a text of JSON; None for null and for an empty one."""
    if value is not None and not isinstance(value, str):
        raise invalid(name, f"`{name}` must be a text.")
    return value or None


def _texts_of(value: object, name: str) -> tuple[str, ...]:
    """Return a list of texts; an empty one for null."""
    texts = [] if value is None else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise invalid(name, f"`{name}` must be a list of texts.")
    return tuple(texts)


def _read_format(record: Mapping[str, Any]) -> tuple[str, int]:
    encoding, rate = record.get("type", PCM), record.get("rate", 24_000)
    if encoding not in BETA_FORMATS.values():
        raise invalid(
            "format.type", f"The format must be one of {', '.join(BETA_FORMATS.values())}."
        )
    if type(rate) is not int or not TELEPHONE_RATE <= rate <= MAX_RATE:
        raise invalid("format.rate", f"`rate` must be at least {TELEPHONE_RATE}, but is {rate!r}.")
    return encoding, rate


def _read_turns(record: object) -> Turns | None:
    """Return how turns are found; None where the client says it."""
    if record is None:
        return None
    about = {**SERVER_VAD, "silence_duration_ms": 500, **_record_of(record, "turn_detection")}
    if about["type"] == "semantic_vad":
        about["silence_duration_ms"] = EAGERNESS_MS.get(str(about.get("eagerness")), 600)
    elif about["type"] != "server_vad":
        raise invalid("turn_detection.type", "Turns are found by server_vad or semantic_vad.")
    turns = Turns(
        threshold=_number(about, "threshold", 0.0, 1.0),
        prefix_ms=_number(about, "prefix_padding_ms", 0.0, 10_000.0),
        silence_ms=_number(about, "silence_duration_ms", 100.0, 60_000.0),
    )
    try:
        _ = turns.vad_options
    except ConfigError as ex:
        raise invalid("turn_detection.threshold", str(ex)) from ex
    return turns


def _number(about: Mapping[str, Any], name: str, low: float, high: float) -> float:
    """Return a number of ``turn_detection``."""
    value = about[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        message = f"`{name}` must be a number from {low:g} to {high:g}, but is {value!r}."
        raise invalid(f"turn_detection.{name}", message)
    return value


def _read_options(
    about: Mapping[str, Any], turns: Turns | None, has_tentative: bool
) -> TranscribeOptions:
    """Return the options of the pipeline."""
    silence_secs = 0.6 if turns is None else turns.silence_ms / 1000
    given: dict[str, str | tuple[str, ...] | None] = {
        "lang": _text_of(about.get("language"), "language"),
        "languages": _texts_of(about.get("languages"), "languages"),
        "hotwords": _texts_of(about.get("keywords"), "keywords"),
        "endpoint_secs": str(silence_secs),
        "update_secs": "1.0" if has_tentative else str(MAX_UPDATE_SECS),
    }
    try:
        return to_options(given)
    except WavellamaError as ex:
        raise from_wavellama(ex) from ex
