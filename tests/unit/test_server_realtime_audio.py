"""The audio of live sessions: G.711, and messages that end anywhere."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch
from torchaudio.functional import resample

from tests.unit.test_pipeline_inference import RATE
from wavellama.server.realtime.audio import Decoder


def reference(code: int, is_mu: bool) -> int:
    """Decode a code of G.711 by its recommendation, segment by segment."""
    if is_mu:
        code = ~code & 255
        size = ((2 * (code & 15) + 33) << (code >> 4 & 7)) - 33
        return -4 * size if code & 128 else 4 * size
    code ^= 0x55
    exponent, mantissa = code >> 4 & 7, code & 15
    size = 2 * mantissa + 1 if exponent == 0 else (2 * mantissa + 33) << (exponent - 1)
    return 8 * size if code & 128 else -8 * size


@pytest.mark.parametrize("encoding", ["audio/pcmu", "audio/pcma"])
def test_g711(encoding: str) -> None:
    decoder = Decoder(encoding, 0)
    codes = bytes(range(256)) * 40
    decoded = torch.cat([decoder.feed(base64.b64encode(codes).decode()), decoder.finish()])
    raw = torch.tensor([reference(code, encoding == "audio/pcmu") for code in codes]) / 32_768
    assert torch.allclose(decoded, resample(raw, 8_000, RATE)[: len(decoded)], atol=1e-6)
    assert len(decoded) == 2 * len(codes)


def test_samples_may_be_cut_in_halves() -> None:
    data = np.arange(-500, 500, dtype="<i2").tobytes()
    whole, halved = Decoder("audio/pcm", RATE), Decoder("audio/pcm", RATE)
    expected = whole.feed(base64.b64encode(data).decode())
    parts = [data[i : i + 333] for i in range(0, len(data), 333)]
    found = torch.cat([halved.feed(base64.b64encode(part).decode()) for part in parts])
    assert torch.equal(found, expected)
    assert expected[0] == -500 / 32_768
