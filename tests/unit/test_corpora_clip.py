"""What is taken from the packages: transcripts, roles, captions."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from wavellama.corpora.asterisk import (
    asterisk_clips,
    is_damaged,
    menardi_clips,
    parse_transcripts,
)
from wavellama.corpora.clip import RawClip
from wavellama.corpora.fillets import fillets_clips, parse_dialog
from wavellama.corpora.pocketsphinx import parse_transcription
from wavellama.corpora.tuxpaint import parse_captions, tuxpaint_clips


def test_transcripts_of_prompts() -> None:
    text = (
        "; comment: no\n\na-b: Text: with colon.\ndigits/1:  uno \nempty:\nno colon\na-b: again\n"
    )
    assert parse_transcripts(text) == {"a-b": "Text: with colon.", "digits/1": "uno"}


@pytest.mark.parametrize(
    ("transcript", "damaged"),
    [
        ("Il numero ? stato", True),
        ("riprova pi? tardi", True),
        ("Casella di posta?", False),
        ("Quale cartella? Premere", False),
        ("gelöscht vm-then-pound dann", True),
        ("vm-then-pound: Premere", True),
        ("post-office", False),
    ],
)
def test_damaged_transcripts(transcript: str, damaged: bool) -> None:
    assert is_damaged(transcript, {"vm-then-pound"}) is damaged


def _touch(path: Path, content: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_prompts(tmp_path: Path) -> None:
    doc = "asterisk-core-sounds-it/usr/share/doc/asterisk-core-sounds-it/core-sounds-it.txt.gz"
    text = "\ufeff; all\nbeep: un suono\ndigits/1: uno\nno-audio: due\n"
    _touch(tmp_path / doc, gzip.compress(text.encode()))
    for package, suffix in (
        ("asterisk-core-sounds-it-g722", "g722"),
        ("asterisk-prompt-it-menardi-wav", "wav"),
    ):
        for key in ("beep", "digits/1", "no-text"):
            _touch(tmp_path / package / f"usr/share/asterisk/sounds/voice/{key}.{suffix}")
    (first,) = asterisk_clips(tmp_path, ("it",))
    (second,) = menardi_clips(tmp_path)
    assert first.transcript == second.transcript == "uno"
    assert first.sentence == second.sentence == "asterisk/digits/1"
    assert (first.speaker, first.held_out) == ("asterisk-it", False)
    assert (second.speaker, second.held_out) == ("menardi", True)
    assert first.stem == "ita_Latn/asterisk-it/asterisk_digits_1"


def test_captions() -> None:
    text = (
        "A bird.\nru.utf8=Птица.\nca@valencia.utf8=no\nes.utf8=\nfr.latin1=non\nel.utf8 = Πουλί\n"
    )
    assert parse_captions(text) == {
        "en": "A bird.",
        "ru": "Птица.",
        "ca@valencia": "no",
        "el": "Πουλί",
    }
    assert parse_captions("") == {}


def test_stamps(tmp_path: Path) -> None:
    folder = tmp_path / "tuxpaint-stamps-default/usr/share/tuxpaint/stamps/animals"
    _touch(folder / "bird.txt", "A bird.\nru.utf8=Птица.\nbg.utf8=Птица.\nlt.utf8=x\n".encode())
    for name in ("bird_desc.ogg", "bird_desc_ru.ogg", "bird_desc_lt.ogg", "bird_desc_es.ogg"):
        _touch(folder / name)
    found = {clip.lang: clip for clip in tuxpaint_clips(tmp_path)}
    assert found.keys() == {"eng_Latn", "rus_Cyrl"}
    assert {clip.sentence for clip in found.values()} == {"tuxpaint/animals/bird"}
    assert [found[lang].held_out for lang in ("eng_Latn", "rus_Cyrl")] == [False, True]
    assert found["eng_Latn"].audio.name == "bird_desc.ogg"


SCRIPT = r"""
dialogId("a-1", "font_small", "He said \"no\".")
dialogStr("Řekl \"ne\".")
-- a comment
dialogId("b", "", "Two
lines")

dialogStr(
"Dva")
dialogId("lonely", "font_big", "Nothing follows")
"""


def test_dialogs() -> None:
    assert parse_dialog(SCRIPT) == {"a-1": ("small", 'Řekl "ne".'), "b": ("none", "Dva")}


def test_dialogs_meet_their_sounds(tmp_path: Path) -> None:
    game = "usr/share/games/fillets-ng"
    scripts = tmp_path / "fillets-ng-data" / game / "script"
    _touch(scripts / "cave/dialogs_cs.lua", SCRIPT.encode())
    _touch(scripts / "share/bore_dialogs_nl.lua", SCRIPT.encode())
    sounds = "fillets-ng-data-{0}/usr/share/games/fillets-ng/sound"
    _touch(tmp_path / sounds.format("cs") / "cave/cs/a-1.ogg")
    _touch(tmp_path / sounds.format("cs") / "cave/cs/unknown.ogg")
    _touch(tmp_path / sounds.format("nl") / "share/borejokes/nl/b.ogg")
    czech, dutch = fillets_clips(tmp_path)
    assert (czech.lang, czech.speaker) == ("ces_Latn", "fillets-cs-small")
    assert (dutch.lang, dutch.sentence) == ("nld_Latn", "fillets/share/b")


def test_transcriptions() -> None:
    text = "<s> four queen  </s> (002)\n<s> he was </s> (a_64kb-0880)\n"
    assert parse_transcription(text) == {"002": "four queen", "a_64kb-0880": "he was"}


def test_a_stem_holds_nothing_strange() -> None:
    clip = RawClip(
        audio=Path("x"), transcript="", lang="eng_Latn", speaker="s", sentence="a/b c@d'é/-.1"
    )
    assert clip.stem == "eng_Latn/s/a_b_c_d_-.1"
