"""What audio can be read from: the samples of files, bytes and arrays as they lie there.

Shapes: T samples, C channels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final, Protocol, TypeAlias, runtime_checkable

import av
import numpy as np
import torch
from torch import Tensor

from wavellama.errors import AudioError, ConfigError

MIN_RATE: Final = 1_000
MAX_RATE: Final = 768_000
"""The sample rates that are believed."""

MAX_CHANNELS: Final = 8
"""The most channels that an array may have on its shorter axis."""

PIECE_SAMPLES: Final = 65_536
"""How much of an array is converted at a time."""

DECODING_ERRORS: Final = (av.error.FFmpegError, OSError, ValueError)
"""What PyAV raises for files that it cannot read."""

Samples: TypeAlias = "np.ndarray"

Piece: TypeAlias = "tuple[Samples, int]"
"""Mono samples (T) in float32, and their rate."""


@runtime_checkable
class BinaryFile(Protocol):
    """Anything that bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; none at the end."""
        ...


@dataclass(frozen=True)
class RawPcm:
    """Samples without a header, such as a recorder writes to a pipe."""

    file: BinaryFile

    sample_rate: int

    sample_format: str = "s16le"
    """One of ``PCM_FORMATS``, named as ffmpeg names them."""

    num_channels: int = 1
    """The samples of the channels take turns."""

    def __post_init__(self) -> None:
        """Check the values.

        :raises ConfigError: one is out of range.
        """
        if self.sample_format not in PCM_FORMATS:
            raise ConfigError(
                f"`sample_format` must be one of {', '.join(PCM_FORMATS)},"
                f" but is {self.sample_format!r}."
            )
        if not MIN_RATE <= self.sample_rate <= MAX_RATE:
            raise ConfigError(
                f"`sample_rate` must lie between {MIN_RATE} and {MAX_RATE},"
                f" but is {self.sample_rate}."
            )
        if self.num_channels < 1:
            raise ConfigError(f"`num_channels` must be at least 1, but is {self.num_channels}.")


AudioInput: TypeAlias = (
    "str | Path | bytes | bytearray | np.ndarray | BinaryFile | RawPcm | Mapping[str, object]"
)
"""A path, encoded bytes (also as an array of int8 or uint8), a binary file with encoded audio, raw
PCM, or a mapping with ``waveform`` (array or tensor) and ``sample_rate``."""

PCM_FORMATS: Final = {
    **{"u8": "u1", "s8": "i1", "s16le": "<i2", "s16be": ">i2", "s32le": "<i4", "s32be": ">i4"},
    **{"f32le": "<f4", "f32be": ">f4", "f64le": "<f8", "f64be": ">f8"},
}
"""The formats of raw samples, and numpy's names of them."""


def describe(source: object) -> str:
    """Return how messages call ``source``."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, Mapping):
        return "audio given as an array"
    if isinstance(source, RawPcm):
        return describe(source.file)
    if isinstance(source, BinaryFile):
        name = getattr(source, "name", None)
        return name if isinstance(name, str) else "audio given as a file object"
    return "audio given as bytes"


def read_pieces(source: AudioInput, piece_secs: float) -> Iterator[Piece]:
    """Yield the audio in pieces as they come: mono, at its own sample rate.

    :param piece_secs: how much raw PCM is waited for before it is passed on, in seconds.
    :raises AudioError: the source is missing, not audio, or its layout cannot be told.
    """
    name = describe(source)
    if isinstance(source, RawPcm):
        return _read_pcm(source, name, piece_secs)
    if isinstance(source, Mapping):
        return _read_mapping(source, name)
    return _decode(source, name)


def open_container(source: AudioInput, name: str) -> av.container.InputContainer:
    """Open encoded audio.

    :raises AudioError: there is no such file, or ``source`` is of a type that holds no audio.
    """
    return av.open(_openable(source, name), "r")


# Encoded audio


def _decode(source: AudioInput, name: str) -> Iterator[Piece]:
    """Decode the first audio stream of a container."""
    try:
        with open_container(source, name) as container:
            if not container.streams.audio:
                raise AudioError(name, "the file has no audio stream.")
            yield from _read_frames(container, name)
    except DECODING_ERRORS as ex:
        raise AudioError(name, f"the audio cannot be decoded ({ex}).") from ex


def _read_frames(container: av.container.InputContainer, name: str) -> Iterator[Piece]:
    # Packed, since PyAV crashes on planar frames of eight channels or more.
    converter = av.AudioResampler(format="flt")
    rate = 0
    for frame in container.decode(audio=0):
        if rate not in (0, frame.sample_rate):
            raise AudioError(name, "the sample rate changes within the file.")
        rate = frame.sample_rate
        for packed in converter.resample(frame):
            samples = packed.to_ndarray().reshape(-1, packed.layout.nb_channels)
            yield samples.mean(1), rate
    if rate == 0:
        raise AudioError(name, "the file holds no audio samples.")


def _openable(source: AudioInput, name: str) -> str | BinaryFile:
    """Return what PyAV can open: a path or a file at its beginning."""
    if isinstance(source, str | Path):
        if not os.path.isfile(source):  # unlike Path.is_file, never raises for odd names
            raise AudioError(name, "there is no such file.")
        return str(source)
    if isinstance(source, np.ndarray) and source.dtype in (np.int8, np.uint8):
        return BytesIO(source.tobytes())
    if isinstance(source, bytes | bytearray):
        return BytesIO(source)
    if isinstance(source, BinaryFile):
        return _rewound(source, name)
    kind = f"array of {source.dtype}" if isinstance(source, np.ndarray) else type(source).__name__
    raise AudioError(
        name,
        f"a bare {kind} is no audio; give a path, encoded bytes, a binary file, or"
        ' {"waveform": array, "sample_rate": rate}.',
    )


def _rewound(file: BinaryFile, name: str) -> BinaryFile:
    """Return the file at its beginning, if it is one that has been read before."""
    if not isinstance(file.read(0), bytes):
        raise AudioError(name, "the file gives text; open it in binary mode.")
    if is_seekable(file):
        file.seek(0)  # type: ignore[attr-defined]
    return file


def is_seekable(file: object) -> bool:
    """Say whether a file can be read again."""
    seekable = getattr(file, "seekable", None)
    return hasattr(file, "seek") and (seekable is None or bool(seekable()))


# Raw PCM


def _read_pcm(source: RawPcm, name: str, piece_secs: float) -> Iterator[Piece]:
    dtype = np.dtype(PCM_FORMATS[source.sample_format])
    frame_size = dtype.itemsize * source.num_channels
    piece_size = max(round(piece_secs * source.sample_rate), 1) * frame_size
    while data := _read_fully(source.file, piece_size, name):
        whole = data[: len(data) // frame_size * frame_size]  # the end may lack some bytes
        samples = np.frombuffer(whole, dtype).reshape(-1, source.num_channels)
        yield to_float(samples).mean(1), source.sample_rate


def _read_fully(file: BinaryFile, size: int, name: str) -> bytes:
    """Read until there are ``size`` bytes or no more; pipes give what they have got."""
    parts: list[bytes] = []
    missing = size
    try:
        while missing and (part := file.read(missing)):
            parts.append(part)
            missing -= len(part)
    except (OSError, ValueError) as ex:
        raise AudioError(name, f"the audio cannot be read ({ex}).") from ex
    return b"".join(parts)


# Arrays


def _read_mapping(source: Mapping[str, object], name: str) -> Iterator[Piece]:
    samples, sample_rate = read_array(source, name)
    for begin in range(0, len(samples), PIECE_SAMPLES):
        piece = to_float(samples[begin : begin + PIECE_SAMPLES])
        yield (piece if piece.ndim == 1 else piece.mean(1)), sample_rate


def read_array(source: Mapping[str, object], name: str) -> tuple[Samples, int]:
    """Read ``{"waveform", "sample_rate"}``. Returns (T) or (T, C), of any type, and the rate.

    :raises AudioError: a key is missing, or its value no audio.
    """
    if "waveform" not in source or "sample_rate" not in source:
        keys = sorted(map(str, source))
        raise AudioError(name, f"needs `waveform` and `sample_rate`, but has {keys}.")
    sample_rate = check_rate(source["sample_rate"], name)
    waveform = source["waveform"]
    if isinstance(waveform, Tensor):
        waveform = waveform.detach().cpu()
        waveform = waveform.float() if waveform.dtype == torch.bfloat16 else waveform
    samples = np.asarray(waveform)
    if samples.dtype.kind not in "fiu":
        raise AudioError(name, f"the waveform must hold numbers, but holds {samples.dtype}.")
    return _time_first(samples, name), sample_rate


def check_rate(sample_rate: object, name: str) -> int:
    """Return the sample rate if it can be believed.

    :raises AudioError: it cannot.
    """
    valid = isinstance(sample_rate, int | np.integer) and not isinstance(sample_rate, bool)
    if not valid or not MIN_RATE <= int(str(sample_rate)) <= MAX_RATE:
        raise AudioError(
            name,
            f"the sample rate must be a whole number from {MIN_RATE} to {MAX_RATE},"
            f" but is {sample_rate!r}.",
        )
    return int(str(sample_rate))


def _time_first(samples: Samples, name: str) -> Samples:
    """Return a view of (T), (C, T) or (T, C) as (T) or (T, C)."""
    if samples.ndim == 1:
        return samples
    channel_axes = [axis for axis, size in enumerate(samples.shape) if size <= MAX_CHANNELS]
    if samples.ndim != 2 or len(channel_axes) != 1:
        raise AudioError(
            name,
            f"an array of shape {samples.shape} is neither (samples), (channels, samples)"
            f" nor (samples, channels) with at most {MAX_CHANNELS} channels.",
        )
    return samples if channel_axes == [1] else samples.T


def to_float(samples: Samples) -> Samples:
    """Return a copy as floats; integers are scaled by their range, unsigned ones centred first."""
    if samples.dtype.kind == "f":
        return np.array(samples, np.float32, order="C")
    full_scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    centre = full_scale if samples.dtype.kind == "u" else 0.0
    scaled: Samples = (samples.astype(np.float64) - centre) / full_scale
    return np.array(scaled, np.float32, order="C")
