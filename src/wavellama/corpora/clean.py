"""Which clips are good enough, and why the others are not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from wavellama.corpora.clip import Clip, RawClip
from wavellama.corpora.errors import RejectedClipError
from wavellama.corpora.length_model import plausible_lengths
from wavellama.corpora.measure import active_seconds, level_db
from wavellama.corpora.transcript import clean_transcript, count_letters
from wavellama.data.progress import track
from wavellama.units import samples_to_seconds

QUIETEST_DB: Final = -50.0
"""A clip below this level (relative to full scale) holds no speech."""


@dataclass
class Cleaned:
    """The clips that passed, and how many did not, by language and reason."""

    clips: list[Clip] = field(default_factory=list)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)

    def drop(self, clip: RawClip, reason: str) -> None:
        """Count a clip that does not pass."""
        self.dropped[clip.lang, reason] += 1

    def keep(self, clips: list[Clip], reason: str) -> None:
        """Go on with ``clips``, and count the others as dropped for ``reason``."""
        kept = {id(clip) for clip in clips}
        for clip in self.clips:
            if id(clip) not in kept:
                self.drop(clip.raw, reason)
        self.clips = clips


def clean(raw: Sequence[RawClip], converted: Mapping[RawClip, Path]) -> Cleaned:
    """Keep the clips with a spelled-out transcript, a level, a voice of their own and a length.

    ``converted`` has the FLAC file of each clip that could be decoded.
    """
    result = Cleaned()
    for item in track(raw, "measuring", len(raw)):
        try:
            result.clips.append(_measure(item, converted))
        except RejectedClipError as ex:
            result.drop(item, ex.reason)
    result.keep(_without_copies(result.clips), "copy of another recording")
    result.keep(_without_misfits(result.clips), "length that does not fit the transcript")
    return result


def _measure(clip: RawClip, converted: Mapping[RawClip, Path]) -> Clip:
    text = clean_transcript(clip.transcript, clip.lang)
    if clip not in converted:
        raise RejectedClipError("audio that cannot be decoded")
    samples, _ = soundfile.read(converted[clip], dtype="float32")
    rms_db = level_db(samples)
    if rms_db < QUIETEST_DB:
        raise RejectedClipError("audio below -50 dB")
    return Clip(
        raw=clip,
        path=converted[clip],
        text=text,
        duration=samples_to_seconds(len(samples)),
        active=active_seconds(samples),
        rms_db=rms_db,
        digest=sha256(samples.tobytes()).hexdigest(),
    )


def _without_copies(clips: Iterable[Clip]) -> list[Clip]:
    """Keep one clip of each recording; none if its copies claim different words."""
    copies: defaultdict[tuple[str, str], list[Clip]] = defaultdict(list)
    for clip in clips:
        copies[clip.raw.lang, clip.digest].append(clip)
    return [same[0] for same in copies.values() if len({clip.text for clip in same}) == 1]


def _without_misfits(clips: Iterable[Clip]) -> list[Clip]:
    """Keep the clips whose length fits their text, judged by speaker."""
    speakers: defaultdict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        speakers[clip.raw.speaker].append(clip)
    return [clip for speaker in speakers.values() for clip in _plausible(speaker)]


def _plausible(clips: Sequence[Clip]) -> list[Clip]:
    letters = np.array([count_letters(clip.text) for clip in clips], dtype=np.float64)
    active = np.array([clip.active for clip in clips], dtype=np.float64)
    fits = plausible_lengths(letters, active)
    return [clip for clip, fit in zip(clips, fits, strict=True) if fit]
