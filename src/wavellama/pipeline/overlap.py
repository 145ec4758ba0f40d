"""Windows that overlap: what both have heard is written once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from math import ceil
from typing import NamedTuple

from wavellama.text.normalize import normalize_text
from wavellama.text.words import TextWord, split_words
from wavellama.transcript.types import Segment, Word


class Seam(NamedTuple):
    """Where two neighbours meet: the words that the left one keeps, and the right one drops."""

    keep_left: int
    drop_right: int


def join_windows(left: Segment, right: Segment, overlap: tuple[float, float]) -> list[Segment]:
    """Return two neighbouring segments without what they have in common.

    Where both have word times, words belong to the window in which they lie farther from its edge.
    Otherwise the longest run of equal words near the edges is where the texts meet; where there is
    none, both texts are kept as they are.

    :param overlap: begin and end of the audio that both have read.
    """
    if left.words and right.words:
        middle = sum(overlap) / 2
        keep = sum(word.start + word.end < 2 * middle for word in left.words)
        drop = sum(word.start + word.end < 2 * middle for word in right.words)
        return [_select(left, slice(0, keep)), _select(right, slice(drop, None))]
    left_words, right_words = _words(left), _words(right)
    length = overlap[1] - overlap[0]
    seam = find_seam(
        [normalize_text(word.text) for word in left_words],
        [normalize_text(word.text) for word in right_words],
        _num_words(left_words, length, left),
        _num_words(right_words, length, right),
    )
    return [_select(left, slice(0, seam.keep_left)), _select(right, slice(seam.drop_right, None))]


def find_seam(left: Sequence[str], right: Sequence[str], max_left: int, max_right: int) -> Seam:
    """Return where the end of ``left`` says the same as the beginning of ``right``.

    :param max_left: how many of the last words of ``left`` may have been heard twice.
    :param max_right: how many of the first words of ``right`` may have been heard twice.
    """
    tail, head = left[len(left) - min(max_left, len(left)) :], right[:max_right]
    match = SequenceMatcher(None, tail, head, autojunk=False).find_longest_match()
    if match.size == 0:
        return Seam(len(left), 0)
    return Seam(len(left) - len(tail) + match.a + match.size, match.b + match.size)


def _words(segment: Segment) -> list[TextWord]:
    return split_words(segment.text, segment.language)


def _num_words(words: Sequence[TextWord], overlap_secs: float, segment: Segment) -> int:
    """Return how many words may lie in the overlap: twice as many as on average, and two more."""
    share = overlap_secs / max(segment.end - segment.start, overlap_secs)
    return 2 + ceil(2 * share * len(words))


def _select(segment: Segment, kept: slice) -> Segment:
    """Return the segment with some of its words, about which less is known.

    Tokens and alternatives are those of the whole window, so they are dropped; ``avg_logprob`` and,
    where that of the words is not known, the confidence stay as means over the window.
    """
    all_words = _words(segment)
    words = all_words[kept]
    if len(words) == len(all_words):
        return segment
    text = "".join(f" {word.text}" if word.spaced else word.text for word in words).strip()
    timed = segment.words[kept]
    part = replace(
        segment,
        text=text,
        words=timed,
        tokens=(),
        token_logprobs=(),
        alternatives=(),
        confidence=_mean_confidence(timed) or segment.confidence,
    )
    return replace(part, start=timed[0].start, end=timed[-1].end) if timed else part


def _mean_confidence(words: Sequence[Word]) -> float | None:
    """Return how probable it is that one of the words is right; None if not known of each."""
    known = [word.confidence for word in words if word.confidence is not None]
    return sum(known) / len(known) if words and len(known) == len(words) else None
