"""A job of many files, killed at ten random moments, ends as if nobody had killed it.

Some moments lie in the start-up, which a kill must not hurt either, most in the work.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pysubs2
import pytest

from tests.e2e.forked import run_forked
from tests.e2e.runs import start_cli
from tests.e2e.test_transcribe import MINI

CLIPS: Final = sorted(
    (MINI / "audio/ita_Latn/asterisk-it").glob("*.ogg"), key=lambda path: path.stat().st_size
)[:25]
"""Short ones, about which a model of two steps says more than ten different things."""

NUM_FILES: Final = 200
FORMATS: Final = ("txt", "srt", "json")

START_SECS: Final = 8.0
"""About how long a start takes."""

TIMEOUT_SECS: Final = 300

pytestmark = pytest.mark.slow


class Work:
    """A job of many files, and where its results are."""

    def __init__(self, audio: Path, model: Path, out: Path) -> None:
        self.audio, self.out, self.log = audio, out, out.with_suffix(".log")
        self.journal = out / "transcripts.jsonl"
        self.command: tuple[str | Path, ...] = (
            *("transcribe", audio, "--model", model, "--output-dir", out, "--threads", "1"),
            *("--format", ",".join(FORMATS), "--batch-seconds", "1"),
        )

    def num_done(self) -> int:
        """Return how many files are in the journal."""
        return self.journal.read_bytes().count(b"\n") if self.journal.is_file() else 0

    def start(self) -> subprocess.Popen[bytes]:
        """Begin, or go on."""
        return start_cli(*self.command, log=self.log)

    def wait_for(self, process: subprocess.Popen[bytes], num_done: int) -> None:
        """Wait until so many files are done, which must be before the job has ended."""
        deadline = time.monotonic() + TIMEOUT_SECS
        while self.num_done() < num_done:
            assert process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.002)

    def linger(self, secs: float) -> None:
        """Let so many seconds of a start go by, but not into the work."""
        deadline, num_done = time.monotonic() + secs, self.num_done()
        while time.monotonic() < deadline and self.num_done() == num_done:
            time.sleep(0.002)

    def finish(self) -> None:
        """Run to the end, which must be a good one."""
        result = run_forked(*self.command)
        assert result.returncode == 0, result.stderr

    def records(self) -> dict[str, dict[str, Any]]:
        """Return the lines of the journal by their source; none may be there twice."""
        rows = [json.loads(line) for line in self.journal.read_text("utf-8").splitlines()]
        assert len({row["source"] for row in rows}) == len(rows)
        return {row["source"]: comparable(row) for row in rows}

    def results(self) -> dict[Path, str]:
        """Return the other results, by their names."""
        files = (path for path in self.out.rglob("*") if path.is_file())
        names = (path.relative_to(self.out) for path in files if path != self.journal)
        return {name: (self.out / name).read_text("utf-8") for name in names if is_result(name)}


def is_result(name: Path) -> bool:
    """Tell results from what a killed process has not come to rename."""
    return not name.name.startswith(".")


def comparable(row: dict[str, Any]) -> dict[str, Any]:
    """Return a transcript without its timings, and its numbers to the digits that are certain.

    Which files are in a batch depends on where the job began anew, and changes the last digits.
    """
    kept = {key: value for key, value in row.items() if key != "timings"}
    return dict(json.loads(json.dumps(kept), parse_float=lambda text: round(float(text), 3)))


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C reach what is started here, even if these tests run in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    out = tmp_path_factory.mktemp("toy") / "run"
    result = run_forked(
        *("recipe", "asr", "train", "toy_train", "--output-dir", out, "--no-rich"),
        *("--config", "regime.num_steps=2"),
    )
    assert result.returncode == 0, result.stderr
    return out


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of many files, and folders in it."""
    folder = tmp_path_factory.mktemp("audio")
    for i in range(NUM_FILES):
        path = folder / ("", "one", "two/three")[i % 3] / f"{i:03}.ogg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(CLIPS[i % len(CLIPS)])
    return folder


@pytest.fixture(scope="module")
def whole(audio: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Work:
    """A job that nobody has killed."""
    work = Work(audio, model, tmp_path_factory.mktemp("whole") / "out")
    work.finish()
    return work


def test_ten_kills_change_nothing(audio: Path, model: Path, whole: Work, tmp_path: Path) -> None:
    work, draw = Work(audio, model, tmp_path / "out"), random.Random(0)
    steps = [0] * 3 + [draw.randint(1, 20) for _ in range(7)]
    draw.shuffle(steps)
    for step in steps:
        process = work.start()
        if step:
            work.wait_for(process, work.num_done() + step)
            time.sleep(draw.uniform(0.0, 0.05))
        else:
            work.linger(draw.uniform(0.0, START_SECS))
        process.kill()
        assert process.wait() == -signal.SIGKILL, work.log.read_text()[-2000:]
    assert 7 <= work.num_done() < NUM_FILES
    work.finish()
    assert_complete(work)
    assert_equal(work, whole)


def test_ctrl_c_ends_a_job_that_can_go_on(
    audio: Path, model: Path, whole: Work, tmp_path: Path
) -> None:
    work = Work(audio, model, tmp_path / "out")
    process = work.start()
    work.wait_for(process, 20)
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT_SECS) == 130
    assert "Traceback" not in work.log.read_text()
    assert 20 <= work.num_done() < NUM_FILES
    work.finish()
    assert_complete(work)
    assert_equal(work, whole)


def assert_complete(work: Work) -> None:
    """Check that each file has all its results, which programs can read."""
    sources = sorted(work.audio.rglob("*.ogg"))
    assert len(sources) == NUM_FILES
    assert sorted(work.records()) == list(map(str, sources))
    stems = [path.relative_to(work.audio) for path in sources]
    expected = {stem.with_suffix(f".{name}") for stem in stems for name in FORMATS}
    results = work.results()
    assert results.keys() == expected
    for name, text in results.items():
        if name.suffix == ".json":
            assert json.loads(text)["source"] == str(work.audio / name.with_suffix(".ogg"))
        elif name.suffix == ".srt":
            cues = pysubs2.SSAFile.from_string(text, "srt")
            assert bool(list(cues)) == bool(results[name.with_suffix(".txt")])


def assert_equal(work: Work, whole: Work) -> None:
    """Check that the results are those of a job that nobody has killed."""
    assert work.records() == whole.records()
    assert len({row["text"] for row in whole.records().values()}) > 8, "nothing is always the same"
    expected = whole.results()
    for name, text in work.results().items():
        if name.suffix == ".json":
            assert comparable(json.loads(text)) == comparable(json.loads(expected[name]))
        else:
            assert text == expected[name], name
