"""YAML as fairseq2 reads it: every shipped file, and the values on which readers disagree."""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from fairseq2.runtime.dependency import get_dependency_resolver
from fairseq2.utils.yaml import YamlLoader
from hypothesis import given
from hypothesis import strategies as st

from wavellama.errors import ConfigError
from wavellama.yaml_files import read_documents, read_yaml, write_yaml

ROOT = Path(__file__).parents[2]
SHIPPED = sorted([*(ROOT / "assets").rglob("*.yaml"), *(ROOT / "recipes").rglob("*.yaml")])


def _fairseq2(text: str) -> list[object]:
    return get_dependency_resolver().resolve(YamlLoader).load(StringIO(text))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_shipped_file_is_what_fairseq2_reads(path: Path) -> None:
    assert read_documents(path) == _fairseq2(path.read_text("utf-8"))


NUMBERS = "1e-5 1E5 -1.5e+3 1. .5 1_000 0o17 017 0x1F -7 +7 .inf -.INF .nan 12e03 09 08.5 0b11"
TEXTS = "1:30 190:20:30 no yes on off y NO tRUE none 1.2.3 1e 1e- . '1' \"no\" nor_Latn 0.1_5"
OTHERS = "true True TRUE false ~ null Null NULL"
SCALARS = f"{NUMBERS} {TEXTS} {OTHERS}".split()


@pytest.mark.parametrize("scalar", [*SCALARS, "", "'no' # a remark"])
def test_scalars_are_what_fairseq2_reads(scalar: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"value: {scalar}\n", "utf-8")
    ours, (theirs,) = read_yaml(path)["value"], _fairseq2(path.read_text("utf-8"))
    assert isinstance(theirs, dict)
    if isinstance(theirs["value"], float) and math.isnan(theirs["value"]):
        assert math.isnan(ours)
    else:
        assert (type(ours), ours) == (type(theirs["value"]), theirs["value"])


def test_a_small_number_is_one_and_no_is_norwegian(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes("\ufefflr: 1e-5\nlanguages: [no, on]\n".encode())
    assert read_yaml(path) == {"lr": 1e-5, "languages": ["no", "on"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not a valid YAML file"),
        ("a: 1\na: 2", "stands twice"),
        ("a: !!python/object:os.system {}", "is not a valid YAML file"),
        ("a: 1\n---\nb: 2", "must hold one mapping"),
    ],
)
def test_what_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=message):
        read_yaml(tmp_path / "a.yaml")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match="is not a valid YAML file"):
        read_yaml(tmp_path / "a.yaml")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(content=PLAIN)
def test_what_is_written_is_read_alike_by_all(content: object) -> None:
    output = StringIO()
    write_yaml(content, output)
    assert _fairseq2(output.getvalue()) == [content]
    assert yaml.safe_load(output.getvalue()) == content


@pytest.mark.parametrize("word", ["no", "1e-5", "0o7", "on", "null", "", "1:30", "2024-01-02"])
def test_words_that_look_like_something_else_stay_words(word: str, tmp_path: Path) -> None:
    content: dict[str, Any] = {"b": word, "a": [word]}
    path = tmp_path / "a.yaml"
    with path.open("w", encoding="utf-8") as file:
        write_yaml(content, file)
    assert read_yaml(path) == content
    assert list(read_yaml(path)) == ["b", "a"]
