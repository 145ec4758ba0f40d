"""One manifest of several data sets, so that a recipe can train on all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from wavellama.corpora.transcript import comparison_key
from wavellama.data.manifest import find_manifests, read_manifest, write_manifest
from wavellama.data.utterance import Utterance
from wavellama.errors import DataError

TRAIN: Final = "train"
"""The only split whose words may be learnt."""

Said: TypeAlias = tuple["str | None", str]
"""Words and their language, equal for what sounds alike."""


class Merged(NamedTuple):
    """What became of the rows of several data sets."""

    utterances: int
    """How many rows the manifest has."""

    left_out: int
    """How many rows of ``train`` would have given away what another data set asks."""


def merge_datasets(datasets: Sequence[Path], out: Path) -> Merged:
    """Write the rows of all data sets to one manifest; the audio stays where it is.

    A row of ``train`` is left out if another data set has its words in any other split. A row that
    names no corpus is of the one that its data set is called.

    :raises DataError: a data set has a row that is broken or in no split, or the name of ``out``
        is not one of a manifest.
    """
    sets = [list(_rows(dataset)) for dataset in datasets]
    asked = [{_said(row) for row in rows if row.split != TRAIN} for rows in sets]
    kept = [
        row
        for index, rows in enumerate(sets)
        for row in rows
        if row.split != TRAIN or not _is_asked(row, [*asked[:index], *asked[index + 1 :]])
    ]
    write_manifest(out, kept)
    return Merged(len(kept), sum(map(len, sets)) - len(kept))


def _rows(dataset: Path) -> Iterator[Utterance]:
    for path in find_manifests(dataset):
        content = read_manifest(path)
        if content.broken:
            line, reason = content.broken[0].line, content.broken[0].reason
            raise DataError(f"{path}:{line}: {reason}. See `wavellama data check {dataset}`.")
        for line, row in zip(content.lines, content.utterances, strict=True):
            if row.split is None:
                raise DataError(f"{path}:{line}: the row is in no split.")
            yield replace(row, corpus=row.corpus or dataset.stem)


def _is_asked(row: Utterance, others: Sequence[set[Said]]) -> bool:
    return any(_said(row) in other for other in others)


def _said(row: Utterance) -> Said:
    return row.lang, comparison_key(row.text.lower())
