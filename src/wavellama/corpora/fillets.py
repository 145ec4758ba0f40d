"""Acted dialogue of a game in Czech and Dutch: the longest and most varied clips."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wavellama.corpora.clip import RawClip

LANGUAGES: Final = {"cs": "ces_Latn", "nl": "nld_Latn"}
"""The language of each ``fillets-ng-data`` package, by the end of its name."""

_STRING: Final = r'\s*"((?:[^"\\]|\\.)*)"\s*'
_LINE: Final = re.compile(
    rf"dialogId\({_STRING},{_STRING},{_STRING}\)\s*dialogStr\({_STRING}\)", re.DOTALL
)


def fillets_clips(root: Path) -> Iterator[RawClip]:
    """Yield the dialogue lines from the unpacked packages below ``root``."""
    game = "usr/share/games/fillets-ng"
    for code in LANGUAGES:
        lines = _read_script(root / "fillets-ng-data" / game / "script", code)
        sounds = root / f"fillets-ng-data-{code}" / game / "sound"
        for audio in sorted(sounds.rglob(f"{code}/*.ogg")):
            level = audio.relative_to(sounds).parts[0]
            if (level, audio.stem) in lines:
                role, transcript = lines[level, audio.stem]
                yield RawClip(
                    audio=audio,
                    transcript=transcript,
                    lang=LANGUAGES[code],
                    speaker=f"fillets-{code}-{role}",
                    sentence=f"fillets/{level}/{audio.stem}",
                )


def parse_dialog(script: str) -> dict[str, tuple[str, str]]:
    """Return role and transcript of each line in a Lua script, by the line's id.

    A line is ``dialogId("id", "font", "English")`` and ``dialogStr("localised")``; the font tells
    the role.
    """
    return {
        name: (font.removeprefix("font_") or "none", re.sub(r"\\(.)", r"\1", spoken))
        for name, font, _, spoken in _LINE.findall(script)
    }


def _read_script(scripts: Path, code: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Return role and transcript by level and id."""
    lines: dict[tuple[str, str], tuple[str, str]] = {}
    for path in sorted(scripts.rglob(f"*dialogs_{code}.lua")):
        level = path.relative_to(scripts).parts[0]
        for name, line in parse_dialog(path.read_text(encoding="utf-8")).items():
            lines[level, name] = line
    return lines
