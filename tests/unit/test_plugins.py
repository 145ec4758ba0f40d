"""What other packages register: found by name, imported when it is asked for, named when broken."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.third_party import install
from wavellama import Format, WriterOptions
from wavellama.errors import ConfigError, UnknownNameError
from wavellama.plugins import load_object, registered
from wavellama.tasks.registry import load_recipe
from wavellama.tasks.train import AsrTraining
from wavellama.transcript.types import Transcript
from wavellama.transcript.writers import FORMATS, find_formats, format_names, readable

GOOD = """
from wavellama import Format
from wavellama.tasks.train import AsrTraining
SHOUTED = Format(lambda transcript, options: transcript.text.upper(), is_subtitle=True)
NO_FORMAT = str.upper
"""

BAD = "raise RuntimeError('its licence has expired')"

ENTRY_POINTS = """
[wavellama.formats]
shout = theirs_good:SHOUTED
bare = theirs_good:NO_FORMAT
gone = theirs_good:GONE
ill = theirs_bad:FORMAT
away = theirs_nowhere:FORMAT
txt = theirs_good:SHOUTED

[wavellama.recipes]
their_train = theirs_good:AsrTraining
ill_train = theirs_bad:Training
eval = theirs_good:AsrTraining
"""


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, {"theirs_good.py": GOOD, "theirs_bad.py": BAD}, ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("theirs_good", "theirs_bad"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_listing_imports_nothing() -> None:
    assert registered("wavellama.formats")["ill"] == "theirs_bad:FORMAT"
    assert format_names() == [*FORMATS, "shout", "bare", "gone", "ill", "away"]
    assert not {"theirs_good", "theirs_bad"} & set(sys.modules)


def test_a_format_of_another_package_is_one_like_ours() -> None:
    formats = find_formats("shout,json")
    assert list(formats) == ["shout", "json"]
    assert readable(WriterOptions(max_line_width=9), formats).max_line_width == 9
    transcript = Transcript(source="a", index=0, segments=(), duration=1.0)
    assert formats["shout"].write(transcript, WriterOptions()) == ""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ill", r"ill \(theirs_bad:FORMAT\) cannot be imported: its licence has expired\."),
        ("gone", r"gone \(theirs_good:GONE\) cannot be imported: .*no attribute 'GONE'"),
        ("away", r"away \(theirs_nowhere:FORMAT\) cannot be imported: No module named"),
        ("bare", r"bare \(theirs_good:NO_FORMAT\) is a method_descriptor, but must be"),
    ],
)
def test_a_broken_format_is_named_when_it_is_asked_for(name: str, reason: str) -> None:
    assert list(find_formats("txt,shout")) == ["txt", "shout"], "the others work"
    with pytest.raises(ConfigError, match=f"The format {reason}"):
        find_formats(f"txt,{name}")


def test_no_package_replaces_ours() -> None:
    assert find_formats("txt") == {"txt": FORMATS["txt"]}
    assert not isinstance(load_recipe("eval"), AsrTraining)


def test_near_names_are_those_of_other_packages_too() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean shout.* Choose from txt.*, away\."):
        find_formats("shuot")


def test_a_broken_recipe_is_named_when_it_is_asked_for() -> None:
    assert isinstance(load_recipe("their_train"), AsrTraining)
    with pytest.raises(ConfigError, match=r"recipe ill_train \(theirs_bad:Training\) cannot be"):
        load_recipe("ill_train")
    with pytest.raises(ConfigError, match=r"The recipe no_module:Class cannot be imported: No mod"):
        load_recipe("no_module:Class")


def test_what_is_imported_is_the_object_itself() -> None:
    assert load_object("class", "it", "wavellama:Format") is Format


def test_two_packages_with_one_name_are_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    install(folder, {}, "[wavellama.formats]\nshout = other:LOUD\nill = theirs_bad:FORMAT\n")
    (info,) = folder.glob("*.dist-info")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    info.rename(folder / "others-1.0.dist-info")
    monkeypatch.syspath_prepend(str(folder))
    used, again = (registered("wavellama.formats")["shout"] for _ in range(2))
    assert used == again
    (record,) = caplog.records
    assert "register shout in wavellama.formats" in record.getMessage()
    assert "theirs_good:SHOUTED of theirs" in record.getMessage()
    assert "other:LOUD of others" in record.getMessage()
    assert used in record.getMessage().split(" and ")[1]
