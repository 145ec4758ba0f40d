"""A job of an archive, whose shards Ray Data deals out (examples/archive_ray.py)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.forked import run_forked
from tests.e2e.test_archive import CLIPS
from tests.pages import ROOT

pytest.importorskip("ray.data", reason="Ray is not installed: pip install 'ray[data]'")


@pytest.mark.slow
def test_the_example_does_a_job(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    for clip in CLIPS[:3]:
        shutil.copy(clip, tmp_path / "recordings")
    (tmp_path / "recordings/damaged.ogg").write_bytes(b"no audio")
    words = ("archive", "create", "job", "recordings", "--shard-hours", "0.0005")
    made = run_forked(*words, "--lang", "eng_Latn", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    num_shards = len(json.loads((tmp_path / "job/job.json").read_text())["shards"])

    command = [sys.executable, str(ROOT / "examples/archive_ray.py"), str(tmp_path / "job"), "2"]
    for count in (num_shards, 0):  # the second run finds all done
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.endswith(f"{count} of {count} shards are done now.\n")

    merged = run_forked("archive", "merge", tmp_path / "job")
    assert merged.stdout == "3 of 4 files have a transcript.\n"
    assert "damaged.ogg: " in merged.stderr
