"""How the audio of an input becomes clips.

Shapes: T samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import torch
from torch import Tensor

from wavellama.audio.chunks import Chunk, cut_at_silence, cut_fixed
from wavellama.audio.vad import detect_speech
from wavellama.units import seconds_to_samples

OVERLAP_SECS = 2.0
"""What windows without voice detection have in common, at most a quarter of a window."""


def overlap_secs(chunk_secs: float) -> float:
    """Return what windows of this length have in common."""
    return min(OVERLAP_SECS, chunk_secs / 4)


def cut(
    blocks: Iterable[Tensor], chunk_secs: float, whole_secs: float, vad: bool | None
) -> Iterator[Chunk]:
    """Cut audio into chunks of at most ``chunk_secs``, while it is being read.

    :param blocks: mono 16 kHz audio, piece by piece. *Shape of each:* (T).
    :param whole_secs: what audio may not exceed to be kept whole, unless ``vad`` is True.
    :param vad: True: cut in silences, and leave long ones out; None: do so where the audio is
        longer than ``whole_secs``; False: cut windows that overlap.
    """
    if vad:
        yield from cut_at_silence(blocks, chunk_secs)
        return
    source = iter(blocks)
    head = _take(source, seconds_to_samples(whole_secs))
    if sum(map(len, head)) > seconds_to_samples(whole_secs):
        rest = chain(head, source)
        if vad is None:
            yield from cut_at_silence(rest, chunk_secs)
        else:
            yield from cut_fixed(rest, chunk_secs, overlap_secs(chunk_secs))
    elif head:
        whole = torch.cat(head)
        yield Chunk(whole, 0, *(detect_speech(whole) if vad is None else ()))


def _take(blocks: Iterator[Tensor], num_samples: int) -> list[Tensor]:
    """Take blocks until there are more than ``num_samples``, or no more."""
    taken: list[Tensor] = []
    while sum(map(len, taken)) <= num_samples:
        block = next(blocks, None)
        if block is None:
            break
        taken.append(block)
    return taken
