"""Dialogue of the game Flight of the Amazon Queen: English roles, acted.

The game keeps everything in one file, here called the archive. All numbers in it are big-endian::

    archive   9 bytes "QTBLCEM10", 4 bytes, then the number of its files (2 bytes)
      entry   name (12 bytes, ended by a zero), 1 byte, begin and size of the file (4 bytes each)
    ????.SB   an MP3 recording of one speech
    ????.DOG  a dialogue with one role: a header of 20 bytes, and after it
          0   how many questions the dialogue has (2 bytes, perhaps negative)
          4   its number, with which the names of its recordings begin (2 bytes)
          6   how many lines the hero and the role have (2 bytes each)
         22   where the lines of the role begin (2 bytes); the hero's follow the questions
      line    id (4 bytes), length (1 byte), text; padded to a multiple of 4 bytes

A line holds several speeches. A star and two letters or digits between them tell the game whom to
move or where to look. The recording of a speech is named after the dialogue, the line, who
speaks (J: the hero; P: the role), and the number of the speech in the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import unpack_from
from typing import Final

from wavellama.corpora.clip import RawClip
from wavellama.corpora.corpus import Corpus
from wavellama.errors import DataError
from wavellama.files import replacing

LICENCES: Final = """\
Licence of the recordings in this folder
========================================

Dialogue of the game Flight of the Amazon Queen. (C) 1995 John Passfield and Steven Stamatiadis.
Speakers are the roles of the game (amazon-queen-joe is its hero); one actor may have several.

The game may be given away; it may not be sold by itself, and its notices must stay with it. Its
licence and its readme follow. They say nothing about the training of recognisers.

THIS IS A MODIFIED VERSION of the game's data: a part of the recordings was converted to 16 kHz
mono FLAC; the transcripts were turned into lower case without punctuation.
"""

PACKAGE: Final = "flight-of-the-amazon-queen"
"""The Debian package of the game."""

HERO: Final = "joe"
"""The role that the player has."""

HELD_OUT: Final = frozenset({"chef", "frank", "ian", "lola", "naomi", "oracle", "witch"})
"""Roles that are kept away from training; an actor may have another role, too."""

_MAGIC: Final = b"QTBL"
_COUNT: Final = 13
_ENTRY: Final = 21
_HEADER: Final = 20
_QUESTIONS: Final = 32
_QUESTION: Final = 96
_COMMAND: Final = re.compile(r"\*XY.{11}|\*..?", re.DOTALL)
"""A star and what follows it; ``XY`` is followed by a place."""


@dataclass(frozen=True)
class Line:
    """What one of the two says in a dialogue, in one go or several."""

    number: int
    """The id of the line."""

    is_hero: bool
    """Whether the hero says it."""

    speeches: tuple[str, ...]
    """What is said between two commands, in order; some are empty."""


def amazon_queen_clips(root: Path) -> Iterator[RawClip]:
    """Yield the speeches of all dialogues from the unpacked package below ``root``."""
    archive = root / PACKAGE / "usr/share/scummvm" / PACKAGE / "queen.1c"
    files = read_archive(archive.read_bytes())
    for name in sorted(files):
        if name.endswith(".DOG"):
            role = re.sub(r"\d", "", name.removesuffix(".DOG")).lower()
            for sound, is_hero, text in dialogue_speeches(files[name]):
                if text and sound in files:
                    audio = _extract(files[sound], root / "speeches" / f"{sound}.mp3")
                    yield _clip(audio, text, HERO if is_hero else role)


def read_archive(data: bytes) -> dict[str, bytes]:
    """Return the files of the game's archive by their names.

    :raises DataError: it is not the archive, or it ends too early.
    """
    if not data.startswith(_MAGIC) or len(data) < _COUNT + 2:
        raise DataError("queen.1c is not the archive of the game Flight of the Amazon Queen.")
    (count,) = unpack_from(">H", data, _COUNT)
    files: dict[str, bytes] = {}
    for index in range(count):
        name, begin, size = unpack_from(">12sxII", data, _COUNT + 2 + index * _ENTRY)
        files[name.split(b"\0")[0].decode("ascii")] = data[begin : begin + size]
        if begin + size > len(data):
            raise DataError("queen.1c ends too early. Delete its package and fetch it again.")
    return files


def dialogue_speeches(data: bytes) -> Iterator[tuple[str, bool, str]]:
    """Yield the recording's name of each speech, whether the hero speaks, and what is said."""
    (dialogue,) = unpack_from(">H", data, _HEADER + 4)
    for line in dialogue_lines(data):
        for number, text in enumerate(line.speeches, start=1):
            who = "J" if line.is_hero else "P"
            name = f"{dialogue:02d}{line.number:04X}{who}{number:X}.SB"
            yield name, line.is_hero, text


def dialogue_lines(data: bytes) -> Iterator[Line]:
    """Yield the lines of a dialogue: first those of the role, then the hero's."""
    body = data[_HEADER:]
    questions, _, _, hero, role = unpack_from(">hhhhh", body)
    (begin,) = unpack_from(">H", body, 22)
    yield from _read_lines(body, begin, role, is_hero=False)
    yield from _read_lines(body, _QUESTIONS + abs(questions) * _QUESTION, hero, is_hero=True)


def split_speeches(text: str) -> tuple[str, ...]:
    """Return what is said before, between and after the commands of a line."""
    *speeches, last = (speech.strip() for speech in _COMMAND.split(text))
    return (*speeches, last) if last else tuple(speeches)


def _read_lines(body: bytes, begin: int, count: int, *, is_hero: bool) -> Iterator[Line]:
    for _ in range(count):
        number, length = unpack_from(">xxHB", body, begin)
        text = body[begin + 5 : begin + 5 + length].decode("cp437")
        yield Line(number, is_hero, split_speeches(text))
        begin += -(-(5 + length) // 4) * 4


def _extract(recording: bytes, path: Path) -> Path:
    if not path.exists():
        with replacing(path) as part:
            part.write_bytes(recording)
    return path


def _clip(audio: Path, text: str, role: str) -> RawClip:
    return RawClip(
        audio=audio,
        transcript=text,
        lang="eng_Latn",
        speaker=f"amazon-queen-{role}",
        sentence=f"amazon-queen/{audio.name.partition('.')[0]}",
        held_out=role in HELD_OUT,
    )


CORPUS: Final = Corpus(
    packages=(PACKAGE,),
    clips=amazon_queen_clips,
    licences=LICENCES,
    notices=(f"{PACKAGE}/usr/share/doc/{PACKAGE}/readme.txt.gz",),
)
"""The corpus amazon-queen."""
