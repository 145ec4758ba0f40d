"""Loading libsndfile: from the system, or from the soundfile wheel where the system has none."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import soundfile

from wavellama import libsndfile

SONAME: Final = "libsndfile.so.1"

only_linux = pytest.mark.skipif(platform.system() != "Linux", reason="a matter of Linux's linker")


class Loader:
    """Stands in for ``libsndfile.load_globally``: loads what it is told exists."""

    def __init__(self, *exist: str) -> None:
        self.exist = exist
        self.asked: list[str] = []

    def __call__(self, name: str) -> bool:
        self.asked.append(name)
        return name in self.exist


def _install(
    monkeypatch: pytest.MonkeyPatch, loader: Loader, bundled: str | None, system: str = "Linux"
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(libsndfile, "load_globally", loader)
    path = None if bundled is None else Path(bundled)
    monkeypatch.setattr(libsndfile, "bundled_libsndfile", lambda: path)


def test_the_system_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(SONAME)
    _install(monkeypatch, loader, bundled="/wheel/libsndfile.so")
    libsndfile.ensure_libsndfile()
    assert loader.asked == [SONAME]


def test_then_the_bundled_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader("/wheel/libsndfile.so")
    _install(monkeypatch, loader, bundled="/wheel/libsndfile.so")
    libsndfile.ensure_libsndfile()
    assert loader.asked == [SONAME, "/wheel/libsndfile.so"]


def test_neither_is_left_to_fairseq2_to_report(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader()
    _install(monkeypatch, loader, bundled=None)
    libsndfile.ensure_libsndfile()
    assert loader.asked == [SONAME]


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_other_platforms_are_left_alone(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    loader = Loader()
    _install(monkeypatch, loader, bundled="/wheel/libsndfile.so", system=system)
    libsndfile.ensure_libsndfile()
    assert loader.asked == []


@only_linux
def test_the_bundled_copy_loads() -> None:
    path = libsndfile.bundled_libsndfile()
    assert path is not None
    assert ctypes.CDLL(str(path)).sf_version_string is not None


def test_no_soundfile_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libsndfile, "find_spec", lambda _: None)
    assert libsndfile.bundled_libsndfile() is None


def test_soundfile_data_without_a_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = ModuleSpec("_soundfile_data", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(libsndfile, "find_spec", lambda _: spec)
    assert libsndfile.bundled_libsndfile() is None
    library = tmp_path / "libsndfile_x86_64.so"
    library.touch()
    assert libsndfile.bundled_libsndfile() == library


def test_load_reports_what_is_missing() -> None:
    assert not libsndfile.load_globally("libno-such-library.so.1")


# In a process of its own, where the system has no libsndfile, whatever this machine has.

NO_SYSTEM_LIBRARY: Final = """
import ctypes

class CDLL(ctypes.CDLL):
    have_bundled = False

    def __init__(self, name, *args, **kwargs):
        if name == "libsndfile.so.1" and not CDLL.have_bundled:
            raise OSError("not on this system")
        super().__init__(name, *args, **kwargs)
        CDLL.have_bundled |= "sndfile" in str(name)

ctypes.CDLL = CDLL
"""

DECODE: Final = """
import json, sys
import wavellama, fairseq2
from fairseq2.data._memory import MemoryBlock
from fairseq2.data.audio import AudioDecoder

with open(sys.argv[1], "rb") as file:
    decoded = AudioDecoder()(MemoryBlock(file.read()))
with open("/proc/self/maps") as maps:
    libraries = {line.split(maxsplit=5)[-1].strip() for line in maps if "libsndfile" in line}
print(json.dumps({
    "waveform": decoded["waveform"].tolist(),
    "sample_rate": decoded["sample_rate"],
    "libraries": sorted(libraries),
}))
"""


def _run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "CONDA_PREFIX"}
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


@only_linux
def test_flac_decodes_without_a_system_library(tmp_path: Path) -> None:
    path = tmp_path / "tone.flac"
    tone = np.rint(8000 * np.sin(np.arange(800) / 7)).astype(np.int16)
    soundfile.write(path, tone, 16_000, format="FLAC", subtype="PCM_16")

    child = _run(NO_SYSTEM_LIBRARY + DECODE, str(path))

    assert child.returncode == 0, child.stderr
    decoded = json.loads(child.stdout)
    assert decoded["sample_rate"] == 16_000
    assert decoded["libraries"] == [str(libsndfile.bundled_libsndfile())]
    np.testing.assert_allclose(decoded["waveform"], tone / 2**15, atol=1e-6)


@only_linux
def test_fairseq2_alone_fails_without_a_system_library() -> None:
    """What the test above would see if ``import wavellama`` loaded nothing."""
    child = _run(NO_SYSTEM_LIBRARY + "import fairseq2")
    assert child.returncode != 0
    assert "fairseq2 requires libsndfile" in child.stderr


@pytest.mark.parametrize(("prefix", "stays"), [("/elsewhere", False), (sys.prefix, True)])
def test_only_the_conda_environment_of_this_python_counts(
    prefix: str, stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fairseq2n looks for its libraries in an active conda environment and nowhere else."""
    monkeypatch.setenv("CONDA_PREFIX", prefix)
    libsndfile.ensure_libsndfile()
    assert ("CONDA_PREFIX" in os.environ) == stays
