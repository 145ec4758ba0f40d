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

from wavellama.audio.arrays import MAX_RATE, MIN_RATE, narrow, read_array, to_float
from wavellama.audio.channels import Mixer
from wavellama.audio.clock import Piece
from wavellama.audio.packets import decode_audio
from wavellama.audio.tracks import EVERYTHING, Selection
from wavellama.errors import AudioError, ConfigError

PIECE_SAMPLES: Final = 65_536
"""How much of an array is converted at a time."""

_URL: Final = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+:/{1,2}\w", re.IGNORECASE)
"""Addresses, also after ``Path`` has taken one of the slashes away."""

_PROTOCOLS: Final = {True: "file,crypto,data", False: "data"}
"""What a playlist may name, by whether the playlist itself is a file of ours: files, but nothing of
the network; where only its bytes were given, nothing else."""

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
    """Samples of 16 bits (``s16le``) without a header, such as a recorder writes to a pipe."""

    file: BinaryFile
    sample_rate: int
    num_channels: int = 1
    """The samples of the channels take turns."""

    def __post_init__(self) -> None:
        """:raises ConfigError: a value is out of range."""
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
    if selection.audio_track not in (None, 1):
        raise AudioError(
            name, f"there is no audio track {selection.audio_track}, but a single one."
        )
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
        allowed = {"protocol_whitelist": _PROTOCOLS[isinstance(file, str)]}
        yield stack.enter_context(av.open(file, "r", options=allowed))


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
    try:
        with open_container(source, name) as container:
            yield from decode_audio(container, name, selection)
    except DECODING_ERRORS as ex:
        raise AudioError(name, f"the audio cannot be decoded ({ex}).") from ex


@contextmanager
def _open_pipe(path: str | Path, name: str) -> Iterator[BinaryFile]:
    """Open a pipe that somebody writes into; reading from any other would never end."""
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
    frame_size = 2 * source.num_channels
    piece_size = max(round(piece_secs * source.sample_rate), 1) * frame_size
    while data := _read_fully(source.file, piece_size, name):
        whole = data[: len(data) // frame_size * frame_size]  # the end may lack some bytes
        samples = np.frombuffer(whole, "<i2").reshape(-1, source.num_channels)
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
    samples = narrow(samples)
    for begin in range(0, len(samples), PIECE_SAMPLES):
        yield mixer(to_float(samples[begin : begin + PIECE_SAMPLES])), sample_rate
