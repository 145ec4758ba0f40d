"""Captions of drawings, read by volunteers: noun phrases in many languages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wavellama.corpora.clip import RawClip

LANGUAGES: Final = {
    "be": "bel_Cyrl",
    "bg": "bul_Cyrl",
    "ca": "cat_Latn",
    "da": "dan_Latn",
    "el": "ell_Grek",
    "en": "eng_Latn",
    "es": "spa_Latn",
    "fr": "fra_Latn",
    "nl": "nld_Latn",
    "ro": "ron_Latn",
    "ru": "rus_Cyrl",
}
"""The language of each code; Malayalam has six captions and Lithuanian no transcript."""

HELD_OUT: Final = frozenset({"es", "fr", "ru"})
"""Languages with another voice in training, so that these can be unseen speakers."""


def tuxpaint_clips(root: Path) -> Iterator[RawClip]:
    """Yield the captions from the unpacked package below ``root``."""
    stamps = root / "tuxpaint-stamps-default/usr/share/tuxpaint/stamps"
    for path in sorted(stamps.rglob("*.txt")):
        captions = parse_captions(path.read_text(encoding="utf-8"))
        sentence = path.relative_to(stamps).with_suffix("").as_posix()
        for code in sorted(captions.keys() & LANGUAGES.keys()):
            audio = path.with_name(f"{path.stem}_desc{'' if code == 'en' else f'_{code}'}.ogg")
            if audio.is_file():
                yield RawClip(
                    audio=audio,
                    transcript=captions[code],
                    lang=LANGUAGES[code],
                    speaker=f"tuxpaint-{code}",
                    sentence=f"tuxpaint/{sentence}",
                    held_out=code in HELD_OUT,
                )


def parse_captions(text: str) -> dict[str, str]:
    """Return the caption of each language: line 1 is English, ``xx.utf8=...`` the others."""
    english, *others = text.splitlines() or [""]
    captions = {"en": english.strip()}
    for line in others:
        name, equals, caption = line.partition("=")
        code, dot, encoding = name.strip().partition(".")
        if equals and dot and encoding == "utf8":
            captions[code] = caption.strip()
    return {code: caption for code, caption in captions.items() if caption}
