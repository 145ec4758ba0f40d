"""The audio of a session: messages of samples, as mono 16 kHz floats.

Shapes: T samples.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from wavellama.audio.clock import Samples
from wavellama.audio.stream import BlockResampler
from wavellama.server.errors import invalid
from wavellama.units import SAMPLE_RATE

PCM: Final = "audio/pcm"
MU_LAW: Final = "audio/pcmu"
A_LAW: Final = "audio/pcma"

TELEPHONE_RATE: Final = 8_000
"""The rate of G.711."""


@final
class Decoder:
    """Decodes the messages of a session, one after the other."""

    def __init__(self, encoding: str, rate: int) -> None:
        """:param rate: of PCM; G.711 has its own."""
        rate = rate if encoding == PCM else TELEPHONE_RATE
        self._table = {MU_LAW: _mu_law, A_LAW: _a_law}.get(encoding)
        self._resampler = None if rate == SAMPLE_RATE else BlockResampler(rate)
        self._half = b""  # of a sample
        self._rate, self._num_samples = rate, 0

    @property
    def secs(self) -> float:
        """How much audio has come."""
        return self._num_samples / self._rate

    def feed(self, text: str) -> Tensor:
        """Return the samples of a message in base64. (T).

        :raises ApiError: it is no base64.
        """
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as ex:
            raise invalid("audio", f"`audio` is no base64 ({ex}).") from ex
        samples = torch.from_numpy(self._to_floats(data))
        self._num_samples += len(samples)
        return samples if self._resampler is None else self._resampler.feed(samples)

    def finish(self) -> Tensor:
        """Return what was held back for the samples that would have followed. (T)."""
        return torch.empty(0) if self._resampler is None else self._resampler.finish()

    def _to_floats(self, data: bytes) -> Samples:
        if self._table is not None:
            return _scaled(self._table(np.frombuffer(data, np.uint8)))
        data = self._half + data
        whole = len(data) // 2 * 2
        self._half = data[whole:]
        return _scaled(np.frombuffer(data[:whole], "<i2"))


def _scaled(samples: Samples) -> Samples:
    """Return samples of 16 bits as floats below 1. (T)."""
    return np.asarray(samples.astype(np.float32) / np.float32(32_768))


def _mu_law(codes: Samples) -> Samples:
    """Return what G.711's mu-law means: a sign, three bits of exponent, four of mantissa. (T)."""
    codes = ~codes
    exponent, mantissa = (codes >> 4) & 7, (codes & 15).astype(np.int32)
    size = (((mantissa << 3) + 132) << exponent) - 132
    return np.where(codes & 128, -size, size)


def _a_law(codes: Samples) -> Samples:
    """Return what G.711's A-law means. (T)."""
    codes = codes ^ 0x55
    exponent, mantissa = (codes >> 4) & 7, (codes & 15).astype(np.int32)
    size = (mantissa << 4) + 8
    size = np.where(exponent > 0, (size + 256) << np.maximum(exponent, 1) - 1, size)
    return np.where(codes & 128, size, -size)
