"""Any file may be called a manifest, any stream may be closed: a sentence, no stack trace."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavellama.cli.main import main
from wavellama.data.manifest import COLUMNS, ManifestContent, read_manifest, write_manifest
from wavellama.errors import DataError

ENCODINGS: Final = ("utf-8", "utf-8-sig", "utf-16", "utf-32-le", "latin-1", "cp1251", "utf-7")
ENDS: Final = ("\n", "\r\n", "\r", "\u2028", "\x85", "\x0b")
SEPARATORS: Final = ("\t", ",", ";", " ", "\t\t", "|")

TEXTS = st.text(st.characters(), max_size=30)
"""All categories of Unicode, surrogates among them."""

NUMBERS = st.sampled_from(["1", "0", "-1", "1.5", "1,5", "1e400", "nan", "٣", "0x1", " 2 ", ""])
CELLS = (
    TEXTS | NUMBERS | st.sampled_from(["eng_Latn", "ita", "[]", '[{"text": "a"}]', "mix", "left"])
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | CELLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([*COLUMNS, "audio_filepath", "language", "path", ""]) | TEXTS


@st.composite
def tables(draw: st.DrawFn) -> str:
    """A table with the right columns among others, or none of them."""
    columns = draw(st.permutations([*COLUMNS[:4], *draw(st.lists(KEYS, max_size=3))]))
    rows = draw(st.lists(st.lists(CELLS, min_size=1, max_size=8), max_size=4))
    separator, end = draw(st.sampled_from(SEPARATORS)), draw(st.sampled_from(ENDS))
    return end.join(separator.join(row) for row in [columns, *rows])


@st.composite
def json_lines(draw: st.DrawFn) -> str:
    """Lines of JSON, some of which are objects with the right keys."""
    good = {"audio": "a.wav", "duration": 1.0, "text": "abc"}
    changes = st.dictionaries(KEYS, VALUES, max_size=3)
    rows = draw(st.lists(changes.map(lambda more: {**good, **more}) | VALUES, max_size=4))
    lines = [json.dumps(row, ensure_ascii=draw(st.booleans())) for row in rows]
    return draw(st.sampled_from(ENDS)).join([*lines, *draw(st.lists(CELLS, max_size=1))])


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """What is in a file."""
    text = draw(tables() | json_lines() | TEXTS)
    encoding = draw(st.sampled_from(ENCODINGS))
    errors = "surrogatepass" if encoding.startswith("utf") and encoding != "utf-7" else "replace"
    data = text.encode(encoding, errors)
    cut = draw(st.none() | st.integers(0, max(len(data) - 1, 0)))
    return data[:cut] + draw(st.binary(max_size=4))


@contextmanager
def manifest(data: bytes, suffix: str) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"train{suffix}"
        path.write_bytes(data)
        yield path


def read_or_none(path: Path) -> ManifestContent | None:
    """Return what a manifest holds; None where it cannot be read, which names the file."""
    try:
        return read_manifest(path)
    except DataError as ex:
        message = str(ex)
    assert path.name in message
    return None


SUFFIXES = st.sampled_from([".tsv", ".jsonl", ".json", ".csv", ""])


@given(contents(), SUFFIXES)
def test_a_file_is_read_or_refused_in_a_sentence(data: bytes, suffix: str) -> None:
    with manifest(data, suffix) as path:
        content = read_or_none(path)
        if content is None:
            return
        assert len(content.utterances) == len(content.lines)
        assert len(content.utterances) + len(content.broken) > 0
        assert all(row.reason and row.line > 0 for row in content.broken)


@given(json_lines())
def test_what_is_read_survives_being_written(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    with manifest(data, ".jsonl") as path:
        content = read_or_none(path)
        if content is not None and (utterances := content.utterances):
            write_manifest(path, utterances)
            again = read_manifest(path)
            assert again.broken == []
            assert [u.text for u in again.utterances] == [u.text for u in utterances]
            assert [u.selection for u in again.utterances] == [u.selection for u in utterances]


class Broken(io.RawIOBase):
    """A file that nothing can be written to."""

    def __init__(self, error: type[OSError]) -> None:
        self._error = error

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        raise self._error(28, "No space left on device")


def broken(error: type[OSError]) -> io.TextIOWrapper:
    """Return a stream as Python opens them, unbuffered."""
    return io.TextIOWrapper(Broken(error), "ascii", write_through=True)  # type: ignore[arg-type]


def run(args: list[str], out: Any, err: Any) -> object:
    """Run a command in this process; return its exit code."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        with patch.dict(os.environ):
            main(args)
    except SystemExit as ex:
        return ex.code
    finally:
        sys.stdout, sys.stderr = before
    return None


OUTPUTS: dict[str, Any] = {
    "closed": lambda: None,
    "full": lambda: broken(OSError),
    "gone": lambda: broken(BrokenPipeError),
    "ascii": lambda: io.TextIOWrapper(io.BytesIO(), "ascii"),
    "latin": lambda: io.TextIOWrapper(io.BytesIO(), "latin-1"),
}


@given(contents(), SUFFIXES, st.sampled_from([*OUTPUTS]))
def test_a_check_of_any_file_ends_in_a_sentence(data: bytes, suffix: str, output: str) -> None:
    err = io.TextIOWrapper(io.BytesIO(), "utf-8")
    with manifest(data, suffix) as path:
        code = run(["data", "check", str(path)], OUTPUTS[output](), err)
    assert code in (0, 1, 2)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(
    "args", ["languages", "languages german", "--version", "data check nowhere"]
)
def test_any_output_will_do(args: str, output: str) -> None:
    for error in OUTPUTS:
        assert run(args.split(), OUTPUTS[output](), OUTPUTS[error]()) in (0, 1, 2)
