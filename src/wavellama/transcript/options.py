"""How subtitles are laid out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wavellama.errors import ConfigError


@dataclass(frozen=True)
class WriterOptions:
    """The layout of subtitles; without any, a segment is a cue of one line."""

    max_line_width: int | None = None
    """The most columns of a line. Wide characters take two; a wider word has its own line."""

    max_line_count: int | None = None
    """The most lines of a cue; segments that need more are shown in several cues."""

    highlight_words: bool = False
    """Whether each word is underlined while it is spoken."""

    def __post_init__(self) -> None:
        """:raises ConfigError: a value is out of range, or lines are counted but not broken."""
        for name in ("max_line_width", "max_line_count"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"`{name}` must be at least 1, but is {value}.")
        if self.max_line_count is not None and self.max_line_width is None:
            raise ConfigError(
                f"`max_line_count` {self.max_line_count} has no effect while lines may have any"
                " length: set `max_line_width`, too."
            )


READABLE: Final = WriterOptions(max_line_width=42, max_line_count=2)
"""The layout that viewers are used to: that of commands and recipes where nobody says another."""
