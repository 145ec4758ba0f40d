"""Manifests: tables of utterances, as TSV or as JSON lines.

TSV has a header with the columns ``audio``, ``duration`` and ``text``, and optionally ``offset``,
``lang``, ``speaker``, ``split``, ``corpus``, ``words``, ``audio_track`` and ``channel``; nothing is
quoted or escaped. JSON lines have the same keys; ``audio_filepath`` and ``language``, as NeMo
writes them, are understood, too. Times are in seconds, and a relative audio path starts at the
manifest's folder. ``words`` is a list of mappings with ``text``, ``start``, ``end`` and perhaps
``score``; in TSV it is written as JSON.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from wavellama.audio.tracks import EVERYTHING
from wavellama.data.utterance import Utterance, select_sound
from wavellama.data.words import parse_words, write_words
from wavellama.errors import ConfigError, DataError, UnknownLanguageError, nearest, suggestion
from wavellama.files import read_lines, write_text
from wavellama.text.languages import is_code, language_table

SOUND: Final = ("audio_track", "channel")
"""The columns that say which sound of a file is read, as the options of the same names do."""

_NAMES: Final = ("lang", "speaker", "split", "corpus")

_FACTS: Final = ("audio", "offset", "duration", "text", *_NAMES, "words")

COLUMNS: Final = (*_FACTS, *SOUND)
"""The columns, in the order in which they are written."""

REQUIRED: Final = ("audio", "duration", "text")
"""The columns without which there is no utterance."""

SUFFIXES: Final = (".tsv", ".jsonl")
"""How the names of manifests end; the suffix tells the form."""

_JSON_LINES: Final = (".jsonl", ".json")
"""NeMo's manifests end in ``.json``; only one that is named by its path is taken for a manifest."""

_COMMON_VOICE: Final = {"client_id", "path", "sentence"}
"""Columns of the tables that Common Voice comes with."""

_ALIASES: Final = {"audio_filepath": "audio", "language": "lang"}
_NUMBERED: Final = ("speaker", *SOUND)
"""Texts that may be written as numbers."""

WHOLE: Final = "manifest"
"""What a manifest of all splits is called, without suffix."""

_UNWRITABLE: Final = re.compile(r"[\0\ud800-\udfff]")

Row: TypeAlias = "Mapping[str, object]"


@dataclass(frozen=True)
class BrokenRow:
    """A row that is no utterance."""

    path: Path
    line: int
    """The line in it; the first line of the file has number 1."""

    reason: str


@dataclass(frozen=True)
class ManifestContent:
    """What a manifest holds."""

    utterances: list[Utterance] = field(default_factory=list)
    """The good rows, in the order of the file."""

    lines: list[int] = field(default_factory=list)
    """The line of each utterance."""

    broken: list[BrokenRow] = field(default_factory=list)


def find_manifests(path: Path) -> list[Path]:
    """Return the manifests of a data set, sorted: a file, or those in a folder.

    A folder has one ``manifest.tsv`` or ``manifest.jsonl``, or a file for each split, such as
    ``train.tsv``.

    :raises DataError: there is no manifest, or two for the same split.
    """
    if path.is_file():
        return [path]
    files = sorted(file for file in path.glob("[!.]*") if file.suffix in SUFFIXES)
    found = [file for file in files if file.stem == WHOLE] or files
    if not found:
        raise DataError(
            f"{path} holds no manifest: neither manifest.tsv or manifest.jsonl, nor a file for each"
            " split such as train.tsv."
        )
    if len({file.stem for file in found}) < len(found):
        raise DataError(f"{path} holds a .tsv and a .jsonl of the same name; remove one of them.")
    return found


def read_manifest(path: Path) -> ManifestContent:
    """Read a manifest; a row that is no utterance is reported and does not stop the others.

    Rows without a split belong to the one that the file is named after, except in ``manifest.*``.

    :raises DataError: the file cannot be read, or has no usable header, or no row.
    """
    content = ManifestContent()
    default_split = None if path.stem == WHOLE else path.stem
    rows = list(_read_rows(path))
    if not rows:
        raise DataError(f"{path} has no rows.")
    for line, parse in rows:
        try:
            utterance = _to_utterance(parse(), path.parent, default_split)
        except (ValueError, ConfigError) as ex:
            content.broken.append(BrokenRow(path, line, str(ex)))
        else:
            content.utterances.append(utterance)
            content.lines.append(line)
    return content


def write_manifest(path: Path, utterances: Sequence[Utterance]) -> None:
    """Write a manifest in the form that its suffix tells; the file changes at once or not at all.

    Audio below the manifest's folder is named relative to it. TSV has the optional columns that
    some utterance uses; JSON lines have the keys that the utterance uses.

    :raises DataError: the suffix is unknown, or TSV cannot hold a value (tab or line break).
    """
    check_suffix(path)
    rows = [_to_row(utterance, path.parent) for utterance in utterances]
    to_json = partial(json.dumps, ensure_ascii=False)
    lines = _tsv_lines(rows) if path.suffix == ".tsv" else map(to_json, rows)
    write_text(path, "".join(f"{line}\n" for line in lines))


def check_suffix(path: Path) -> None:
    """Refuse names under which no manifest can be written: a DataError."""
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} is no manifest: its name must end in {' or '.join(SUFFIXES)}.")


def _read_rows(path: Path) -> Iterator[tuple[int, Callable[[], Row]]]:
    """Yield the line number of each row, and what parses it (ValueError: it cannot)."""
    lines = _read_lines(path)
    if path.suffix in _JSON_LINES:
        for number, line in lines:
            yield number, partial(_parse_json, line)
    else:
        _, header = next(lines, (1, ""))
        columns = _parse_header(path, header)
        for number, line in lines:
            yield number, partial(_parse_tsv, columns, line)


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of the lines that are not blank."""
    try:
        lines = read_lines(path)
    except (OSError, UnicodeDecodeError) as ex:
        raise DataError(f"{path} cannot be read as UTF-8 text ({ex}).") from ex
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line


def _parse_header(path: Path, line: str) -> list[str]:
    columns = [_canonical(column) for column in line.split("\t")]
    twice = sorted({name for name in columns if name in COLUMNS and columns.count(name) > 1})
    if twice:
        raise DataError(f"{path} names {' and '.join(twice)} twice in its first line.")
    if set(columns) >= _COMMON_VOICE:
        raise DataError(
            f"{path} is a table of Common Voice, which does not say how long its clips are;"
            " docs/data.md has a few lines that make a manifest of it."
        )
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        near = [hit for name in missing for hit in nearest(name, columns, 1)]
        hint = f" Is it {' or '.join(near)}?" if near else ""
        raise DataError(
            f"{path} has no column {' nor '.join(missing)}.{hint} The first line must name the"
            f" columns, separated by tabs: {', '.join(COLUMNS)}."
        )
    return columns


def _parse_tsv(columns: Sequence[str], line: str) -> Row:
    values = line.split("\t")
    if len(values) != len(columns):
        raise ValueError(f"has {len(values)} columns, but the header names {len(columns)}")
    return dict(zip(columns, values, strict=True))


def _parse_json(line: str) -> Row:
    try:
        row = json.loads(line, object_pairs_hook=_unique_keys)
    except (json.JSONDecodeError, RecursionError) as ex:
        raise ValueError(f"is not JSON ({ex})") from ex
    if not isinstance(row, dict):
        raise ValueError("is not a JSON object")
    return row


def _unique_keys(pairs: Sequence[tuple[str, object]]) -> Row:
    keys = [_canonical(key) for key, _ in pairs]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ValueError(f"has {' and '.join(twice)} twice")
    return dict(zip(keys, (value for _, value in pairs), strict=True))


def _canonical(column: str) -> str:
    name = column.strip()
    return _ALIASES.get(name, name)


def _to_utterance(row: Row, folder: Path, default_split: str | None) -> Utterance:
    """Check a row and make it an utterance.

    :raises ValueError: it is no utterance; the message says why.
    :raises ConfigError: it names no sound that can be.
    """
    audio, text = _required(row, "audio"), _required(row, "text")
    duration = _seconds(row, "duration")
    if duration is None or duration <= 0:
        raise ValueError(f"has a duration of {row.get('duration')!r}, but it must be above 0")
    return Utterance(
        audio=folder / os.path.expanduser(audio),
        text=text,
        duration=duration,
        lang=_language(row),
        offset=_seconds(row, "offset"),
        speaker=_optional(row, "speaker"),
        split=_optional(row, "split") or default_split,
        corpus=_optional(row, "corpus"),
        words=parse_words(row.get("words"), text, duration),
        selection=select_sound(*(_optional(row, key) for key in SOUND)),
    )


def _optional(row: Row, key: str) -> str | None:
    value = row.get(key)
    if key in _NUMBERED and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"has the {key} {value!r}, which is not a text")
    if _UNWRITABLE.search(value):
        raise ValueError(f"has the {key} {value!r}, which holds half a character or a zero")
    return value.strip() or None


def _required(row: Row, key: str) -> str:
    value = _optional(row, key)
    if value is None:
        raise ValueError(f"has no {key}")
    return value


def _seconds(row: Row, key: str) -> float | None:
    value = row.get(key)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    seconds = math.nan
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"has the {key} {value!r}, which is not a number of seconds")
    return seconds


def _language(row: Row) -> str | None:
    """Return the language of the row, by its published code if there is one."""
    lang = _optional(row, "lang")
    if lang is None:
        return None
    try:
        return language_table().resolve(lang)
    except UnknownLanguageError as ex:
        if is_code(lang):  # some model may know it
            return lang
        raise ValueError(f"has the unknown language {lang!r}.{suggestion(ex.near)}") from ex


def _to_row(utterance: Utterance, folder: Path) -> Row:
    audio = Path(os.path.abspath(utterance.audio))
    root = Path(os.path.abspath(folder))
    inside = audio.is_relative_to(root)
    row = {name: getattr(utterance, name) for name in _FACTS}
    row |= {
        name: getattr(utterance.selection, name)
        for name in SOUND
        if utterance.selection != EVERYTHING
    }
    if utterance.words is not None:
        row["words"] = write_words(utterance.words)
    row["audio"] = (audio.relative_to(root) if inside else audio).as_posix()
    return {name: value for name, value in row.items() if value is not None}


def _tsv_lines(rows: Sequence[Row]) -> Iterable[str]:
    used = {name for row in rows for name in row}.union(REQUIRED)
    columns = [name for name in COLUMNS if name in used]
    yield "\t".join(columns)
    for row in rows:
        values = [_cell(row.get(name, "")) for name in columns]
        if any(mark in value for value in values for mark in "\t\n\r"):
            raise DataError(f"A tab or line break does not fit into TSV: {values}. Use .jsonl.")
        yield "\t".join(values)


def _cell(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)
