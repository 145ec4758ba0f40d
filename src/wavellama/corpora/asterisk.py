"""Telephone prompts: five studio voices, and one that reads the Italian ones again."""

from __future__ import annotations

import gzip
import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final

from wavellama.corpora.clip import RawClip

LANGUAGES: Final = {
    "en": "eng_Latn",
    "es": "spa_Latn",
    "fr": "fra_Latn",
    "it": "ita_Latn",
    "ru": "rus_Cyrl",
}
"""The language of each ``asterisk-core-sounds`` package, by the end of its name."""

SOUND_EFFECTS: Final = frozenset(
    [
        "beep",
        "beeperr",
        "ascending-2tone",
        "descending-2tone",
        "confbridge-join",
        "confbridge-leave",
        "tt-monkeys",
    ]
)
"""Prompts without a voice, also where a translation describes the sound."""

_LOST_ACCENT: Final = re.compile(r"\?\s*[^\W\d_A-Z]")
"""A letter with an accent that became a question mark, as in ``pu? tardi``."""


def asterisk_clips(root: Path, languages: tuple[str, ...] = tuple(LANGUAGES)) -> Iterator[RawClip]:
    """Yield the prompts of the languages (``en``, ...) from unpacked packages below ``root``."""
    for code in languages:
        sounds = _sounds(root / f"asterisk-core-sounds-{code}-g722")
        transcripts = _read_transcripts(root, code)
        yield from _prompts(sounds, ".g722", transcripts, LANGUAGES[code], f"asterisk-{code}")


def menardi_clips(root: Path) -> Iterator[RawClip]:
    """Yield the second Italian voice; it reads the prompts of ``asterisk-core-sounds-it``."""
    sounds = _sounds(root / "asterisk-prompt-it-menardi-wav")
    transcripts = _read_transcripts(root, "it")
    yield from _prompts(sounds, ".wav", transcripts, LANGUAGES["it"], "menardi", held_out=True)


def parse_transcripts(text: str) -> dict[str, str]:
    """Return the transcript of each prompt in lines ``key: text``; ``;`` starts a comment."""
    transcripts: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, spoken = line.partition(":")
        if colon and not line.startswith(";") and spoken.strip():
            transcripts.setdefault(key.strip(), spoken.strip())
    return transcripts


def is_damaged(transcript: str, keys: Container[str]) -> bool:
    """Tell whether a transcript lost accents, or has the key of a prompt among its words."""
    words = (word.rstrip(":") for word in transcript.split())
    return bool(_LOST_ACCENT.search(transcript)) or any("-" in w and w in keys for w in words)


def _prompts(
    sounds: Path,
    suffix: str,
    transcripts: dict[str, str],
    lang: str,
    speaker: str,
    *,
    held_out: bool = False,
) -> Iterator[RawClip]:
    for key, transcript in sorted(transcripts.items()):
        audio = sounds / f"{key}{suffix}"
        damaged = key in SOUND_EFFECTS or is_damaged(transcript, transcripts)
        if audio.is_file() and not damaged:
            yield RawClip(
                audio=audio,
                transcript=transcript,
                lang=lang,
                speaker=speaker,
                sentence=f"asterisk/{key}",
                held_out=held_out,
            )


def _sounds(package: Path) -> Path:
    """Return the folder of a package's only voice."""
    return next(iter(sorted((package / "usr/share/asterisk/sounds").iterdir())))


def _read_transcripts(root: Path, code: str) -> dict[str, str]:
    name = f"asterisk-core-sounds-{code}"
    path = root / name / "usr/share/doc" / name / f"core-sounds-{code}.txt.gz"
    return parse_transcripts(gzip.decompress(path.read_bytes()).decode("utf-8-sig"))
