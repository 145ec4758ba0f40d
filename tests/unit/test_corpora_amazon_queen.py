"""The game's archive and dialogues, and a whole corpus from a package of a few kilobytes."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from struct import pack

import numpy as np
import pytest
import soundfile

from tests.unit.test_corpora_packages import make_deb
from wavellama.corpora.amazon_queen import (
    CORPUS,
    PACKAGE,
    amazon_queen_clips,
    dialogue_speeches,
    read_archive,
    split_speeches,
)
from wavellama.corpora.corpus import fetch_corpus
from wavellama.data.manifest import read_manifest
from wavellama.errors import DataError

ARCHIVE = f"usr/share/scummvm/{PACKAGE}/queen.1c"


def _archive(files: dict[str, bytes]) -> bytes:
    begin = 15 + 21 * len(files)
    entries = b""
    for name, content in files.items():
        entries += pack(">12sxII", name.encode(), begin, len(content))
        begin += len(content)
    header = b"QTBLCEM10\0\0\0\1" + pack(">H", len(files))
    return header + entries + b"".join(files.values())


def _lines(lines: Sequence[tuple[int, str]]) -> bytes:
    data = b""
    for number, text in lines:
        spoken = text.encode("cp437")
        data += pack(">IB", number, len(spoken)) + spoken
        data += b"\0" * (-len(data) % 4)
    return data


def _dialogue(
    number: int, hero: Sequence[tuple[int, str]], role: Sequence[tuple[int, str]], questions: int
) -> bytes:
    """Write a dialogue: header, questions, the hero's lines, the role's."""
    said = b"\0" * 96 * abs(questions) + _lines(hero)
    counts = pack(">hhhhh", questions, 0, number, len(hero), len(role))
    body = counts.ljust(22, b"\0") + pack(">H", 32 + len(said))
    return b"\0" * 20 + body.ljust(32, b"\0") + said + _lines(role)


def _sound(seed: int) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(seed).uniform(-0.3, 0.3, 11_025)
    soundfile.write(file, noise, 11_025, format="MP3")
    return file.getvalue()


@pytest.fixture(scope="module")
def game() -> dict[str, bytes]:
    talk = _dialogue(
        3,
        hero=[(6, "Hi!*15Who's that?"), (0x1A, "Ouch")],
        role=[(7, "*FR*01A frénd")],
        questions=-2,
    )
    oracle = _dialogue(12, hero=[], role=[(1, "Ask me."), (2, "No sound")], questions=1)
    sounds = ("030006J1", "030006J2", "03001AJ1", "030007P3", "120001P1", "030006P1")
    files = {"BOB1.DOG": talk, "ORACLE.DOG": oracle, "x.PCX": b"picture"}
    return files | {f"{name}.SB": _sound(i) for i, name in enumerate(sounds)}


@pytest.mark.parametrize(
    ("text", "speeches"),
    [
        ("Hello there.*02", ("Hello there.",)),
        ("One*03 two *15", ("One", "two")),
        ("*FLWhere?*00*FR", ("", "Where?", "")),
        ("No command", ("No command",)),
        ("Go*XY123456,7890*05then", ("Go", "", "then")),
        ("", ()),
    ],
)
def test_commands_part_speeches(text: str, speeches: tuple[str, ...]) -> None:
    assert split_speeches(text) == speeches


def test_speeches_have_the_names_of_their_recordings(game: dict[str, bytes]) -> None:
    assert list(dialogue_speeches(game["BOB1.DOG"])) == [
        ("030007P1.SB", False, ""),
        ("030007P2.SB", False, ""),
        ("030007P3.SB", False, "A frénd"),
        ("030006J1.SB", True, "Hi!"),
        ("030006J2.SB", True, "Who's that?"),
        ("03001AJ1.SB", True, "Ouch"),
    ]


def test_an_archive_gives_its_files(game: dict[str, bytes]) -> None:
    assert read_archive(_archive(game)) == game


@pytest.mark.parametrize(
    ("cut", "says"), [(3, "not the archive"), (14, "not the archive"), (-1, "ends too early")]
)
def test_a_damaged_archive_is_named(game: dict[str, bytes], cut: int, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_archive(_archive(game)[:cut])


def test_an_archive_that_ends_in_its_list_is_named(game: dict[str, bytes]) -> None:
    with pytest.raises(DataError, match="ends too early"):
        read_archive(_archive(game)[:40])


def test_roles_are_speakers(game: dict[str, bytes], tmp_path: Path) -> None:
    archive = tmp_path / PACKAGE / ARCHIVE
    archive.parent.mkdir(parents=True)
    archive.write_bytes(_archive(game))
    clips = {clip.sentence.split("/")[1]: clip for clip in amazon_queen_clips(tmp_path)}
    assert {name: clip.speaker for name, clip in clips.items()} == {
        "030006J1": "amazon-queen-joe",
        "030006J2": "amazon-queen-joe",
        "03001AJ1": "amazon-queen-joe",
        "030007P3": "amazon-queen-bob",
        "120001P1": "amazon-queen-oracle",
    }
    assert [name for name, clip in clips.items() if clip.held_out] == ["120001P1"]
    assert clips["030006J2"].audio.read_bytes() == game["030006J2.SB"]


def test_a_corpus_is_made(game: dict[str, bytes], tmp_path: Path) -> None:
    doc = f"usr/share/doc/{PACKAGE}"
    files = {
        ARCHIVE: _archive(game),
        f"{doc}/copyright": b"(C) 1995\n",
        f"{doc}/readme.txt.gz": gzip.compress(b"Read me, for the game.\n", mtime=0),
    }
    make_deb(tmp_path / "packages" / f"{PACKAGE}_1.0_all.deb", files)
    assert fetch_corpus(CORPUS, tmp_path / "out", tmp_path / "packages")
    rows = read_manifest(tmp_path / "out" / "manifest.tsv").utterances
    assert {(row.speaker, row.text) for row in rows if row.split == "test_unseen"} == {
        ("amazon-queen-oracle", "ask me")
    }
    assert all(soundfile.info(row.audio).samplerate == 16_000 for row in rows)
    licences = (tmp_path / "out" / "LICENSES.txt").read_text("utf-8")
    for part in ("John Passfield", "MODIFIED VERSION", "(C) 1995\n", "Read me, for the game."):
        assert part in licences
    assert not fetch_corpus(CORPUS, tmp_path / "out")
