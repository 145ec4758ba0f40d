"""Write a corpus: audio, manifest, licences, statistics, and last the checksums of all."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from wavellama.corpora.clean import Cleaned
from wavellama.corpora.clip import Clip
from wavellama.corpora.split import novel_clips
from wavellama.data.manifest import write_manifest
from wavellama.data.progress import track
from wavellama.data.utterance import Utterance
from wavellama.files import file_digest, replacing, write_text

CHECKSUMS: Final = "SHA256SUMS"
"""The file that exists only when the corpus is complete."""

Parts: TypeAlias = "Mapping[str, Sequence[Clip]]"
Export: TypeAlias = "Callable[[Path, Path], None]"
"""Writes a FLAC file (first path) as audio of the corpus (second path)."""


def export_clips(parts: Parts, folder: Path, suffix: str, export: Export) -> list[Utterance]:
    """Write the audio of all parts below ``folder`` and return the rows of the manifest."""
    clips = [(name, clip) for name, members in parts.items() for clip in members]
    rows: list[Utterance] = []
    for split, clip in track(clips, "writing", len(clips)):
        audio = folder / "audio" / f"{clip.raw.stem}{suffix}"
        if not audio.exists():
            export(clip.path, audio)
        rows.append(_to_utterance(clip, audio, split))
    return rows


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system knows no links."""
    with replacing(target) as part:
        try:
            os.link(source, part)
        except OSError:
            shutil.copyfile(source, part)


def finish(folder: Path, rows: Sequence[Utterance], licences: str, stats: object) -> None:
    """Write manifest, ``LICENSES.txt``, ``stats.json`` and last the checksums."""
    write_manifest(folder / "manifest.tsv", rows)
    write_text(folder / "LICENSES.txt", licences)
    write_text(folder / "stats.json", json.dumps(stats, indent=1, ensure_ascii=False) + "\n")
    made = sorted({row.audio for row in rows})
    made += [folder / name for name in ("LICENSES.txt", "manifest.tsv", "stats.json")]
    sums = (
        f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in track(made, "checksums", len(made))
    )
    write_text(folder / CHECKSUMS, "".join(sums))


def damaged_files(folder: Path) -> list[Path] | None:
    """Return the files that differ from their checksums, or None if there are no checksums."""
    sums = folder / CHECKSUMS
    if not sums.exists():
        return None
    expected = [line.split("  ", 1) for line in sums.read_text(encoding="utf-8").splitlines()]
    damaged: list[Path] = []
    for digest, name in track(expected, "verifying", len(expected)):
        path = folder / name
        if not path.is_file() or file_digest(path) != digest:
            damaged.append(path)
    return damaged


def statistics(
    parts: dict[str, list[Clip]], cleaned: Cleaned, packages: Mapping[str, Path]
) -> dict[str, object]:
    """Return utterances and minutes by part and language, and what was left out and why.

    ``packages`` are the files that all was made from; their checksums are in the result.
    """
    dropped: dict[str, dict[str, int]] = {}
    for (lang, reason), count in sorted(cleaned.dropped.items()):
        dropped.setdefault(lang, {})[reason] = count
    sizes = {name: _sizes(clips) for name, clips in parts.items()}
    if parts["test_unseen"]:
        sizes["test_unseen, text not in train"] = _sizes(novel_clips(parts, "test_unseen"))
    in_parts = sum(map(len, parts.values()))
    return {
        "parts": sizes,
        "dropped": dropped,
        "repeats_left_out_of_dev_and_test": len(cleaned.clips) - in_parts,
        "packages": {path.name: file_digest(path) for path in packages.values()},
    }


def collect_licences(notices: Mapping[str, Path], preface: str) -> str:
    """Return ``preface`` and the notices of the packages; equal ones stand there once.

    ``notices`` has the file of each, by the name that it gets.
    """
    by_text: dict[str, list[str]] = {}
    for name, path in notices.items():
        by_text.setdefault(_read_notice(path), []).append(name)
    rule = "=" * 78
    sections = (f"{rule}\n{', '.join(n)}\n{rule}\n\n{t}" for t, n in by_text.items())
    return "\n".join((preface, *sections))


def _to_utterance(clip: Clip, audio: Path, split: str) -> Utterance:
    raw = clip.raw
    return Utterance(audio, clip.text, clip.duration, raw.lang, speaker=raw.speaker, split=split)


def _read_notice(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")


def _sizes(clips: Sequence[Clip]) -> dict[str, dict[str, float]]:
    by_lang: defaultdict[str, list[float]] = defaultdict(list)
    for clip in clips:
        by_lang[clip.raw.lang].append(clip.duration)
    sizes = {lang: _size(by_lang[lang]) for lang in sorted(by_lang)}
    return sizes | {"all": _size([clip.duration for clip in clips])}


def _size(durations: Sequence[float]) -> dict[str, float]:
    return {"utterances": len(durations), "minutes": round(sum(durations) / 60, 2)}
