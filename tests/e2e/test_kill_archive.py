"""An archive whose workers are killed at random moments ends as one process alone does.

Some moments lie in the start of a worker, most in its work; whoever is killed is started again.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.forked import run_forked
from tests.e2e.runs import start_cli
from tests.e2e.test_kill_transcribe import CLIPS, comparable

NUM_FILES: Final = 240
NUM_WORKERS: Final = 4
NUM_KILLS: Final = 4

LEASE_SECS: Final = 5
"""Far longer than a busy machine lets a worker wait, and short beside the job."""

TIMEOUT_SECS: Final = 900

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings, and a run of two steps."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "recordings").mkdir()
    for number in range(NUM_FILES):
        clip = CLIPS[number % len(CLIPS)]
        (folder / f"recordings/{number:04}.ogg").symlink_to(clip)
    result = run_forked(
        *("recipe", "asr", "train", "toy_train", "--output-dir", "run", "--no-rich"),
        *("--config", "regime.num_steps=2"),
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    return folder


class Job:
    """A job and its workers."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path, self._log = folder / name, folder / f"{name}.log"
        words = ("--model", "run", "--lang", "eng_Latn", "--batch-seconds", "2")
        pace = ("--shard-hours", "0.002", "--lease-seconds", str(LEASE_SECS))
        made = run_forked("archive", "create", name, "recordings", *pace, *words, cwd=folder)
        assert made.returncode == 0, made.stderr
        self.num_shards = len(json.loads((self._path / "job.json").read_text())["shards"])

    def start(self) -> subprocess.Popen[bytes]:
        """Start a worker."""
        return start_cli("archive", "work", self._path, "--threads", "1", log=self._log)

    def num_done(self) -> int:
        """Return how many shards are done."""
        return len([*self._path.glob("parts/*.jsonl")])

    def wait_for(self, num_done: int) -> None:
        """Wait until so many shards are done."""
        deadline = time.monotonic() + TIMEOUT_SECS
        while self.num_done() < num_done:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)

    def log(self) -> str:
        """Return what the workers printed."""
        return self._log.read_text("utf-8")

    def rows(self) -> list[dict[str, Any]]:
        """Return the transcripts, merged."""
        result = run_forked("archive", "merge", self._path)
        assert result.returncode == 0, result.stderr
        text = (self._path / "transcripts.jsonl").read_text("utf-8")
        return [comparable(json.loads(line)) for line in text.splitlines()]


def test_killed_workers_change_nothing(folder: Path) -> None:
    alone = Job(folder, "alone")
    assert alone.start().wait(TIMEOUT_SECS) == 0, alone.log()
    expected = alone.rows()
    assert [row["index"] for row in expected] == list(range(NUM_FILES))
    assert len({row["text"] for row in expected}) > 8, "nothing is always the same"

    job, draw = Job(folder, "killed"), random.Random(0)
    workers = [job.start() for _ in range(NUM_WORKERS)]
    for num_done in sorted(draw.sample(range(1, job.num_shards * 3 // 4), NUM_KILLS)):
        job.wait_for(num_done)
        time.sleep(draw.uniform(0.0, 0.3))
        victim = draw.randrange(NUM_WORKERS)
        workers[victim].kill()
        assert workers[victim].wait() == -signal.SIGKILL, job.log()
        workers[victim] = job.start()
    assert [worker.wait(TIMEOUT_SECS) for worker in workers] == [0] * NUM_WORKERS, job.log()

    assert job.rows() == expected
    finished = Counter(line for line in job.log().splitlines() if line.startswith("shard "))
    assert len({line.split(":")[0] for line in finished}) == sum(finished.values()), "done twice"
