"""Which of the sounds of a file is read: its track and its channel."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import av

from wavellama.audio.channels import Channel
from wavellama.errors import AudioError, OptionError

Track: TypeAlias = "av.AudioStream"

_log = logging.getLogger(__name__)

_NUMBER: Final = re.compile(r"\s*[+-]?\d{1,18}\s*")


@dataclass(frozen=True)
class Selection:
    """What is read of audio."""

    audio_track: int | str | None = None
    """The number of an audio track, from 1 on, or its language as the file has it (``eng``); None:
    the one that the file calls the default, else the first."""

    channel: Channel = "mix"
    """The number of a channel, from 1 on, or their mean."""

    spellings: frozenset[str] = frozenset()
    """How files may write the language of ``audio_track``, beside what it is called there."""

    def __post_init__(self) -> None:
        """:raises OptionError: one is no number above 0 (digits are), no language, no ``mix``."""
        for name, other in (("audio_track", "a language"), ("channel", "'mix'")):
            value = getattr(self, name)
            if isinstance(value, str) and _NUMBER.fullmatch(value):
                value = int(value)
                object.__setattr__(self, name, value)
            if not _is_number(value) and not _is_word(name, value):
                raise OptionError(f"`{name}` must be a number from 1 on or {other}, not {value!r}.")


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_word(name: str, value: object) -> bool:
    """Say whether a value is what may stand in the place of a number."""
    if name == "channel":
        return value == "mix"
    return value is None or (isinstance(value, str) and value.strip(" 0") != "")


EVERYTHING = Selection()
"""The default track, all channels."""


def choose_track(container: av.container.InputContainer, name: str, selection: Selection) -> Track:
    """Return the audio track to read; that there are others is logged once.

    :raises AudioError: there is no such track, or its codec is not known.
    """
    tracks = container.streams.audio
    if not tracks:
        raise AudioError(name, "the file has no audio stream.")
    wanted = selection.audio_track
    if wanted is None:
        track = _default(tracks)
        if len(tracks) > 1:
            say_once(f"{name}: {_listed(tracks)}; {tracks.index(track) + 1} is read.")
    else:
        found = [t for i, t in enumerate(tracks, 1) if wanted == i or _speaks(t, selection)]
        if not found:
            raise AudioError(name, f"there is no audio track {wanted}: {_listed(tracks)}.")
        track = found[0]
    if track.codec_context is None:
        raise AudioError(name, "the codec of its audio is not known.")
    return track


def warn_of_silence(container: av.container.InputContainer, name: str, track: Track) -> None:
    """Say that the track that was read holds nothing but silence, if there are others."""
    tracks = container.streams.audio
    if len(tracks) > 1:
        number = tracks.index(track) + 1
        say_once(
            f"{name}: audio track {number} holds only silence; --audio-track chooses another of"
            f" the {_listed(tracks)}."
        )


def _default(tracks: Sequence[Track]) -> Track:
    known = [track for track in tracks if track.codec_context is not None] or tracks
    flagged = [track for track in known if track.disposition & av.stream.Disposition.default]
    return [*flagged, *known][0]


def _speaks(track: Track, selection: Selection) -> bool:
    """Say whether a track is in the language: of ``eng_Latn``, the first part counts."""
    language = _first_part(track.language or "")
    return language in {_first_part(str(selection.audio_track)), *selection.spellings} - {""}


def _first_part(code: str) -> str:
    return code.casefold().replace("-", "_").partition("_")[0]


def _listed(tracks: Sequence[Track]) -> str:
    named = [
        f"{number} ({track.language})" if track.language else f"{number}"
        for number, track in enumerate(tracks, 1)
    ]
    return f"{len(tracks)} audio track{'s' * (len(tracks) > 1)}: {', '.join(named)}"


@lru_cache(maxsize=10_000)
def say_once(message: str) -> None:
    """Log what each reading of the same file would say again."""
    _log.warning("%s", message)
