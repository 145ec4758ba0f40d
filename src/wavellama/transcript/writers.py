"""The formats in which transcripts are written, as openai-whisper's command line writes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, TypeAlias

from wavellama.errors import ConfigError, UnknownNameError
from wavellama.transcript.options import READABLE, WriterOptions
from wavellama.transcript.pieces import clean_text
from wavellama.transcript.records import write_json, write_jsonl
from wavellama.transcript.subtitles import write_srt, write_vtt
from wavellama.transcript.types import Segment, Transcript
from wavellama.units import seconds_to_ms

__all__ = ["WRITERS", "Writer", "WriterOptions", "check_formats", "write_tsv", "write_txt"]

Writer: TypeAlias = Callable[[Transcript, WriterOptions], str]
"""Returns the contents of a file. Formats other than subtitles leave the options aside, so that one
set of options serves all formats of a run; ``check_formats`` refuses options that none reads."""


def write_txt(transcript: Transcript, options: WriterOptions) -> str:
    """Return the text of each segment on a line of its own.

    :param options: not read; a line is a segment.
    """
    return "".join(f"{text}\n" for _, text in _spoken(transcript))


def write_tsv(transcript: Transcript, options: WriterOptions) -> str:
    """Return a table of start, end (both in whole milliseconds) and text, without quoting.

    :param options: not read; a row is a segment.
    """
    rows = ["start\tend\ttext\n"]
    for segment, text in _spoken(transcript):
        start = max(0, seconds_to_ms(segment.start))
        rows.append(f"{start}\t{max(start, seconds_to_ms(segment.end))}\t{text}\n")
    return "".join(rows)


WRITERS: Final[Mapping[str, Writer]] = MappingProxyType(
    {
        "txt": write_txt,
        "srt": write_srt,
        "vtt": write_vtt,
        "tsv": write_tsv,
        "json": write_json,
        "jsonl": write_jsonl,
    }
)
"""The formats; their names are the suffixes of their files, too."""

SUBTITLES: Final = frozenset({"srt", "vtt"})
"""The formats that are laid out, so that options mean something."""


def check_formats(names: str, options: WriterOptions | None = None) -> tuple[str, ...]:
    """Return the formats in a list with commas, each once.

    :param options: with which they will be written.
    :raises UnknownNameError: a format is not known.
    :raises ConfigError: there is no format, or there are options that none of them can honour.
    """
    formats = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for name in formats:
        if name not in WRITERS:
            raise UnknownNameError("format", name, WRITERS, f" Choose from {', '.join(WRITERS)}.")
    if not formats:
        raise ConfigError(f"{names!r} names no format: choose from {', '.join(WRITERS)}.")
    if options not in (None, WriterOptions()) and not SUBTITLES & set(formats):
        raise ConfigError(
            f"{' and '.join(formats)} cannot honour line widths, line counts or highlighted words;"
            f" only {' and '.join(sorted(SUBTITLES))} can."
        )
    return formats


def readable(layout: WriterOptions, formats: Collection[str]) -> WriterOptions:
    """Return the layout with lines as viewers are used to them, where it does not say how long.

    :param formats: without subtitles among them, there are no lines.
    """
    if layout.max_line_width is not None or not SUBTITLES & set(formats):
        return layout
    return replace(READABLE, highlight_words=layout.highlight_words)


def _spoken(transcript: Transcript) -> Iterator[tuple[Segment, str]]:
    """Yield the segments that have a text, and it in one line."""
    for segment in transcript.segments:
        if text := clean_text(segment.text):
            yield segment, text
