"""The English test clips of a recogniser: several speakers, forty seconds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wavellama.corpora.clip import RawClip

RAW_CLIPS: Final = {
    "goforward.raw": "go forward ten meters",
    "something.raw": "go somewhere and do something",
}
"""Headerless clips whose words stand only in the names of other files."""

_TRANSCRIPT: Final = re.compile(r"<s>(.*)</s>\s*\((.+)\)")


def pocketsphinx_clips(root: Path) -> Iterator[RawClip]:
    """Yield the clips from the unpacked package below ``root``; all are unseen speakers."""
    data = root / "pocketsphinx-testdata/usr/share/pocketsphinx/test/data"
    lists = {"librivox": "transcription", "cards": "cards.transcription"}
    for folder, name in lists.items():
        listed = parse_transcription((data / folder / name).read_text(encoding="utf-8"))
        for clip, transcript in listed.items():
            yield _clip(data / folder / f"{clip}.wav", transcript, f"pocketsphinx-{folder}")
    for name, transcript in RAW_CLIPS.items():
        yield _clip(data / name, transcript, "pocketsphinx-commands")


def parse_transcription(text: str) -> dict[str, str]:
    """Return the transcript of each clip in lines ``<s> words </s> (clip)``."""
    return {clip: words.strip() for words, clip in _TRANSCRIPT.findall(text)}


def _clip(audio: Path, transcript: str, speaker: str) -> RawClip:
    return RawClip(
        audio=audio,
        transcript=transcript,
        lang="eng_Latn",
        speaker=speaker,
        sentence=f"pocketsphinx/{audio.stem}",
        held_out=True,
    )
