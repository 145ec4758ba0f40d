"""Which part of a corpus a clip belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from wavellama.corpora.clip import Clip
from wavellama.corpora.transcript import comparison_key

TEST_SHARE: Final = 0.08
"""The part of all sentences that goes to test."""

DEV_SHARE: Final = 0.06
"""The part of all sentences that goes to dev."""

SPLITS: Final = ("train", "dev", "test", "test_unseen")
"""All parts; ``test_unseen`` has the speakers that are in no other part."""


def split_sentence(sentence: str) -> str:
    """Return ``train``, ``dev`` or ``test`` by a hash of the sentence's id.

    All languages that read a sentence get the same answer, so that no sentence crosses the parts
    through another language.
    """
    point = int.from_bytes(sha256(sentence.encode()).digest()[:8], "big") / 2**64
    if point < TEST_SHARE:
        return "test"
    return "dev" if point < TEST_SHARE + DEV_SHARE else "train"


def split_clips(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    """Return the clips of each part, sorted; voices held out make up ``test_unseen``.

    Clips of dev and test whose text also occurs in train, in that language, are left out.
    """
    parts: dict[str, list[Clip]] = {name: [] for name in SPLITS}
    for clip in sorted(clips, key=lambda clip: clip.raw.stem):
        held_out = clip.raw.held_out
        parts["test_unseen" if held_out else split_sentence(clip.raw.sentence)].append(clip)
    seen = {_said(clip) for clip in parts["train"]}
    for name in ("dev", "test"):
        parts[name] = [clip for clip in parts[name] if _said(clip) not in seen]
    return parts


def novel_clips(parts: dict[str, list[Clip]], name: str) -> list[Clip]:
    """Return the clips of a part whose text does not occur in train, in that language."""
    seen = {_said(clip) for clip in parts["train"]}
    return [clip for clip in parts[name] if _said(clip) not in seen]


def _said(clip: Clip) -> tuple[str, str]:
    return clip.raw.lang, comparison_key(clip.text)
