"""Add word times to a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

from wavellama.alignment.aligner import Aligner
from wavellama.alignment.errors import AlignmentError
from wavellama.data.manifest import (
    BrokenRow,
    check_suffix,
    find_manifests,
    read_manifest,
)
from wavellama.data.manifest_dataset import ManifestDataset, ManifestDatasetConfig
from wavellama.data.utterance import Utterance
from wavellama.data.words import Word
from wavellama.errors import AudioError, DataError

_DIGITS: Final = 4
"""Times are written to a tenth of a millisecond, which holds the borders of frames exactly."""

_WHOLE: Final = "manifest"

Row: TypeAlias = tuple[Path, int, Utterance]
"""An utterance, with its manifest and its line there."""


@dataclass(frozen=True)
class AlignedSet:
    """What became of the rows of a data set."""

    utterances: list[Utterance] = field(default_factory=list)
    """Those that could be aligned, with their words."""

    broken: list[BrokenRow] = field(default_factory=list)
    """The others, in the order of the manifests."""


def align_dataset(
    aligner: Aligner, path: Path, track: Callable[[Sequence[Row]], Iterable[Row]] = iter
) -> AlignedSet:
    """Align every utterance of a data set; one that cannot be aligned does not stop the others.

    :param path: a manifest, or a folder of them.
    :param track: passes on the rows and may show how many are done.
    :raises DataError: there is no manifest, or one cannot be read at all.
    """
    result, rows = AlignedSet(), []
    for manifest in find_manifests(path):
        content = read_manifest(manifest)
        result.broken.extend(content.broken)
        pairs = zip(content.lines, content.utterances, strict=True)
        rows += [(manifest, line, utterance) for line, utterance in pairs]
    dataset = ManifestDataset(ManifestDatasetConfig(path=path, cache_gib=0.0))
    for manifest, line, utterance in track(rows):
        try:
            waveform = dataset.read_audio(utterance)
            words = aligner.align_waveform(waveform, utterance.text, utterance.lang)
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
    whole = any(source.stem == _WHOLE for source in sources)
    if taken or (beside and (out.stem == _WHOLE or not whole)):
        raise DataError(
            f"{out} would become a part of {path}, from which it is made; choose another name or"
            " folder."
        )


def _rounded(word: Word) -> Word:
    score = None if word.score is None else round(word.score, _DIGITS)
    return Word(word.text, round(word.start, _DIGITS), round(word.end, _DIGITS), score)
