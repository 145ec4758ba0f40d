"""One recording on its way from a package into a corpus."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class RawClip:
    """A recording as a package holds it, with the transcript as it stands there."""

    audio: Path
    """The recording, in any format that ``convert`` reads."""

    transcript: str
    """What the package says is spoken, unchanged."""

    lang: str
    """The language code, such as ``rus_Cyrl``."""

    speaker: str
    """Who speaks; a voice of a package has one name."""

    sentence: str
    """What is spoken, as an id that the languages of a package share."""

    held_out: bool = False
    """Whether the whole voice is kept away from training."""

    @property
    def stem(self) -> str:
        """Where the clip lies inside a corpus: a relative path without suffix."""
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", self.sentence)
        return f"{self.lang}/{self.speaker}/{name}"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A converted recording and what was measured on it."""

    raw: RawClip
    """Where it comes from."""

    path: Path
    """The converted audio, 16 kHz mono."""

    text: str
    """What training sees: lower-case words."""

    duration: float
    """Length in seconds."""

    active: float
    """Seconds in which somebody speaks."""

    rms_db: float
    """Level in dB relative to full scale."""

    digest: str
    """Hash of the samples: equal recordings have equal ones."""
