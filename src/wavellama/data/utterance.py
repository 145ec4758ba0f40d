"""One utterance of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wavellama.data.words import Word


@dataclass(frozen=True)
class Utterance:
    """A stretch of audio and what is said in it; the audio itself is not read yet."""

    audio: Path
    """The audio file."""

    text: str
    """The transcript."""

    duration: float
    """The length of the stretch in seconds."""

    lang: str | None = None
    """The language code, such as ``eng_Latn``."""

    offset: float | None = None
    """Where the stretch begins in the file, in seconds; None: the stretch is the whole file."""

    speaker: str | None = None
    """Who speaks."""

    split: str | None = None
    """Which part of the data set it belongs to."""

    words: tuple[Word, ...] | None = None
    """Its words with their times, which spell the text; None: they are not known."""
