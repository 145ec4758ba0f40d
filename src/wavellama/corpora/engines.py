"""Speech synthesisers: what each can speak here, and what to install for those that cannot.

Shapes: T samples.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import ClassVar, Final, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

FESTIVAL_VOICES: Final = Path("/usr/share/festival/voices")
"""Where the voices of Festival are installed."""

VARIANTS: Final = ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7")
"""Voices that eSpeak NG has in every language."""

VARIANTS_PER_LANGUAGE: Final = 4
"""How many of them speak each language."""

_NOT_SPOKEN: Final = re.compile(r"[^\w ,.;:!?'·-]")


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One speaker of an engine."""

    speaker: str
    """Its name in the corpus; it begins with the engine's."""

    lang: str
    """The language that it speaks."""

    name: str
    """What the engine calls it."""

    held_out: bool = False
    """Whether it is kept away from training."""

    share: float = 1.0
    """How much it speaks, relative to an ordinary voice."""


class Line(NamedTuple):
    """What a voice is to say."""

    text: str
    """The words, with punctuation."""

    speed: float
    """1: as the engine would."""


class Sound(NamedTuple):
    """What an engine has said."""

    samples: NDArray[np.float32]
    """One channel, within [-1, 1]. (T)."""

    rate: int
    """Samples per second."""


class Engine(ABC):
    """A synthesiser, which may be installed or not."""

    @abstractmethod
    def missing(self) -> str | None:
        """Return what to install to have it or more of its voices; None if nothing lacks."""

    @abstractmethod
    def voices(self, rng: Random) -> Sequence[Voice]:
        """Return the voices that can speak; ``rng`` draws them where there are too many."""

    @abstractmethod
    def speak(self, voice: Voice, lines: Sequence[Line]) -> Iterator[Sound | None]:
        """Yield the sound of each line; None for what the voice cannot say."""


class ProgramEngine(Engine):
    """A program that writes one WAV file for each line."""

    program: ClassVar[str]
    """What is run, and the Debian package that has it."""

    def missing(self) -> str | None:
        """Return the package if the program is not installed."""
        return None if shutil.which(self.program) else f"apt-get install {self.program}"

    def voices(self, rng: Random) -> Sequence[Voice]:
        """Return the voices if the program is installed."""
        return () if self.missing() else self.all_voices(rng)

    def speak(self, voice: Voice, lines: Sequence[Line]) -> Iterator[Sound | None]:
        """Run the program once for each line."""
        for line in lines:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "line.wav"
                command = [self.program, *self.arguments(voice, line, path)]
                subprocess.run(command, capture_output=True, check=False)
                yield read_sound(path)

    @abstractmethod
    def all_voices(self, rng: Random) -> Sequence[Voice]:
        """Return the voices that the program has."""

    @abstractmethod
    def arguments(self, voice: Voice, line: Line, path: Path) -> Sequence[str]:
        """Return the arguments with which the program writes the line to a WAV file."""


class Flite(ProgramEngine):
    """Four English voices."""

    program = "flite"

    def all_voices(self, rng: Random) -> Sequence[Voice]:
        """Return the voices that are recordings of people."""
        names = ("awb", "kal16", "rms", "slt")
        return [Voice(speaker=f"flite-{name}", lang="eng_Latn", name=name) for name in names]

    def arguments(self, voice: Voice, line: Line, path: Path) -> Sequence[str]:
        """Speak a text at a speed."""
        stretch = f"duration_stretch={1 / line.speed:.3f}"
        return ["-voice", voice.name, "--setf", stretch, "-t", line.text, "-o", str(path)]


class Espeak(ProgramEngine):
    """A formant synthesiser of nearly all languages: many voices, none natural."""

    program = "espeak-ng"
    words_a_minute: ClassVar = 160

    LANGUAGES: ClassVar = {
        "bel_Cyrl": "be",
        "bul_Cyrl": "bg",
        "cat_Latn": "ca",
        "ces_Latn": "cs",
        "dan_Latn": "da",
        "ell_Grek": "el",
        "fra_Latn": "fr",
        "ita_Latn": "it",
        "nld_Latn": "nl",
        "ron_Latn": "ro",
        "rus_Cyrl": "ru",
        "spa_Latn": "es",
    }

    def all_voices(self, rng: Random) -> Sequence[Voice]:
        """Draw a few variants for each language."""
        return [
            Voice(
                speaker=f"espeak-{code}-{variant}", lang=lang, name=f"{code}+{variant}", share=0.5
            )
            for lang, code in self.LANGUAGES.items()
            for variant in rng.sample(VARIANTS, VARIANTS_PER_LANGUAGE)
        ]

    def arguments(self, voice: Voice, line: Line, path: Path) -> Sequence[str]:
        """Speak a text at a speed."""
        speed = f"{self.words_a_minute * line.speed:.0f}"
        return ["-v", voice.name, "-s", speed, "-w", str(path), "--", line.text]


class Festival(Engine):
    """Voices made from recordings, each a Debian package."""

    VOICES: ClassVar = (
        ("rus_Cyrl", "russian/msu_ru_nsh_clunits", "utf-8", "festvox-ru"),
        ("ita_Latn", "italian/lp_diphone", "latin-1", "festvox-italp16k"),
        ("ita_Latn", "italian/pc_diphone", "latin-1", "festvox-itapc16k"),
        ("cat_Latn", "catalan/upc_ca_ona_hts", "latin-1", "festvox-ca-ona-hts"),
        ("ces_Latn", "czech/czech_dita", "iso8859-2", "festvox-czech-dita"),
        ("ces_Latn", "czech/czech_machac", "iso8859-2", "festvox-czech-machac"),
    )
    """Language, folder, encoding and package of each voice."""

    def missing(self) -> str | None:
        """Return the packages of the program and its voices that are not installed."""
        packages = [] if shutil.which("festival") else ["festival"]
        packages += [p for _, path, _, p in self.VOICES if not (FESTIVAL_VOICES / path).is_dir()]
        return f"apt-get install {' '.join(packages)}" if packages else None

    def voices(self, rng: Random) -> Sequence[Voice]:
        """Return the installed voices."""
        if not shutil.which("festival"):
            return ()
        return [
            Voice(speaker=f"festival-{Path(path).name}", lang=lang, name=path)
            for lang, path, _, _ in self.VOICES
            if (FESTIVAL_VOICES / path).is_dir()
        ]

    def speak(self, voice: Voice, lines: Sequence[Line]) -> Iterator[Sound | None]:
        """Let one process say all lines: a voice takes seconds to load."""
        encoding = next(known for _, path, known, _ in self.VOICES if path == voice.name)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            script = festival_script(Path(voice.name).name, lines, folder, encoding)
            (folder / "script.scm").write_bytes(script)
            command = ["festival", "-b", str(folder / "script.scm")]
            subprocess.run(command, capture_output=True, check=False)
            for index in range(len(lines)):
                yield read_sound(folder / f"{index}.wav")


def festival_script(voice: str, lines: Sequence[Line], folder: Path, encoding: str) -> bytes:
    """Return the commands that write each line to ``folder``, as 0.wav, 1.wav, ...

    A line with a letter that the voice does not know is left out.
    """
    commands = [f"(voice_{voice})"]
    for index, (text, speed) in enumerate(lines):
        words = _NOT_SPOKEN.sub(" ", text.replace("’", "'"))
        if words.encode(encoding, "ignore").decode(encoding) == words:
            commands += [
                f"(Parameter.set 'Duration_Stretch {1 / speed:.3f})",
                f'(set! line (Utterance Text "{words}"))',
                "(utt.synth line)",
                f'(utt.save.wave line "{folder / str(index)}.wav" \'riff)',
            ]
    return "\n".join([*commands, ""]).encode(encoding)


def read_sound(path: Path) -> Sound | None:
    """Return a WAV file's first channel; None if there is no such file, or it is no sound."""
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        return None
    return Sound(samples[:, 0], rate) if len(samples) else None
