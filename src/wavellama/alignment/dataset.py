"""Add word times to a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from wavellama.alignment.aligner import Aligner
from wavellama.data.check import CheckResult, Row, read_rows
from wavellama.data.manifest import WHOLE, BrokenRow, check_suffix, find_manifests
from wavellama.data.manifest_dataset import ManifestDataset, ManifestDatasetConfig
from wavellama.data.words import AlignedWord
from wavellama.errors import AlignmentError, AudioError, DataError

_DIGITS: Final = 4
"""Times are written to a tenth of a millisecond, which holds the borders of frames exactly."""


def align_dataset(
    aligner: Aligner, path: Path, track: Callable[[Sequence[Row]], Iterable[Row]] = iter
) -> CheckResult:
    """Align every utterance of a data set; one that cannot be aligned does not stop the others.

    :param path: a manifest, or a folder of them.
    :param track: passes on the rows and may show how many are done.
    :raises DataError: there is no manifest, or one cannot be read at all.
    """
    result = CheckResult()
    rows = read_rows(path, result.broken)
    dataset = ManifestDataset(ManifestDatasetConfig(path=path, cache_gib=0.0))
    for manifest, line, utterance in track(rows):
        try:
            waveform = dataset.read_audio(utterance)
            words = aligner.align(waveform, utterance.text, utterance.lang)
        except (AudioError, AlignmentError) as ex:
            result.broken.append(BrokenRow(manifest, line, str(ex)))
        else:
            result.utterances.append(replace(utterance, words=tuple(map(_rounded, words))))
    result.broken.sort(key=lambda row: (row.path, row.line))
    return result


def check_out(path: Path, out: Path) -> None:
    """Check that a manifest made from the data set ``path`` can be written to ``out``.

    :raises DataError: it is no name of a manifest, or it would change the data set itself.
    """
    check_suffix(out)
    sources = find_manifests(path)
    taken = out.resolve() in [source.resolve() for source in sources]
    beside = path.is_dir() and out.resolve().parent == path.resolve()
    whole = any(source.stem == WHOLE for source in sources)
    if taken or (beside and (out.stem == WHOLE or not whole)):
        raise DataError(
            f"{out} would become a part of {path}, from which it is made; choose another name or"
            " folder."
        )


def _rounded(word: AlignedWord) -> AlignedWord:
    score = None if word.score is None else round(word.score, _DIGITS)
    return AlignedWord(word.text, round(word.start, _DIGITS), round(word.end, _DIGITS), score)
