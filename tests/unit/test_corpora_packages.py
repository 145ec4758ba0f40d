"""Packages: unpacked without dpkg, downloaded by apt, and what is said without it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from wavellama.corpora.deb import ar_members, unpack
from wavellama.corpora.packages import DEBIAN_SPEECH, download, find_packages
from wavellama.errors import DataError

COMPRESS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def make_deb(path: Path, files: dict[str, bytes], suffix: str = ".xz") -> Path:
    """Write a package with these files in its data part."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    path.parent.mkdir(parents=True, exist_ok=True)
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": b"odd",
        f"data.tar{suffix}": COMPRESS[suffix](data.getvalue()),
    }
    path.write_bytes(b"!<arch>\n" + b"".join(_member(*item) for item in members.items()))
    return path


def _member(name: str, content: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
    return header.encode() + content + b"\n" * (len(content) % 2)


@pytest.mark.parametrize("suffix", list(COMPRESS))
def test_a_package_is_unpacked(tmp_path: Path, suffix: str) -> None:
    files = {"./usr/a.ogg": b"sound", "./usr/b.png": b"no", "usr/doc/copyright": b"free"}
    unpack(make_deb(tmp_path / "p.deb", files, suffix), tmp_path / "out")
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    assert found == {"usr/a.ogg"}
    assert (tmp_path / "out/usr/doc/copyright").read_bytes() == b"free"


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt"])
def test_nothing_lands_outside(tmp_path: Path, name: str) -> None:
    unpack(make_deb(tmp_path / "p.deb", {name: b"x", "good.txt": b"y"}), tmp_path / "in" / "out")
    assert not list(tmp_path.rglob("evil.txt"))
    assert (tmp_path / "in/out/good.txt").exists()


@pytest.mark.parametrize("cut", [0, 4, 40, 70, 200, -60, -3])
def test_a_damaged_package_leaves_no_folder(tmp_path: Path, cut: int) -> None:
    path = make_deb(tmp_path / "p.deb", {"a.txt": os.urandom(5000)})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="not a whole package"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_members_of_odd_length() -> None:
    file = io.BytesIO(b"!<arch>\n" + _member("a/", b"odd") + _member("b", b"even"))
    assert list(ar_members(file)) == [("a", b"odd"), ("b", b"even")]


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose PATH has one folder, for a false apt-get."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}")
    return folder


def _false_apt(folder: Path, body: str) -> None:
    script = folder / "apt-get"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)


def test_without_apt_it_says_how_to_get_the_packages(tmp_path: Path, apt: Path) -> None:
    with pytest.raises(DataError, match=r"no apt-get.*bookworm.*--packages FOLDER.*: a-b c\.$"):
        download(["a-b", "c"], tmp_path)


def test_packages_that_are_there_need_no_apt(tmp_path: Path, apt: Path) -> None:
    (tmp_path / "a_1.0_all.deb").touch()
    (tmp_path / "a-b_1.0_all.deb").touch()
    download(["a", "a-b"], tmp_path)
    assert find_packages(["a"], tmp_path) == {"a": tmp_path / "a_1.0_all.deb"}


def test_each_package_is_downloaded_once(tmp_path: Path, apt: Path) -> None:
    _false_apt(apt, f'echo "$3" >> {tmp_path}/log; : > "$3_1.0_all.deb"')
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "a_0.9_all.deb").touch()
    download(["a", "b", "c"], cache)
    download(["a", "b", "c"], cache)
    assert (tmp_path / "log").read_text() == "b\nc\n"
    assert sorted(path.name for path in cache.iterdir()) == [
        "a_0.9_all.deb",
        "b_1.0_all.deb",
        "c_1.0_all.deb",
    ]


def test_what_apt_says_is_passed_on(tmp_path: Path, apt: Path) -> None:
    _false_apt(apt, 'echo "W: chatter" >&2; echo "E: Unable to locate package $3" >&2; exit 100')
    with pytest.raises(DataError) as caught:
        download(["a"], tmp_path)
    assert "E: Unable to locate package a If apt has no lists" in str(caught.value)
    assert "apt-get update" in str(caught.value)
    assert "chatter" not in str(caught.value)


def test_missing_packages_are_named(tmp_path: Path) -> None:
    (tmp_path / "a_1_all.deb").touch()
    with pytest.raises(DataError, match=r"lacks packages.*They are: b c\.$"):
        find_packages(["a", "b", "c"], tmp_path)


def test_the_list_is_exact() -> None:
    assert len(DEBIAN_SPEECH) == len(set(DEBIAN_SPEECH)) == 15
