"""A corpus of short clips, half of them damaged in the ways that files of real corpora are."""

from __future__ import annotations

import io
import os
import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile

from wavellama.audio.load import load_audio
from wavellama.data.utterance import Utterance
from wavellama.errors import AudioError
from wavellama.units import SAMPLE_RATE, samples_to_seconds

SUFFIXES: Final = ("wav", "flac", "ogg", "mp3")

RATES: Final = (16_000, 8_000, 44_100)

LETTERS: Final = "abcdefghij"
"""What the texts are made of: the letters that ``toy_tokenizer`` knows."""

TOLERANCE_SECS: Final = 0.1
"""How far from the manifest's duration a file may be, as docs/data.md has it."""

Samples: TypeAlias = "npt.NDArray[np.float32]"

Damage: TypeAlias = "Callable[[Path, random.Random], object]"
"""Changes a good file, or what lies in its place."""


def write_good(folder: Path, count: int, draw: random.Random) -> list[Utterance]:
    """Write ``count`` good clips of all formats; returns what a manifest says of them."""
    return [_write_clip(folder / f"good-{i}.{SUFFIXES[i % 4]}", draw) for i in range(count)]


def write_damaged(folder: Path, count: int, draw: random.Random) -> list[Utterance]:
    """Write ``count`` clips, each damaged in one of the ways of ``DAMAGES``, which its name tells.

    Returns what a manifest says of them: the truth before the damage was done.
    """
    kinds = list(DAMAGES)
    return [_write_damaged(folder, i, kinds[i % len(kinds)], draw) for i in range(count)]


def is_usable(utterance: Utterance) -> bool:
    """Say whether the file decodes to audio of about the length that the manifest gives."""
    try:
        length = samples_to_seconds(len(load_audio(utterance.audio)))
    except AudioError:
        return False
    return abs(length - utterance.duration) <= TOLERANCE_SECS


def kind_of(utterance: Utterance) -> str:
    """Return which damage was done to a file."""
    return utterance.audio.name.partition("-")[0]


def _write_damaged(folder: Path, index: int, kind: str, draw: random.Random) -> Utterance:
    suffix = kind.rpartition("_")[2]
    suffix = suffix if suffix in SUFFIXES else draw.choice(SUFFIXES)
    utterance = _write_clip(folder / f"{kind}-{index}.{suffix}", draw)
    DAMAGES[kind](utterance.audio, draw)
    if kind == "lying_duration":
        return replace(utterance, duration=utterance.duration + draw.choice((-0.15, 0.15, 5.0)))
    return utterance


def _write_clip(path: Path, draw: random.Random) -> Utterance:
    rate = draw.choice(RATES)
    samples = _tone(round(rate * draw.uniform(0.3, 0.6)), draw)
    _encode(path, samples, rate)
    text = "".join(draw.choices(LETTERS, k=draw.randint(2, 6)))
    duration = samples_to_seconds(len(load_audio(path)))
    return Utterance(path, text, duration, draw.choice(("eng_Latn", "ita_Latn")))


def _tone(length: int, draw: random.Random) -> Samples:
    tone: Samples = 0.5 * np.sin(np.arange(length) * draw.uniform(0.05, 0.5)).astype("f4")
    return tone


def _encode(path: Path, samples: Samples, rate: int = SAMPLE_RATE, **options: Any) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=options.pop("format", path.suffix[1:]), **options)
    path.write_bytes(buffer.getvalue())


# Damage to the content


def _truncate(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def _flip_bits(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice((1, 8, 64))):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def _overwrite(path: Path, draw: random.Random, *, at: int, form: str) -> None:
    """Put a random number into a field of the header."""
    content, bits = bytearray(path.read_bytes()), 8 * struct.calcsize(form)
    struct.pack_into(form, content, at, draw.getrandbits(draw.randint(1, bits)))
    path.write_bytes(content)


def _spoil_a_sample(path: Path, draw: random.Random, *, by: float) -> None:
    samples = _tone(6_000, draw)
    samples[draw.randrange(len(samples))] = by
    _encode(path, samples, format="wav", subtype="FLOAT")


# Damage to what lies at the path


def _make_directory(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _make_pipe(path: Path, draw: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)  # whoever opens it waits for ever


DAMAGES: Final[Mapping[str, Damage]] = {
    **{f"truncated_{suffix}": _truncate for suffix in SUFFIXES},
    **{f"flipped_{suffix}": _flip_bits for suffix in SUFFIXES},
    "channels_wav": partial(_overwrite, at=22, form="<H"),
    "rate_wav": partial(_overwrite, at=24, form="<I"),
    "bits_wav": partial(_overwrite, at=34, form="<H"),
    "size_wav": partial(_overwrite, at=40, form="<I"),
    "rate_flac": partial(_overwrite, at=18, form=">H"),
    "channels_flac": partial(_overwrite, at=20, form="<B"),
    "channels_ogg": partial(_overwrite, at=39, form="<B"),
    "rate_ogg": partial(_overwrite, at=40, form="<I"),
    "header_mp3": partial(_overwrite, at=1, form=">H"),
    "flac_named_mp3": lambda path, draw: _encode(path, load_audio(path).numpy(), format="flac"),
    "empty": lambda path, draw: path.write_bytes(b""),
    "text": lambda path, draw: path.write_text("not a recording\n" * draw.randint(1, 200)),
    "noise": lambda path, draw: path.write_bytes(draw.randbytes(5_000)),
    "too_short": lambda path, draw: _encode(path, _tone(400, draw), format="wav"),
    "nan": partial(_spoil_a_sample, by=float("nan")),
    "infinite": partial(_spoil_a_sample, by=float("inf")),
    "missing": lambda path, draw: path.unlink(),
    "directory": _make_directory,
    "pipe": _make_pipe,
    "lying_duration": lambda path, draw: None,
    # The administrator may read everything.
    **({"unreadable": lambda path, draw: path.chmod(0)} if os.geteuid() != 0 else {}),
}
"""Kinds of damage; a kind that ends in the name of a format is done to files of that format."""

SURELY_BAD: Final = DAMAGES.keys() & {
    *("empty", "text", "noise", "too_short", "nan", "infinite"),
    *("missing", "directory", "pipe", "lying_duration", "unreadable"),
}
"""Kinds that leave nothing to use; of the others, some files are usable by luck."""
