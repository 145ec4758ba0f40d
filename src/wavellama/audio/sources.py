"""What audio can be read from: the samples of files, bytes and arrays as they lie there.

Shapes: T samples, C channels.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePath
from typing import Final, Protocol, TypeAlias, TypeGuard, runtime_checkable

import av
import numpy as np
from torch import Tensor

from wavellama.audio.channels import Mixer
from wavellama.audio.clock import Piece, Samples
from wavellama.audio.packets import decode_audio
from wavellama.audio.tracks import EVERYTHING, Selection
from wavellama.errors import AudioError, ConfigError

MIN_RATE: Final = 1_000
MAX_RATE: Final = 768_000
"""The sample rates that are believed."""

MAX_CHANNELS: Final = 8
"""The most channels that an array may have on its shorter axis."""

PIECE_SAMPLES: Final = 65_536
"""How much of an array is converted at a time."""

_URL: Final = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+:/{1,2}\w", re.IGNORECASE)
"""Addresses, also after ``Path`` has taken one of the slashes away."""

DECODING_ERRORS: Final = (av.error.FFmpegError, OSError, ValueError)
"""What PyAV raises for files that it cannot read."""


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
    "str | Path | bytes | bytearray | memoryview | np.ndarray | BinaryFile | RawPcm"
    " | Mapping[str, object]"
)
"""A path, encoded bytes (also as an array of int8 or uint8), a binary file with encoded audio, raw
PCM, or a mapping with ``waveform`` (array or tensor) and ``sample_rate``, which may also be called
``array`` and ``sampling_rate``. A path may be that of a named pipe.

Integers of an array are scaled by the range of their type. For int64, to which numpy turns lists of
samples, that is the range of the smallest of 16, 32 and 64 bits that holds all samples."""

WAVEFORM_KEYS: Final = ("waveform", "array")
RATE_KEYS: Final = ("sample_rate", "sampling_rate")
"""What the values of a mapping are called, here and by Hugging Face."""

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


def read_pieces(
    source: AudioInput, piece_secs: float, selection: Selection = EVERYTHING
) -> Iterator[Piece]:
    """Yield the audio in pieces as they come: mono, at its own sample rate.

    :param piece_secs: how much raw PCM is waited for before it is passed on, in seconds.
    :raises AudioError: the source is missing, not audio, its layout cannot be told, or it has no
        such track or channel.
    """
    name = describe(source)
    if not isinstance(source, RawPcm | Mapping):
        return _decode(source, name, selection)
    if selection.track not in (None, 1):
        raise AudioError(name, f"there is no audio track {selection.track}, but a single one.")
    mixer = Mixer(selection.channel, name)
    if isinstance(source, RawPcm):
        return _read_pcm(source, name, piece_secs, mixer)
    return _read_mapping(source, name, mixer)


@contextmanager
def open_container(source: AudioInput, name: str) -> Iterator[av.container.InputContainer]:
    """Open encoded audio.

    :raises AudioError: there is no such file, nothing is written into a pipe, or ``source`` is of a
        type that holds no audio.
    """
    with ExitStack() as stack:
        if is_pipe(source):
            file: str | BinaryFile = stack.enter_context(_open_pipe(source, name))
        else:
            file = _openable(source, name)
        yield stack.enter_context(av.open(file, "r"))


def is_pipe(source: object) -> TypeGuard[str | Path]:
    """Say whether ``source`` is the path of a pipe, such as a shell gives for ``<(command)``."""
    if not isinstance(source, str | Path):
        return False
    path = os.path.expanduser(source)
    return os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode)


def missing_reason(path: str | Path) -> str | None:
    """Return why nothing can be read at a path; None: there is a file or a pipe."""
    expanded = os.path.expanduser(path)
    if os.path.isfile(expanded) or is_pipe(path):  # unlike Path's, never raise for odd names
        return None
    folder = os.path.dirname(expanded)
    reasons = {
        "the path is empty.": not expanded,
        "this is a folder, not a file.": os.path.isdir(expanded),
        "URLs are not fetched; download the file, and give its path.": _URL.match(expanded),
        f"there is no folder {folder}.": folder and not os.path.isdir(folder),
        "there is no such file.": PurePath(expanded).suffix,
    }
    found = (reason for reason, is_so in reasons.items() if is_so)
    return next(found, "there is no such file or folder.")


# Encoded audio


def _decode(source: AudioInput, name: str, selection: Selection) -> Iterator[Piece]:
    """Decode an audio track of a container."""
    try:
        with open_container(source, name) as container:
            yield from decode_audio(container, name, selection)
    except DECODING_ERRORS as ex:
        raise AudioError(name, f"the audio cannot be decoded ({ex}).") from ex


@contextmanager
def _open_pipe(path: str | Path, name: str) -> Iterator[BinaryFile]:
    """Open a pipe that somebody writes into; others would be waited for for ever."""
    descriptor = os.open(os.path.expanduser(path), os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        os.set_blocking(descriptor, True)
        if not file.peek(1):
            raise AudioError(name, "nothing is written into the pipe.")
        yield file


def _openable(source: AudioInput, name: str) -> str | BinaryFile:
    """Return what PyAV can open: a path or a file at its beginning."""
    if isinstance(source, str | Path):
        if reason := missing_reason(source):
            raise AudioError(name, reason)
        # Without the prefix, a colon in the name may mean a protocol.
        return f"file:{os.path.expanduser(source)}"
    if isinstance(source, np.ndarray) and source.dtype in (np.int8, np.uint8):
        return BytesIO(source.tobytes())
    if isinstance(source, bytes | bytearray | memoryview):
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


def _read_pcm(source: RawPcm, name: str, piece_secs: float, mixer: Mixer) -> Iterator[Piece]:
    dtype = np.dtype(PCM_FORMATS[source.sample_format])
    frame_size = dtype.itemsize * source.num_channels
    piece_size = max(round(piece_secs * source.sample_rate), 1) * frame_size
    while data := _read_fully(source.file, piece_size, name):
        whole = data[: len(data) // frame_size * frame_size]  # the end may lack some bytes
        samples = np.frombuffer(whole, dtype).reshape(-1, source.num_channels)
        yield mixer(to_float(samples)), source.sample_rate


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


def _read_mapping(source: Mapping[str, object], name: str, mixer: Mixer) -> Iterator[Piece]:
    samples, sample_rate = read_array(source, name)
    samples = _narrow(samples)
    for begin in range(0, len(samples), PIECE_SAMPLES):
        yield mixer(to_float(samples[begin : begin + PIECE_SAMPLES])), sample_rate


def read_array(source: Mapping[str, object], name: str) -> tuple[Samples, int]:
    """Read ``{"waveform", "sample_rate"}``. Returns (T) or (T, C), of any type, and the rate.

    :raises AudioError: a key is missing, or its value no audio.
    """
    sample_rate = check_rate(_value(source, RATE_KEYS, name), name)
    samples = _to_array(_value(source, WAVEFORM_KEYS, name), name)
    if samples.dtype.kind not in "fiu":
        raise AudioError(name, f"the waveform must hold numbers, but holds {samples.dtype}.")
    return _time_first(samples, name), sample_rate


def _value(source: Mapping[str, object], keys: tuple[str, ...], name: str) -> object:
    """Return the value of the first of ``keys`` that there is."""
    for key in keys:
        if key in source:
            return source[key]
    raise AudioError(
        name,
        "needs `waveform` and `sample_rate` (or `array` and `sampling_rate`), but has"
        f" {sorted(map(str, source))}.",
    )


def _to_array(waveform: object, name: str) -> Samples:
    try:
        if isinstance(waveform, Tensor):
            waveform = waveform.detach().cpu()
            # numpy does not know all of torch's types of floats
            waveform = waveform.float() if waveform.is_floating_point() else waveform
        return np.asarray(waveform)
    except (TypeError, ValueError, RuntimeError) as ex:
        raise AudioError(name, f"the waveform cannot be read as an array ({ex}).") from ex


def _narrow(samples: Samples) -> Samples:
    """Return int64 as the smallest of int16, int32 and int64 that holds all samples."""
    if samples.dtype.kind != "i" or samples.dtype.itemsize < 8 or not samples.size:
        return samples
    lowest = min(samples.min(), -1 - samples.max())
    dtype = np.promote_types(np.min_scalar_type(lowest), np.int16)
    return samples.astype(dtype, copy=False)


def check_rate(sample_rate: object, name: str) -> int:
    """Return the sample rate if it can be believed; 22050.0 is as good as 22050.

    :raises AudioError: it cannot.
    """
    if (
        isinstance(sample_rate, int | float | np.integer | np.floating)
        and MIN_RATE <= sample_rate <= MAX_RATE
        and sample_rate == int(sample_rate)
    ):
        return int(sample_rate)
    raise AudioError(
        name,
        f"the sample rate must be a whole number from {MIN_RATE} to {MAX_RATE},"
        f" but is {sample_rate!r}.",
    )


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
