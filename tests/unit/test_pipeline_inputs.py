"""One input or many."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wavellama.audio.sources import RawPcm
from wavellama.pipeline.inputs import as_list


@pytest.mark.parametrize(
    "source",
    [
        *("a.wav", Path("a.wav"), b"RIFF", bytearray(b"RIFF"), memoryview(b"RIFF")),
        *(io.BytesIO(b"RIFF"), RawPcm(io.BytesIO(), 16_000), np.zeros(4, np.uint8)),
        *({"waveform": [0.0], "sample_rate": 16_000}, torch.zeros(9), None, 1.5),
    ],
    ids=lambda source: type(source).__name__,
)
def test_a_single_input(source: Any) -> None:
    (only,) = as_list(source)
    assert only is source


@pytest.mark.parametrize(
    "convert", [list, tuple, iter, deque, lambda names: (name for name in names)]
)
def test_inputs_of_any_iterable(convert: Callable[[list[str]], Iterable[Any]]) -> None:
    names = ["b.wav", "a.wav"]
    assert as_list(convert(names)) == names


def test_what_a_folder_holds(tmp_path: Path) -> None:
    paths = {tmp_path / name for name in ("a.wav", "b.wav")}
    for path in paths:
        path.touch()
    assert set(as_list(tmp_path.glob("*.wav"))) == paths
