"""The formats in which transcripts are written, as openai-whisper's command line writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, TypeAlias

from wavellama.errors import ConfigError, UnknownNameError
from wavellama.plugins import load_object, registered
from wavellama.transcript.options import READABLE, WriterOptions
from wavellama.transcript.pieces import clean_text
from wavellama.transcript.records import write_json
from wavellama.transcript.subtitles import write_srt, write_vtt
from wavellama.transcript.types import Segment, Transcript
from wavellama.units import seconds_to_ms

__all__ = ["Format", "Formats", "WriterOptions", "find_formats", "format_names", "readable"]

ENTRY_POINT_GROUP: Final = "wavellama.formats"

_BREAKS: Final = "\t\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""What some program takes for the end of a cell or a line."""


@dataclass(frozen=True)
class Format:
    """A format of transcripts; its name is the suffix of its files, too."""

    write: Callable[[Transcript, WriterOptions], str]
    """Returns the contents of a file. Formats other than subtitles leave the options aside, so that
    one set of options serves all formats of a run; ``readable`` refuses those that none reads."""

    is_subtitle: bool = False
    """Whether it is laid out, so that the options mean something; words are then given times."""

    is_line_based: bool = False
    """Whether the transcripts of several inputs may follow each other when they are printed."""


Formats: TypeAlias = Mapping[str, Format]
"""Formats by name."""


def write_txt(transcript: Transcript, options: WriterOptions) -> str:
    """Return the text of each segment on a line of its own; the options have nothing to lay out."""
    return "".join(f"{text}\n" for _, text in _spoken(transcript))


def table_row(path: str, text: str) -> str:
    """Return a line of a table of files and their texts.

    In the path, tabs and ends of lines are escaped as Python writes them; in the text they are
    spaces.
    """
    name = "".join(repr(char)[1:-1] if char in _BREAKS else char for char in path)
    line = "".join(" " if char in _BREAKS else char for char in text)
    return f"{name}\t{line}\n"


def write_tsv(transcript: Transcript, options: WriterOptions) -> str:
    """Return a table of start, end (both in whole milliseconds) and text, without quoting."""
    rows = ["start\tend\ttext\n"]
    for segment, text in _spoken(transcript):
        start = max(0, seconds_to_ms(segment.start))
        rows.append(f"{start}\t{max(start, seconds_to_ms(segment.end))}\t{text}\n")
    return "".join(rows)


FORMATS: Final[Formats] = MappingProxyType(
    {
        "txt": Format(write_txt, is_line_based=True),
        "srt": Format(write_srt, is_subtitle=True),
        "vtt": Format(write_vtt, is_subtitle=True),
        "tsv": Format(write_tsv),
        "json": Format(write_json),
        "jsonl": Format(write_json, is_line_based=True),
    }
)
"""The formats of this package; no other package can replace one."""


def format_names() -> list[str]:
    """Return the names of all formats, those of other packages last."""
    return list({**FORMATS, **registered(ENTRY_POINT_GROUP)})


def find_formats(names: str) -> Formats:
    """Return the formats in a list with commas, each once.

    :raises UnknownNameError: a format is not known.
    :raises ConfigError: there is no format, or the package of one is broken.
    """
    wanted = dict.fromkeys(name.strip() for name in names.split(",") if name.strip())
    if not wanted:
        raise ConfigError(f"{names!r} names no format: choose from {', '.join(format_names())}.")
    return {name: _find_format(name) for name in wanted}


def has_subtitles(formats: Formats) -> bool:
    """Tell whether one of the formats is laid out."""
    return any(known.is_subtitle for known in formats.values())


def readable(layout: WriterOptions, formats: Formats) -> WriterOptions:
    """Return the layout with lines as viewers are used to them, where it does not say how long.

    :raises ConfigError: there is a layout that none of the formats can honour.
    """
    if not has_subtitles(formats) and layout != WriterOptions():
        subtitles = [name for name, known in FORMATS.items() if known.is_subtitle]
        raise ConfigError(
            f"{' and '.join(formats)} cannot honour line widths, line counts or highlighted words;"
            f" only {' and '.join(subtitles)} can."
        )
    if layout.max_line_width is not None or not has_subtitles(formats):
        return layout
    return replace(READABLE, highlight_words=layout.highlight_words)


def _find_format(name: str) -> Format:
    if name in FORMATS:
        return FORMATS[name]
    others = registered(ENTRY_POINT_GROUP)
    if name not in others:
        known = format_names()
        raise UnknownNameError("format", name, known, f" Choose from {', '.join(known)}.")
    found = load_object("format", name, others[name])
    if not isinstance(found, Format):
        raise ConfigError(
            f"The format {name} ({others[name]}) is a {type(found).__name__}, but must be a"
            " `wavellama.Format`."
        )
    return found


def _spoken(transcript: Transcript) -> Iterator[tuple[Segment, str]]:
    """Yield the segments that have a text, and it in one line."""
    for segment in transcript.segments:
        if text := clean_text(segment.text):
            yield segment, text
