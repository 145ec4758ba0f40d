"""Three hours of stereo speech: constant memory, and speech is found where it is."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
from torchaudio.transforms import Resample

from wavellama.audio.load import load_audio
from wavellama.units import SAMPLE_RATE

AUDIO: Final = Path(str(files("wavellama.assets"))) / "corpora" / "mini" / "audio"

RATE: Final = 44_100

NUM_CLIPS: Final = 120

QUIET: Final = 0.01
"""What begins and ends a sentence: this share of its loudest 20 ms (-40 dB)."""

Samples: TypeAlias = "npt.NDArray[np.float32]"

READER: Final = """
import json, re, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from wavellama.audio.chunks import cut_at_silence
from wavellama.audio.stream import stream_audio

begin = time.perf_counter()
found = [
    [chunk.start, chunk.end, [region.end for region in chunk.regions]]
    for chunk in cut_at_silence(stream_audio(sys.argv[1]), 30)
]
secs = time.perf_counter() - begin
kib = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
print(json.dumps({"chunks": found, "secs": secs, "mib": kib / 1024}))
"""
"""Not by getrusage, whose peak begins with that of the process that started this one."""


@dataclass(frozen=True)
class Sentence:
    """When a sentence is spoken, in seconds."""

    begin: float
    end: float


def _sentences() -> list[Samples]:
    """Return human speech at 44.1 kHz in three languages, without silence at either end."""
    paths = random.Random(0).sample(sorted(AUDIO.glob("*/*/*.ogg")), NUM_CLIPS)
    resample = Resample(SAMPLE_RATE, RATE)
    return [
        resample(torch.from_numpy(_trimmed(load_audio(path).numpy()))).numpy() for path in paths
    ]


def _trimmed(samples: Samples) -> Samples:
    frames = samples[: len(samples) // 320 * 320].reshape(-1, 320)
    loudness = np.sqrt((frames**2).mean(1))
    loud = np.flatnonzero(loudness > QUIET * loudness.max())
    return samples[loud[0] * 320 : (loud[-1] + 1) * 320]


def write_recording(path: Path, hours: float) -> list[Sentence]:
    """Write sentences with silences of 0.3 to 1.2 s between them, as a stream."""
    draw, sentences = random.Random(1), _sentences()
    noise = np.random.default_rng(0).normal(0, 1e-4, 2 * RATE).astype("f4")
    spoken: list[Sentence] = []
    written = 0
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        while written < hours * 3600 * RATE:
            for part in (noise[: round(draw.uniform(0.3, 1.2) * RATE)], draw.choice(sentences)):
                file.write(np.stack([part, 0.5 * part], 1))
                written += len(part)
            spoken.append(Sentence((written - len(part)) / RATE, written / RATE))
    return spoken


def _read(path: Path) -> Any:
    """Decode and cut a recording in a process of its own."""
    command = [sys.executable, "-c", READER, str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
def test_three_hours_take_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    long, short = tmp_path / "long.flac", tmp_path / "short.flac"
    write_recording(short, 1 / 60)
    sentences = write_recording(long, 3)
    result = _read(long)
    long.unlink()
    memory = _read(short)["mib"], result["mib"]
    print(f"3 h in {result['secs']:.0f} s; peak of 1 min and of 3 h in MiB: {memory}")
    assert memory[1] - memory[0] <= 80

    ends = [end / SAMPLE_RATE for _, _, ends in result["chunks"] for end in ends]
    assert ends == sorted(ends)
    found = sum(_is_near(ends, sentence.end) for sentence in sentences)
    print(f"{found} of {len(sentences)} sentence ends found")
    assert found >= 0.9 * len(sentences)
    _check_order(result["chunks"], sentences)


def _is_near(ends: list[float], moment: float) -> bool:
    return bool(np.abs(np.asarray(ends) - moment).min() <= 0.3)


def _check_order(chunks: list[Any], sentences: list[Sentence]) -> None:
    """Check that chunks are in order, none overlaps, and sentences lie in them in theirs."""
    assert all(first[1] <= second[0] for first, second in pairwise(chunks))
    assert all(end - start <= 30 * SAMPLE_RATE for start, end, _ in chunks)
    starts = np.array([chunk[0] for chunk in chunks]) / SAMPLE_RATE
    stops = np.array([chunk[1] for chunk in chunks]) / SAMPLE_RATE
    middles = np.array([(sentence.begin + sentence.end) / 2 for sentence in sentences])
    places = np.searchsorted(starts, middles, "right") - 1
    assert (np.diff(places) >= 0).all()
    assert (stops[places] > middles).mean() > 0.97
