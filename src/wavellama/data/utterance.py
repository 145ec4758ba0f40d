"""One utterance of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from wavellama.audio.tracks import EVERYTHING, Selection
from wavellama.data.words import AlignedWord
from wavellama.text.tags import spellings

if TYPE_CHECKING:
    from wavellama.audio.channels import Channel

MAX_CHARS_PER_SEC: Final = 60.0
"""No script is spoken faster: the fastest speech has about 25 letters a second."""

Sound: TypeAlias = tuple[Path, Selection]
"""What is decoded at once: a track or a channel of an audio file."""


@dataclass(frozen=True)
class Utterance:
    """A stretch of audio and what is said in it; the audio itself is not read yet."""

    audio: Path
    text: str
    duration: float
    """The length of the stretch in seconds."""

    lang: str | None = None
    """The language code, such as ``eng_Latn``."""

    offset: float | None = None
    """Where the stretch begins in the file, in seconds; None: the stretch is the whole file."""

    speaker: str | None = None
    split: str | None = None
    words: tuple[AlignedWord, ...] | None = None
    """Its words with their times, which spell the text; None: they are not known."""

    corpus: str | None = None
    """The collection it comes from, if several are mixed."""

    selection: Selection = EVERYTHING
    """Which track and which channel of the file is read."""

    @property
    def sound(self) -> Sound:
        """What it is a stretch of."""
        return self.audio, self.selection

    @property
    def text_fault(self) -> str | None:
        """What is wrong with the text, given the length of the audio; None if nothing is."""
        if not self.text:
            return "has no text"
        rate = len(self.text) / self.duration
        if rate <= MAX_CHARS_PER_SEC:
            return None
        return (
            f"has {len(self.text):,} characters for {self.duration:.2f} s of audio, {rate:,.0f} a"
            f" second; more than {MAX_CHARS_PER_SEC:.0f} cannot be spoken"
        )


def select_sound(audio_track: int | str | None, channel: int | str | None) -> Selection:
    """Return what is read of a file, for options and for rows alike.

    :param channel: None: all.
    :raises ConfigError: one is no number above 0, and no language or ``mix``.
    """
    names = spellings(audio_track) if isinstance(audio_track, str) else frozenset[str]()
    return Selection(audio_track, cast("Channel", "mix" if channel is None else channel), names)
