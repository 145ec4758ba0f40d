"""Three hundred files, most of them damaged: no crash, no hang, and each failure names its file."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from tests.e2e.damage import DAMAGES, SURELY_BAD
from tests.e2e.time_limits import time_limit
from wavellama.audio.chunks import cut_at_silence
from wavellama.audio.load import load_audio
from wavellama.audio.stream import probe_duration, stream_audio
from wavellama.errors import AudioError
from wavellama.units import SAMPLE_RATE

SPEECH: Final = Path(str(files("wavellama.assets"))) / "corpora" / "mini" / "audio" / "sonnet.ogg"

LINES: Final = (3.0, 6.0, 9.0)
"""Where lines of the sonnet are being said, in seconds."""

NUM_FILES: Final = 300

MAX_SECS: Final = 30
"""What one file may take; on an idle machine it takes a hundredth of a second."""

RATES: Final = (8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000, 192_000)

LAYOUTS: Final = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1")
"""Of one to six channels."""


@dataclass(frozen=True)
class Encoding:
    """What a kind of file can hold."""

    container: str
    codec: str
    rates: tuple[int, ...] = RATES
    max_channels: int = 6


VORBIS: Final = "Vorbis, which libsndfile encodes"

ENCODINGS: Final = {
    "wav": Encoding("wav", "pcm_s16le"),
    "flac": Encoding("flac", "flac"),
    "mp3": Encoding("mp3", "libmp3lame", RATES[:7], 2),
    "ogg": Encoding("ogg", VORBIS),
    "opus": Encoding("opus", "libopus", (8000, 16000, 48000), 2),
    "m4a": Encoding("ipod", "aac", RATES[:8]),
    "webm": Encoding("webm", "libopus", (8000, 16000, 48000), 2),
    "amr": Encoding("amr", "libopencore_amrnb", (8000,), 1),
}

SUFFIXES: Final = [
    suffix
    for suffix, encoding in ENCODINGS.items()
    if encoding.codec == VORBIS or encoding.codec in av.codecs_available
]


def _write_speech(path: Path, speech: Tensor, draw: random.Random) -> None:
    """Encode a second of speech, at a rate and with channels that the kind of file can hold."""
    encoding = ENCODINGS[path.suffix[1:]]
    rate = draw.choice(encoding.rates)
    layout = LAYOUTS[draw.randrange(encoding.max_channels)]
    begin = round(draw.choice(LINES) * SAMPLE_RATE)
    frame = av.AudioFrame.from_ndarray(
        speech[None, begin : begin + SAMPLE_RATE].numpy(), format="fltp", layout="mono"
    )
    frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
    if encoding.codec == VORBIS:
        (converted,) = av.AudioResampler("flt", layout, rate).resample(frame)
        samples = converted.to_ndarray().reshape(-1, converted.layout.nb_channels)
        soundfile.write(path, samples, rate)
    else:
        _encode(path, frame, layout, rate)


def _encode(path: Path, frame: av.AudioFrame, layout: str, rate: int) -> None:
    encoding = ENCODINGS[path.suffix[1:]]
    with av.open(str(path), "w", format=encoding.container) as output:
        stream: Any = output.add_stream(encoding.codec, rate=rate, layout=layout)
        size = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(stream.format, layout, rate, frame_size=size)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))


# Damages beside those of training's tests


def _zero_bytes(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    begin = draw.randrange(len(content))
    length = min(draw.choice((1, 30, 3000)), len(content) - begin)
    content[begin : begin + length] = bytes(length)
    path.write_bytes(content)


def _wrong_extension(path: Path, draw: random.Random) -> None:
    other = path.with_suffix(f".{draw.choice([*SUFFIXES, 'txt', 'srt', 'jpg'])}")
    content = path.read_bytes()
    path.unlink()
    other.write_bytes(content)


def _few_samples(path: Path, draw: random.Random) -> None:
    count = draw.choice((0, 1, 2, 400))
    soundfile.write(path, np.ones(count, "f4"), SAMPLE_RATE, format="wav")


OWN_DAMAGES: Final[dict[str, Callable[[Path, random.Random], object]]] = {
    "zeros": _zero_bytes,
    "extension": _wrong_extension,
    "few_samples": _few_samples,
    **{f"truncated_{suffix}": DAMAGES["truncated_wav"] for suffix in SUFFIXES},
    **{f"flipped_{suffix}": DAMAGES["flipped_wav"] for suffix in SUFFIXES},
}

ALL_DAMAGES: Final = {**DAMAGES, **OWN_DAMAGES}

NEVER_AUDIO: Final = SURELY_BAD - {"lying_duration"} | {"few_samples"}


def _write_files(folder: Path) -> list[Path]:
    """Write good files and, with names of what was done to them, damaged ones, in turns."""
    draw, speech = random.Random(0), load_audio(SPEECH)
    kinds = [kind for kind in ALL_DAMAGES if kind != "lying_duration"]  # a matter of manifests
    for index in range(NUM_FILES):
        kind = "good" if index % 3 == 0 else kinds[index % len(kinds)]
        suffix = kind.rpartition("_")[2]
        suffix = suffix if suffix in SUFFIXES else SUFFIXES[index // 3 % len(SUFFIXES)]
        path = folder / f"{kind}-{index}.{suffix}"
        _write_speech(path, speech, draw)
        if kind != "good":
            ALL_DAMAGES[kind](path, draw)
    names = {path.stem: path for path in folder.iterdir()}
    missing = [folder / f"missing-{i}.wav" for i in range(NUM_FILES - len(names))]
    return sorted([*names.values(), *missing], key=lambda path: path.stem.rpartition("-")[2])


class _Hang(BaseException):
    """Nothing that reads audio catches this."""


def _limit(path: Path) -> AbstractContextManager[None]:
    return time_limit(MAX_SECS, _Hang(f"{path} takes longer than {MAX_SECS} s"))


def _outcome(read: Callable[[], Tensor], path: Path) -> Tensor | str:
    """Return the samples, or why there are none."""
    with _limit(path):
        try:
            return read()
        except AudioError as error:
            failure = error
    assert failure.source == str(path)
    assert failure.reason
    return str(failure)


def _cut(path: Path) -> Tensor:
    chunks = [chunk.waveform for chunk in cut_at_silence(stream_audio(path, 0.1), 0.5)]
    return torch.cat(chunks) if chunks else torch.empty(0)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return _write_files(tmp_path_factory.mktemp("fuzzed"))


def _kind(path: Path) -> str:
    return path.stem.rpartition("-")[0]


def test_what_is_written(paths: list[Path]) -> None:
    assert len(paths) == NUM_FILES
    assert {_kind(path) for path in paths} == {"good", *ALL_DAMAGES} - {"lying_duration"}
    assert {path.suffix[1:] for path in paths if _kind(path) == "good"} == set(SUFFIXES)


def test_every_file_is_read_or_reported(paths: list[Path]) -> None:
    good = [path for path in paths if _kind(path) == "good"]
    alone = {path: load_audio(path) for path in good}
    counts: Counter[bool] = Counter()
    for path in paths:
        loaded = _outcome(lambda path=path: load_audio(path), path)  # type: ignore[misc]
        streamed = _outcome(lambda path=path: torch.cat([*stream_audio(path, 0.1)]), path)  # type: ignore[misc]
        _check_equal(loaded, streamed)
        cut = _outcome(lambda path=path: _cut(path), path)  # type: ignore[misc]
        assert isinstance(cut, Tensor) or cut == loaded
        with _limit(path):
            probe_duration(path)
        counts[isinstance(loaded, Tensor)] += 1
        if path in alone:
            assert isinstance(loaded, Tensor)
            assert isinstance(cut, Tensor)
            assert torch.equal(loaded, alone[path])
            assert len(cut) > SAMPLE_RATE / 4
        assert not (isinstance(loaded, Tensor) and _kind(path) in NEVER_AUDIO), path
    assert counts[False] > 50
    assert counts[True] > len(good) + 50


def _check_equal(loaded: Tensor | str, streamed: Tensor | str) -> None:
    if isinstance(loaded, Tensor) and isinstance(streamed, Tensor):
        torch.testing.assert_close(streamed, loaded, atol=1e-5, rtol=0)
    else:
        assert streamed == loaded
