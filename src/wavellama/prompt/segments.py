"""How streaming cuts audio into segments, and which words fall into which segment."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import ceil
from typing import Final, NamedTuple

BOUNDARY_SECS: Final = 1e-4
"""A word that ends within this distance of a boundary belongs to the segment before it."""


class SegmentCutter(NamedTuple):
    """Where segments end, whether the audio is there at once or comes bit by bit; in samples."""

    segment_len: int
    min_len: int
    """A tail not longer than this is dropped; the first segment is always there."""

    def is_complete(self, num_samples: int) -> bool:
        """Tell whether so much audio holds a whole segment and the beginning of another one."""
        return num_samples > self.segment_len + self.min_len

    def last_len(self, num_samples: int) -> int:
        """Return the length of the last segment, where no whole one is left before it."""
        return min(num_samples, self.segment_len)

    def places(self, num_samples: int) -> list[slice]:
        """Return where the segments of a clip are."""
        begin, places = 0, list[slice]()
        while self.is_complete(num_samples - begin):
            places.append(slice(begin, begin + self.segment_len))
            begin += self.segment_len
        return [*places, slice(begin, begin + self.last_len(num_samples - begin))]


def segment_texts(
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
