"""Any recording of a package -> 16 kHz mono FLAC. Shapes: T samples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import av
import numpy as np
import soundfile
from torch import Tensor

from wavellama.audio.load import load_audio
from wavellama.corpora.clip import RawClip
from wavellama.data.progress import map_in_threads
from wavellama.errors import AudioError
from wavellama.files import replacing
from wavellama.units import SAMPLE_RATE


def convert_all(clips: Sequence[RawClip], folder: Path) -> dict[RawClip, Path]:
    """Write each clip as FLAC below ``folder`` and return where; unreadable ones are left out.

    Files that are there already are kept, so an interrupted run goes on where it stopped.
    """
    paths = map_in_threads(partial(_convert_one, folder=folder), clips, "converting")
    return {clip: path for clip, path in zip(clips, paths, strict=True) if path is not None}


def read_recording(path: Path) -> Tensor:
    """Return a recording as 16 kHz mono. (T).

    Besides all that ``load_audio`` reads: headerless G.722, and ``.raw`` (16 kHz, 16 bit).

    :raises AudioError: it cannot be decoded.
    """
    if path.suffix == ".g722":
        return load_audio({"waveform": _read_g722(path), "sample_rate": SAMPLE_RATE})
    if path.suffix == ".raw":
        samples = np.fromfile(path, dtype="<i2").astype(np.float32) / 2**15
        return load_audio({"waveform": samples, "sample_rate": SAMPLE_RATE})
    return load_audio(path)


def write_flac(path: Path, waveform: Tensor) -> None:
    """Write a waveform (T) as 16-bit FLAC; the file appears only when it is complete."""
    with replacing(path) as part:
        soundfile.write(part, waveform.numpy(), SAMPLE_RATE, format="FLAC", subtype="PCM_16")


def _convert_one(clip: RawClip, folder: Path) -> Path | None:
    path = folder / f"{clip.stem}.flac"
    if not path.exists():
        try:
            write_flac(path, read_recording(clip.audio))
        except AudioError:
            return None
    return path


def _read_g722(path: Path) -> np.ndarray:
    """Decode headerless G.722 to float. (T)."""
    try:
        with av.open(str(path), format="g722") as container:
            blocks = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    except (av.error.FFmpegError, OSError) as ex:
        raise AudioError(str(path), f"the audio cannot be decoded ({ex}).") from ex
    if not blocks:
        raise AudioError(str(path), "the file holds no audio samples.")
    return np.concatenate(blocks).astype(np.float32) / 2**15
