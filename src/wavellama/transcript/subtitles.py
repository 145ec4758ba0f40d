"""Subtitles: SubRip (srt) and WebVTT (vtt)."""

from __future__ import annotations

import re
from functools import partial
from html import escape
from typing import Final

from wavellama.transcript.cues import make_cues
from wavellama.transcript.options import WriterOptions
from wavellama.transcript.types import Transcript

_ARROW: Final = re.compile("-{2,}>")


def write_srt(transcript: Transcript, options: WriterOptions) -> str:
    """Return the cues of a transcript, numbered from 1, with times as ``HH:MM:SS,mmm``.

    SubRip has no way to write ``-->`` in a text, so it is shortened to ``->``.

    :raises ConfigError: words are to be highlighted, but have no times.
    """
    blocks = [
        f"{number}\n{srt_time(cue.start)} --> {srt_time(cue.end)}\n{_ARROW.sub('->', cue.text)}\n\n"
        for number, cue in enumerate(make_cues(transcript, options), start=1)
    ]
    return "".join(blocks)


def write_vtt(transcript: Transcript, options: WriterOptions) -> str:
    """Return the cues of a transcript, with times as ``MM:SS.mmm``, hours only where needed.

    ``&``, ``<`` and ``>`` in texts are written as ``&amp;``, ``&lt;`` and ``&gt;``.

    :raises ConfigError: words are to be highlighted, but have no times.
    """
    blocks = [
        f"{vtt_time(cue.start)} --> {vtt_time(cue.end)}\n{cue.text}\n\n"
        for cue in make_cues(transcript, options, partial(escape, quote=False))
    ]
    return "".join(["WEBVTT\n\n", *blocks])


def srt_time(milliseconds: int) -> str:
    """Return a time as ``HH:MM:SS,mmm``; hours from 100 on have three digits."""
    hours, rest = divmod(milliseconds, 3_600_000)
    return f"{hours:02d}:{_below_hour(rest)}".replace(".", ",")


def vtt_time(milliseconds: int) -> str:
    """Return a time as ``MM:SS.mmm``, or from one hour on as ``HH:MM:SS.mmm``."""
    hours, rest = divmod(milliseconds, 3_600_000)
    return f"{hours:02d}:{_below_hour(rest)}" if hours else _below_hour(rest)


def _below_hour(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 60:02d}:{seconds % 60:02d}.{rest:03d}"
