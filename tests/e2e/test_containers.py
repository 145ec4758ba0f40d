"""A thousand generated media files: the clock is that of ffmpeg's ``aresample=async=1``.

Where an older ffmpeg does not know what a codec adds at the beginning, what was written decides.

``pytest -m slow tests/e2e/test_containers.py -s`` prints how far apart the two are.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import torch

from tests.containers import Sound, onsets, write_container
from tests.e2e.time_limits import time_limit
from wavellama.audio.load import load_audio
from wavellama.audio.stream import probe_duration
from wavellama.audio.tracks import Selection
from wavellama.errors import AudioError
from wavellama.units import SAMPLE_RATE, samples_to_seconds

NUM_FILES: Final = 1000

MAX_SECS: Final = 20.0
"""More than any of the files takes to be read."""

ONSET_TOLERANCE: Final = 0.05
DURATION_TOLERANCE: Final = 0.1
PROBE_TOLERANCE: Final = 0.15

CODECS: Final = {
    ".mkv": ("aac", "flac", "libopus", "libmp3lame", "ac3", "pcm_s16le", "mp2"),
    ".mp4": ("aac", "libmp3lame", "ac3", "alac", "libopus", "flac"),
    ".mov": ("aac", "alac"),
    ".webm": ("libopus",),
    ".ts": ("aac", "mp2", "libmp3lame", "ac3"),
    ".nut": ("flac", "pcm_s16le", "aac"),
}
"""Formats that keep the time stamps of packets, and codecs of each."""

ALONE: Final = {".mp3": "libmp3lame", ".ogg": "libopus", ".flac": "flac", ".wav": "pcm_s16le"}
ALONE_TOO: Final = {".aac": "aac", ".ac3": "ac3", ".m4a": "aac", ".mka": "libopus"}
"""Formats with a single track of sound, from its beginning."""

RATES: Final = {
    "libopus": (48_000, 16_000),
    "ac3": (48_000, 44_100, 32_000),
    "mp2": (48_000, 44_100, 16_000),
}
"""What codecs can do; all others can do these."""
OTHER_RATES: Final = (16_000, 22_050, 44_100, 48_000)

DAMAGES: Final = ("none", "none", "none", "cut off", "flipped bits")


@dataclass(frozen=True)
class Case:
    """A generated file."""

    number: int
    suffix: str
    sounds: tuple[Sound, ...]
    track: int
    channel: int | str
    picture_secs: float
    damage: str

    @property
    def expected(self) -> list[float]:
        """When the bursts begin that lie in no hole."""
        sound = self.sounds[self.track - 1]
        return [
            begin + sound.start
            for begin in sound.onsets
            if not any(first - 0.3 < begin < last + 0.15 for first, last in sound.holes)
        ]

    def write(self, folder: Path) -> Path:
        """Write the file; returns its path."""
        path = folder / f"{self.number}{self.suffix}"
        write_container(path, *self.sounds, picture_secs=self.picture_secs)
        draw = random.Random(self.number)
        data = bytearray(path.read_bytes())
        if self.damage == "cut off":
            del data[len(data) * 3 // 4 :]
        if self.damage == "flipped bits":
            for _ in range(3):
                data[draw.randrange(len(data) // 4, len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        return path


def draw_case(number: int, draw: random.Random) -> Case:
    """Draw a file: format, codec, begin, holes, tracks, channels, rates and damage."""
    if draw.random() < 0.25:
        suffix, codec = draw.choice([*ALONE.items(), *ALONE_TOO.items()])
        sound = _draw_sound(codec, draw)
        return Case(number, suffix, (sound,), 1, "mix", 0.0, draw.choice(DAMAGES))
    suffix = draw.choice(list(CODECS))
    sounds = []
    picture_secs = draw.choice((0.0, 0.0, 1.0, 6.0))
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        sound = _draw_sound(draw.choice(CODECS[suffix]), draw)
        start = draw.choice((0.0, 0.25, 1.5, 4.0)) if picture_secs else 0.0
        holes = draw.choice(((), (), ((1.2, 2.0),), ((0.9, 1.3), (2.2, 3.3)), ((1.0, 3.0),)))
        sounds.append(_with(sound, start=start, holes=holes))
    track = draw.randint(1, len(sounds))
    channels = len(sounds[track - 1].gains)
    channel = draw.choice(("mix", draw.randint(1, channels)))
    return Case(number, suffix, tuple(sounds), track, channel, picture_secs, draw.choice(DAMAGES))


def _draw_sound(codec: str, draw: random.Random) -> Sound:
    begins = sorted(draw.sample(range(1, 10), 3))
    return Sound(
        codec=codec,
        rate=draw.choice(RATES.get(codec, OTHER_RATES)),
        gains=draw.choice(((1.0,), (1.0,), (1.0, 0.9), (0.9, 1.0))),
        onsets=[0.42 * begin + draw.random() / 10 for begin in begins],
        secs=draw.uniform(4.3, 5.3),
    )


def _with(sound: Sound, **changes: object) -> Sound:
    return Sound(**{**sound.__dict__, **changes})


def _read(case: Case, path: Path) -> torch.Tensor | None:
    """Return the audio; None where damage leaves none."""
    failure = pytest.fail.Exception(f"{case} takes longer than {MAX_SECS} s")
    with time_limit(MAX_SECS, failure):
        try:
            probe_duration(path)
            return load_audio(path, Selection(case.track, case.channel))  # type: ignore[arg-type]
        except AudioError:
            assert case.damage != "none", case
            return None


def _read_with_ffmpeg(case: Case, path: Path) -> torch.Tensor:
    pan = "" if case.channel == "mix" else f"pan=mono|c0=c{int(case.channel) - 1},"
    resample = f"{pan}aresample=async=1:first_pts=0:out_sample_rate={SAMPLE_RATE}"
    command = [
        "ffmpeg",
        "-v",
        "quiet",
        "-nostdin",
        "-i",
        str(path),
        "-map",
        f"0:a:{case.track - 1}",
    ]
    command += ["-af", resample, "-ac", "1", "-f", "f32le", "pipe:1"]
    command += ["-map", "0", "-f", "null", "-"]  # else its clock begins with the sound that is read
    result = subprocess.run(command, capture_output=True, check=False, timeout=60)
    return torch.from_numpy(np.frombuffer(result.stdout, "<f4").copy())


def _difference(case: Case, ours: torch.Tensor, theirs: torch.Tensor) -> str | None:
    """Say how the clocks differ; None: they do not."""
    secs = [samples_to_seconds(len(audio)) for audio in (ours, theirs)]
    if abs(secs[0] - secs[1]) > DURATION_TOLERANCE:
        return f"durations {secs}"
    heard, reference = onsets(ours), onsets(theirs)
    if len(heard) == len(reference) and (_agree(heard, reference) or _hears(heard, case.expected)):
        return None
    return f"onsets {heard}, but {reference}"


def _agree(one: list[float], other: list[float]) -> bool:
    return all(abs(a - b) <= ONSET_TOLERANCE for a, b in zip(one, other, strict=True))


def _hears(heard: list[float], written: list[float]) -> bool:
    return all(min(abs(begin - at) for at in heard) <= ONSET_TOLERANCE for begin in written)


@pytest.mark.slow
def test_a_thousand_files_against_ffmpeg(tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("NOT RUN: a thousand media files against ffmpeg, which is not installed")
    draw = random.Random(0)
    different: list[str] = []
    counts: Counter[str] = Counter()
    for number in range(NUM_FILES):
        case = draw_case(number, draw)
        path = case.write(tmp_path)
        ours, theirs = _read(case, path), _read_with_ffmpeg(case, path)
        counts["unreadable" if ours is None else case.damage] += 1
        if ours is not None:
            difference = _difference(case, ours, theirs)
            if difference is not None:
                different.append(f"{case}: {difference}")
                counts[f"different, {case.damage}"] += 1
        path.unlink()
    print(dict(counts))
    print("\n".join(different))
    assert not [line for line in different if "damage='none'" in line]
    assert len(different) <= NUM_FILES // 50


SWEEP: Final = [draw_case(number, random.Random(number)) for number in range(40)]


@pytest.mark.parametrize("case", SWEEP, ids=lambda case: f"{case.number}{case.suffix}")
def test_every_file_is_read_where_its_time_stamps_say(case: Case, tmp_path: Path) -> None:
    """The same without ffmpeg, by what was written."""
    path = case.write(tmp_path)
    waveform = _read(case, path)
    if waveform is None or case.damage != "none":
        return
    sound, heard = case.sounds[case.track - 1], onsets(waveform)
    assert all(min(abs(begin - at) for at in heard) < 0.1 for begin in case.expected), heard
    secs = samples_to_seconds(len(waveform))
    assert secs == pytest.approx(sound.start + sound.secs, abs=0.2)
    promised = probe_duration(path, Selection(case.track))
    assert promised == pytest.approx(secs, abs=PROBE_TOLERANCE)
