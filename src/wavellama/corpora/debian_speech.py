"""The corpus debian-speech: six hours of 13 languages from five families of Debian packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wavellama.corpora.asterisk import asterisk_clips, menardi_clips
from wavellama.corpora.clip import RawClip
from wavellama.corpora.corpus import Corpus
from wavellama.corpora.fillets import fillets_clips
from wavellama.corpora.packages import DEBIAN_SPEECH
from wavellama.corpora.tuxpaint import tuxpaint_clips

LICENCES: Final = """\
Licences of the recordings in this folder
=========================================

Speaker             Work and people                                          Licence
asterisk-{en,es}    Core Asterisk Sounds. Allison Smith                      CC-BY-SA-3.0
asterisk-fr         Core Asterisk Sounds. June Wallack                       CC-BY-SA-3.0
asterisk-it         Core Asterisk Sounds. Carlo Flora                        CC-BY-3.0
asterisk-ru         Core Asterisk Sounds. Maxim Topal, www.ivrvoice.ru       CC-BY-3.0
menardi             Marco Menardi and Paola Dal Zot, www.voip.ammdomus.it    CC-BY-SA-3.0-IT
tuxpaint-*          Tux Paint stamps. Its contributors                       GPL-2+
fillets-*           Fish Fillets - Next Generation. Its contributors         GPL-2

The Italian sound files of the speaker menardi were made by Marco Menardi and his wife; they and
new voices are to be had at http://www.voip.ammdomus.it (to be told to every end user).

Changes: the recordings were converted to 16 kHz mono FLAC and a part of them selected; the
transcripts were turned into lower case without punctuation.

The copyright files of the packages follow.
"""


def debian_clips(root: Path) -> Iterator[RawClip]:
    """Yield all clips from the unpacked packages below ``root``."""
    yield from asterisk_clips(root)
    yield from menardi_clips(root)
    yield from tuxpaint_clips(root)
    yield from fillets_clips(root)


CORPUS: Final = Corpus(packages=DEBIAN_SPEECH, clips=debian_clips, licences=LICENCES)
"""The corpus debian-speech."""
