"""Cues: what subtitles show at a time, laid out in lines, one after the other in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from wavellama.errors import ConfigError
from wavellama.transcript.options import WriterOptions
from wavellama.transcript.pieces import (
    Piece,
    clean_text,
    count_columns,
    spread_pieces,
    timed_pieces,
)
from wavellama.transcript.types import Segment, Transcript
from wavellama.units import seconds_to_ms

LONG_PAUSE_SECS: Final = 3.0
"""A silence after which words are shown in another cue."""

Lines: TypeAlias = list[list[Piece]]
Escape: TypeAlias = Callable[[str], str]


@dataclass(frozen=True)
class Cue:
    """A text and when it is shown."""

    start: int
    """In milliseconds, as is the end."""

    end: int
    text: str
    """One or several lines, with markup."""


def make_cues(transcript: Transcript, options: WriterOptions, escape: Escape = str) -> list[Cue]:
    """Return the cues of a transcript.

    Each is shown for a millisecond at least and ends before the next one begins; the starts of
    cues are kept where both is possible.

    :param escape: writes text such that the format takes none of it for markup.
    :raises ConfigError: words are to be highlighted, but have no times.
    """
    spoken = [segment for segment in transcript.segments if clean_text(segment.text)]
    if options.highlight_words and spoken and not any(segment.words for segment in spoken):
        raise ConfigError(
            f"{transcript.source}: words cannot be highlighted, since their times are not known."
            " Ask for word times (`word_timestamps`), or do not highlight words."
        )
    return _put_in_order([cue for item in spoken for cue in _segment_cues(item, options, escape)])


def _segment_cues(segment: Segment, options: WriterOptions, escape: Escape) -> Iterator[Cue]:
    """Yield the cues of a segment as its times have them."""
    if options.max_line_width is None and not options.highlight_words:
        text = escape(clean_text(segment.text))
        yield Cue(seconds_to_ms(segment.start), seconds_to_ms(segment.end), text)
        return
    pieces = timed_pieces(segment) if segment.words else spread_pieces(segment)
    for lines in _break_lines(pieces, options):
        if options.highlight_words and segment.words:
            yield from _highlight(lines, escape)
        else:
            start, end = seconds_to_ms(lines[0][0].start), seconds_to_ms(lines[-1][-1].end)
            yield Cue(start, end, _to_text(lines, escape))


def _break_lines(pieces: Iterable[Piece], options: WriterOptions) -> Iterator[Lines]:
    """Yield the lines of one cue after the other, each line as full as may be."""
    lines: Lines = []
    for piece in pieces:
        if lines and piece.start - lines[-1][-1].end > LONG_PAUSE_SECS:
            yield lines
            lines = []
        if lines and _has_room(lines[-1], piece, options.max_line_width):
            lines[-1].append(piece)
            continue
        if len(lines) == options.max_line_count:
            yield lines
            lines = []
        lines.append([piece])
    yield lines


def _has_room(line: Sequence[Piece], piece: Piece, max_width: int | None) -> bool:
    if max_width is None:
        return True
    parts = [line[0].text, *(item.space + item.text for item in [*line[1:], piece])]
    return count_columns("".join(parts)) <= max_width


def _highlight(lines: Lines, escape: Escape) -> Iterator[Cue]:
    """Yield a cue per word, which is underlined, and one for each silence between words."""
    words = [piece for line in lines for piece in line]
    silent_since = seconds_to_ms(words[0].start)
    for word in words:
        start, end = seconds_to_ms(word.start), seconds_to_ms(word.end)
        if start > silent_since:
            yield Cue(silent_since, start, _to_text(lines, escape))
        yield Cue(start, end, _to_text(lines, escape, word))
        silent_since = end


def _to_text(lines: Lines, escape: Escape, underlined: Piece | None = None) -> str:
    def show(piece: Piece) -> str:
        text = escape(piece.text)
        return f"<u>{text}</u>" if piece is underlined else text

    rows = [[show(line[0]), *(piece.space + show(piece) for piece in line[1:])] for line in lines]
    return "\n".join("".join(row) for row in rows)


def _put_in_order(cues: Sequence[Cue]) -> list[Cue]:
    """Return cues that begin one after the other, do not overlap, and last a millisecond each."""
    starts: list[int] = []
    for cue in cues:
        starts.append(max(cue.start, starts[-1] + 1 if starts else 0))
    ends = [max(cue.end, start + 1) for cue, start in zip(cues, starts, strict=True)]
    ends[:-1] = [min(end, start) for end, start in zip(ends, starts[1:], strict=False)]
    return [Cue(start, end, cue.text) for start, end, cue in zip(starts, ends, cues, strict=True)]
