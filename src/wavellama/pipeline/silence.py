"""No text where nobody speaks: models make one of anything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, final

from wavellama.audio.chunks import Chunk
from wavellama.audio.vad import speech_peak
from wavellama.transcript.types import Segment

SURELY_NONE: Final = 0.9
"""The probability that nobody speaks above which no text counts, however sure the model is."""


@final
@dataclass(frozen=True)
class SilenceRule:
    """Whisper's rule: a text is dropped where speech is improbable and the text is, too."""

    no_speech_threshold: float
    """Speech is improbable where the probability of none is above this; 1: nowhere."""

    logprob_threshold: float
    """A text is improbable if the mean log-probability of its tokens is below this."""

    def apply(self, segment: Segment, chunk: Chunk) -> Segment:
        """Return the segment of a chunk, without its text if that was made of silence or noise.

        Where voice detection found no region, or was not asked, the likeliest window of the chunk
        says how probable it is that nobody speaks.
        """
        if self.no_speech_threshold >= 1.0 or chunk.regions or not segment.text:
            return segment
        no_speech_prob = 1.0 - speech_peak(chunk.waveform)
        looked = replace(segment, no_speech_prob=no_speech_prob)
        if not self._drops(no_speech_prob, segment.avg_logprob):
            return looked
        return replace(looked, text="", tokens=(), token_logprobs=(), alternatives=())

    def _drops(self, no_speech_prob: float, avg_logprob: float | None) -> bool:
        is_sure = avg_logprob is not None and avg_logprob >= self.logprob_threshold
        return no_speech_prob > (SURELY_NONE if is_sure else self.no_speech_threshold)
