"""How subtitles are laid out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wavellama.errors import OptionError
from wavellama.options import find_faults, option, refuse


@dataclass(frozen=True)
class WriterOptions:
    """The layout of subtitles; without any, a segment is a cue of one line."""

    max_line_width: int | None = option(
        None, "output", "columns of subtitles (42)", metavar="N", low=1
    )
    """The most columns of a line. Wide characters take two; a wider word has its own line."""

    max_line_count: int | None = option(
        None, "output", "lines of subtitles (2)", metavar="N", low=1
    )
    """The most lines of a cue; segments that need more are shown in several cues."""

    highlight_words: bool = option(
        False, "output", "underline each word as it is spoken", is_switch=True
    )

    def __post_init__(self) -> None:
        """:raises OptionError: a value cannot be, or lines are counted but not broken."""
        refuse(find_faults(self))
        if self.max_line_count is not None and self.max_line_width is None:
            raise OptionError(
                f"`max_line_count` {self.max_line_count} has no effect while lines may have any"
                " length: set `max_line_width`, too."
            )


READABLE: Final = WriterOptions(max_line_width=42, max_line_count=2)
"""The layout that viewers are used to: that of commands and recipes where nobody says another."""
