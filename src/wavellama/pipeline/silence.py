"""No text where nobody speaks: models make one of anything."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from wavellama.audio.chunks import Chunk
from wavellama.audio.vad import speech_peak
from wavellama.pipeline.options import TranscribeOptions
from wavellama.transcript.types import Segment

SURELY_NONE: Final = 0.9
"""The probability that nobody speaks above which no text counts, however sure the model is."""


def drop_unspoken(segment: Segment, chunk: Chunk, options: TranscribeOptions) -> Segment:
    """Return the segment of a chunk, without its text if that was made of silence or noise.

    It is whisper's rule: a text is dropped where speech is improbable (``no_speech_threshold``) and
    the text is, too (``logprob_threshold``). Where voice detection found no region, or was not
    asked, the likeliest window of the chunk says how probable it is that nobody speaks.
    """
    if options.no_speech_threshold >= 1.0 or chunk.regions or not segment.text:
        return segment
    no_speech_prob = 1.0 - speech_peak(chunk.waveform)
    looked = replace(segment, no_speech_prob=no_speech_prob)
    logprob = segment.avg_logprob
    is_sure = logprob is not None and logprob >= options.logprob_threshold
    if no_speech_prob <= (SURELY_NONE if is_sure else options.no_speech_threshold):
        return looked
    return replace(looked, text="", tokens=(), token_logprobs=(), alternatives=())
