"""Small audio files for what ships with the package: Ogg-Opus. Shapes: T samples."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from wavellama.files import replacing
from wavellama.units import SAMPLE_RATE

BIT_RATE: Final = 24_000
"""Bits per second: hardly audible for one voice, a tenth of FLAC."""


def write_opus(path: Path, samples: NDArray[np.int16]) -> None:
    """Write 16 kHz mono samples (T); equal samples give equal files of exactly their length."""
    frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
    frame.sample_rate, frame.pts = SAMPLE_RATE, 0
    with (
        replacing(path) as part,
        av.open(str(part), "w", format="ogg", options={"fflags": "+bitexact"}) as container,
    ):
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = BIT_RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
