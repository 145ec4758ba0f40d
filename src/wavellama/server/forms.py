"""What a client asks for: the fields of a form, as the clients of OpenAI's endpoint write them.

Lists come as ``name[]``, as ``name`` several times, or as one ``name`` with commas or JSON. A field
that nobody knows is left aside, since clients send what other servers know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.datastructures import FormData, UploadFile

from wavellama.errors import WavellamaError
from wavellama.pipeline.options import TranscribeOptions
from wavellama.server.errors import from_wavellama, invalid, missing, unsupported
from wavellama.server.options import OWN_OPTIONS, to_options
from wavellama.server.replies import CONTENT_TYPES

GRANULARITIES: Final = ("segment", "word")

INCLUDES: Final = ("logprobs",)

STREAMED: Final = ("json", "text", "verbose_json")
"""The formats that can be asked for together with a stream, whose events are always JSON."""

NO_DIARISATION: Final = "This server does not tell speakers apart."

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "lang": ("language", "lang"),
    "languages": ("languages", "language_candidates"),
    "hotwords": ("keywords", "hotwords"),
}
"""The fields of options that have several names; those of OpenAI first."""

TRUE: Final = ("true", "1", "yes", "on")
FALSE: Final = ("false", "0", "no", "off", "")


@dataclass(frozen=True)
class Asked:
    """A request for a transcription."""

    file: UploadFile
    model: str | None
    options: TranscribeOptions

    names: Mapping[str, str]
    """What the client calls options that have several names."""

    response_format: str = "json"
    granularities: tuple[str, ...] = ("segment",)
    wants_logprobs: bool = False
    is_stream: bool = False


class Fields:
    """The fields of a form."""

    def __init__(self, items: Iterable[tuple[str, Any]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in items:
            if isinstance(value, str):
                self._values.setdefault(name.strip(), []).append(value)

    def text(self, name: str) -> str | None:
        """Return a value; None where it is missing or empty. Of several the last one holds."""
        values = self._values.get(name, [""])
        return values[-1].strip() or None

    def texts(self, *names: str) -> tuple[str, ...]:
        """Return a list, in any of its spellings, under any of some names."""
        found = [value for name in names for value in self._values.get(f"{name}[]", [])]
        for name in names:
            values = self._values.get(name, [])
            found += _split(values[0]) if len(values) == 1 else values
        return tuple(dict.fromkeys(text.strip() for text in found if text.strip()))

    def flag(self, name: str) -> bool:
        """Return whether something is asked for.

        :raises ApiError: the value is neither true nor false.
        """
        return to_flag(name, self.text(name) or "")

    def has(self, *names: str) -> bool:
        """Return whether one of some fields is there, or a part of one (``name[...]``)."""
        return any(key.partition("[")[0] in names for key in self._values)


def to_flag(name: str, text: str) -> bool:
    """Return what a text says.

    :raises ApiError: it is neither true nor false.
    """
    if text.lower() in TRUE:
        return True
    if text.lower() not in FALSE:
        raise invalid(name, f"`{name}` must be true or false, but is {text!r}.")
    return False


def _split(text: str) -> Sequence[str]:
    """Return the items of a list that came as one value."""
    if text.lstrip().startswith("["):
        try:
            return [str(item) for item in json.loads(text)]
        except (ValueError, TypeError, RecursionError):
            pass  # no JSON after all
    return text.split(",")


def read_form(form: FormData) -> Asked:
    """Return what a form asks for.

    :raises ApiError: the file is missing, or a value cannot be honoured.
    """
    file, fields = form.get("file"), Fields(form.multi_items())
    if not isinstance(file, UploadFile):
        raise missing("file", "The form needs a part `file` with the audio.")
    response_format = _read_format(fields)
    granularities = _read_granularities(fields, response_format)
    has_words = "word" in granularities or response_format in ("srt", "vtt")
    for name in ("known_speaker_names", "known_speaker_references"):
        if fields.has(name):
            raise unsupported(name, NO_DIARISATION)
    _check_temperature(fields)
    names = _read_names(fields)
    return Asked(
        file,
        fields.text("model"),
        _read_options(fields, names, has_words),
        names,
        response_format,
        granularities,
        _read_include(fields, response_format),
        _read_stream(fields, response_format),
    )


def _read_format(fields: Fields) -> str:
    name = fields.text("response_format") or "json"
    if name == "diarized_json":
        raise unsupported("response_format", NO_DIARISATION)
    if name not in CONTENT_TYPES:
        known = ", ".join(CONTENT_TYPES)
        raise invalid("response_format", f"`response_format` must be one of {known}, not {name!r}.")
    return name


def _read_granularities(fields: Fields, response_format: str) -> tuple[str, ...]:
    asked = fields.texts("timestamp_granularities")
    for name in asked:
        if name not in GRANULARITIES:
            raise invalid("timestamp_granularities", f"There are no times of {name!r}.")
    if asked and response_format != "verbose_json" and not fields.flag("stream"):
        raise invalid("timestamp_granularities", "Only `verbose_json` and a stream have times.")
    return asked or ("segment",)


def _read_include(fields: Fields, response_format: str) -> bool:
    asked = fields.texts("include")
    for name in asked:
        if name not in INCLUDES:
            raise invalid("include", f"`include` knows {', '.join(INCLUDES)}, not {name!r}.")
    if asked and response_format != "json":
        raise invalid("include", "`logprobs` come with `response_format` json alone.")
    return bool(asked)


def _read_stream(fields: Fields, response_format: str) -> bool:
    is_stream = fields.flag("stream")
    if is_stream and response_format not in STREAMED:
        raise unsupported("stream", f"{response_format} cannot be streamed; ask for json.")
    return is_stream


def _check_temperature(fields: Fields) -> None:
    """Check a value that has no effect, since nothing is sampled."""
    text = fields.text("temperature") or "0"
    try:
        is_fine = 0.0 <= float(text) <= 1.0
    except ValueError:
        is_fine = False
    if not is_fine:
        raise invalid("temperature", f"`temperature` must lie between 0 and 1, but is {text!r}.")


def _read_names(fields: Fields) -> Mapping[str, str]:
    """Return what the client calls the options that have several names."""
    names = {
        option: next((name for name in several if fields.has(name)), several[0])
        for option, several in ALIASES.items()
    }
    if not fields.has(*ALIASES["lang"]) and fields.has(*ALIASES["languages"]):
        names["lang"] = names["languages"]  # a code that nobody knows stands there
    return names


def _read_options(fields: Fields, names: Mapping[str, str], has_words: bool) -> TranscribeOptions:
    """Return the options; a strategy of server-side cutting means cutting in silences."""
    given: dict[str, Any] = {
        name: fields.texts(name) if is_list else fields.text(name)
        for name, is_list in OWN_OPTIONS.items()
    }
    given["lang"] = fields.text("language") or given.get("lang")
    given |= {name: fields.texts(*ALIASES[name]) for name in ("languages", "hotwords")}
    if has_words:
        given["word_timestamps"] = "true"
    if _cuts_in_silences(fields):
        given["vad"] = given["vad"] or "true"
    try:
        return to_options(given)
    except WavellamaError as ex:
        raise from_wavellama(ex, names) from ex


def _cuts_in_silences(fields: Fields) -> bool:
    """Return whether ``chunking_strategy`` asks for a voice detection."""
    kind = fields.text("chunking_strategy[type]")
    strategy = fields.text("chunking_strategy")
    if strategy and strategy.startswith("{"):
        try:
            record: Mapping[str, Any] = json.loads(strategy)
        except (ValueError, RecursionError):
            record = {}
        kind = str(record.get("type"))
    elif strategy not in (None, "auto"):
        kind = strategy
    if kind not in (None, "auto", "server_vad"):
        raise invalid("chunking_strategy", "`chunking_strategy` must be auto or server_vad.")
    return kind == "server_vad"
