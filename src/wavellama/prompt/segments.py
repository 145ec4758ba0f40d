"""How streaming cuts audio into segments, and which words fall into which segment."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import ceil
from typing import Final

BOUNDARY_SECS: Final = 1e-4
"""A word that ends within this distance of a boundary belongs to the segment before it."""


def cut_segments(num_samples: int, segment_len: int, min_len: int) -> list[slice]:
    """Return where the segments of a clip are, in samples.

    :param min_len: a tail not longer than this is dropped; the first segment is always there.
    """
    segments = [
        slice(begin, min(begin + segment_len, num_samples))
        for begin in range(0, num_samples, segment_len)
    ]
    tail = segments[-1]
    return segments[:-1] if len(segments) > 1 and tail.stop - tail.start <= min_len else segments


def split_words(
    words: Sequence[str], durations: Sequence[float], segment_secs: float, num_segments: int
) -> list[str]:
    """Return the text of each segment: a word belongs to the one that its end falls in.

    Words that end after the last segment belong to the last one.

    :param words: the words, each but the first with its leading space.
    :param durations: seconds per word; their running sum says where each word ends.
    """
    texts = [""] * num_segments
    for word, end in zip(words, accumulate(durations), strict=True):
        place = ceil((end - BOUNDARY_SECS) / segment_secs) - 1
        texts[min(max(place, 0), num_segments - 1)] += word
    return texts
