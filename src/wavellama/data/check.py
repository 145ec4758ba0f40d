"""Check a data set: is every row an utterance that can be read, and what is there in all?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from wavellama.audio.load import Selection, load_audio
from wavellama.data.manifest import BrokenRow, find_manifests, read_manifest
from wavellama.data.parquet.files import holds_parquet
from wavellama.data.progress import map_in_threads, track
from wavellama.data.utterance import Sound, Utterance
from wavellama.data.words import TOLERANCE_SECS
from wavellama.errors import AudioError
from wavellama.units import samples_to_seconds

Row: TypeAlias = tuple[Path, int, Utterance]
"""An utterance, with its manifest and its line there."""


@dataclass(frozen=True)
class CheckResult:
    """What became of the rows of a data set."""

    utterances: list[Utterance] = field(default_factory=list)
    broken: list[BrokenRow] = field(default_factory=list)


@dataclass
class LanguageStats:
    """The utterances of one language in numbers."""

    lang: str
    """The language code, or ``-`` for rows without one."""

    utterances: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    characters: int = 0
    speakers: set[str] = field(default_factory=set)
    splits: Counter[str] = field(default_factory=Counter)

    @property
    def mean(self) -> float:
        """The mean length in seconds."""
        return self.seconds / self.utterances

    def add(self, utterance: Utterance) -> None:
        """Count an utterance."""
        self.utterances += 1
        self.seconds += utterance.duration
        self.longest = max(self.longest, utterance.duration)
        self.characters += len(utterance.text)
        if utterance.speaker is not None:
            self.speakers.add(utterance.speaker)
        self.splits[utterance.split or "-"] += 1


def check_dataset(path: Path) -> CheckResult:
    """Read every manifest of a data set, or all its parquet files, and all its audio.

    :raises DataError: there is no such file, or one cannot be read at all.
    """
    if holds_parquet(path):
        return check_parquet(path)
    result = CheckResult()
    rows = read_rows(path, result.broken)
    lengths = audio_lengths(utterance.sound for _, _, utterance in rows)
    for manifest, line, utterance in rows:
        fault = find_fault(utterance, lengths[utterance.sound])
        if fault is None:
            result.utterances.append(utterance)
        else:
            result.broken.append(BrokenRow(manifest, line, fault))
    result.broken.sort(key=lambda row: (row.path, row.line))
    return result


def check_parquet(path: Path) -> CheckResult:
    """Read all rows of parquet files in the layout of the published recipes.

    :raises DataError: a file cannot be read, or lacks a column.
    """
    from wavellama.data.parquet.dataset import ParquetDataset, ParquetDatasetConfig

    result = CheckResult()
    with TemporaryDirectory() as folder:
        config = ParquetDatasetConfig(path=str(path), index_dir=Path(folder))
        dataset = ParquetDataset(config)
        splits = [dataset.utterances(split) for split in dataset.splits]
        rows = chain.from_iterable(splits)
        for utterance in track(rows, "reading", sum(map(len, splits))):
            try:
                dataset.read_audio(utterance)
                fault = utterance.text_fault
            except AudioError as ex:
                fault = ex.reason
            if fault is None:
                result.utterances.append(utterance)
            else:
                result.broken.append(BrokenRow(Path(utterance.file), utterance.line, fault))
    return result


def read_rows(path: Path, broken: list[BrokenRow]) -> list[Row]:
    """Return the utterances of all manifests of a data set; other rows are appended to ``broken``.

    :raises DataError: there is no manifest, or one cannot be read at all.
    """
    rows: list[Row] = []
    for manifest in find_manifests(path):
        content = read_manifest(manifest)
        broken += content.broken
        pairs = zip(content.lines, content.utterances, strict=True)
        rows += [(manifest, line, utterance) for line, utterance in pairs]
    return rows


def audio_lengths(sounds: Iterable[Sound]) -> dict[Sound, float | str]:
    """Decode each sound once: its length in seconds, or why it cannot be decoded."""
    once = list(dict.fromkeys(sounds))
    return dict(zip(once, map_in_threads(_audio_length, once, "decoding"), strict=True))


def find_fault(utterance: Utterance, length: float | str) -> str | None:
    """Return what is wrong with an utterance whose sound has ``length`` seconds, or None."""
    if isinstance(length, str):
        return length
    if utterance.offset is None:
        if abs(length - utterance.duration) > TOLERANCE_SECS:
            return f"lasts {utterance.duration:.2f} s, but the audio {length:.2f} s"
        return utterance.text_fault
    end = utterance.offset + utterance.duration
    if end > length + TOLERANCE_SECS:
        return f"ends at {end:.2f} s, but the audio at {length:.2f} s"
    return utterance.text_fault


def find_repeats(utterances: Sequence[Utterance]) -> list[str]:
    """Say which stretches of audio stand in several rows: a line for each pair of splits."""
    splits: dict[tuple[Path, Selection, float | None], list[str]] = {}
    for utterance in utterances:
        place = (utterance.audio.absolute(), utterance.selection, utterance.offset)
        splits.setdefault(place, []).append(utterance.split or "-")
    pairs: dict[tuple[str, str], list[Path]] = {}
    for (audio, _, _), found in splits.items():
        for pair in set(combinations(sorted(found), 2)):
            pairs.setdefault(pair, []).append(audio)
    lines: list[str] = []
    for (one, other), files in sorted(pairs.items()):
        where = f"both {one} and {other}" if one != other else f"{one} more than once"
        lines.append(f"{len(files):,} utterances stand in {where}, such as {files[0]}")
    return lines


def language_statistics(utterances: Sequence[Utterance]) -> list[LanguageStats]:
    """Return the numbers of each language, sorted by code."""
    stats: dict[str, LanguageStats] = {}
    for utterance in utterances:
        lang = utterance.lang or "-"
        stats.setdefault(lang, LanguageStats(lang)).add(utterance)
    return [stats[lang] for lang in sorted(stats)]


def _audio_length(sound: Sound) -> float | str:
    try:
        return samples_to_seconds(len(load_audio(*sound)))
    except AudioError as ex:
        return ex.reason
