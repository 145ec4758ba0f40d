"""Audio through a pipe: what comes out does not depend on how it came in, or on how it ends."""

from __future__ import annotations

import io
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Final

import pytest
import soundfile
import torch
from torch import Tensor
from torchaudio.functional import resample

from tests.e2e.forked import CONTEXT, be_the_program
from tests.e2e.runs import command_of
from tests.e2e.test_transcribe import CLIPS, MINI
from tests.unit.test_pipeline_inference import RATE, create_pipeline
from tests.unit.test_pipeline_live import options, run, speech
from wavellama import ASRInferencePipeline, TranscribeOptions
from wavellama.audio.load import load_audio
from wavellama.audio.sources import RawPcm
from wavellama.audio.stream import stream_audio
from wavellama.cli.live import PIECE_SECS
from wavellama.pipeline.jobs import Clip
from wavellama.pipeline.scribes import ClipScribe, Written
from wavellama.transcript.types import Segment

TIMEOUT_SECS: Final = 300

MODEL: Final = ("--model", "wavellama_small")
"""The embedded model: real text, whatever the processor."""


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C reach what is started here, even if these tests run in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def pipeline() -> ASRInferencePipeline:
    """The same model in this process."""
    return ASRInferencePipeline(MODEL[1], device="cpu")


class Pipe:
    """The program, and both ends of its pipes."""

    def __init__(self, *args: str | Path) -> None:
        pipe = subprocess.PIPE
        command = command_of(*args, "--threads", "1")
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)

    def feed(self, data: bytes, pause_secs: float = 0.0) -> None:
        """Write data in pieces of odd sizes."""
        draw, place = random.Random(0), 0
        assert self.process.stdin is not None
        while place < len(data):
            size = 2 * draw.randint(0, 4000) + 1
            self.process.stdin.write(data[place : place + size])
            self.process.stdin.flush()
            place += size
            time.sleep(pause_secs)

    def line(self) -> str:
        """Wait for the next line that is printed."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def wait_until_idle(self) -> None:
        """Wait until the program has been waiting for more audio for a second."""
        deadline, since, before = time.monotonic() + TIMEOUT_SECS, time.monotonic(), ""
        while time.monotonic() < since + 1.0:
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            status = self._status()
            if status != before or not status.startswith("S"):
                since, before = time.monotonic(), status
            time.sleep(0.02)

    def end(self, code: int = 0) -> tuple[list[str], str]:
        """Close the pipe; return the lines on standard output, and the text on standard error."""
        out, err = self.process.communicate(timeout=TIMEOUT_SECS)
        assert self.process.returncode == code, err.decode()
        assert b"Traceback" not in err
        return out.decode().splitlines(), without_notice(err.decode())

    def _status(self) -> str:
        """Return the state of the process, and the processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return f"{fields[0]} {fields[11]} {fields[12]}"


def without_notice(err: str) -> str:
    """Return what is on standard error, but the line that says which model is used."""
    return "".join(line for line in err.splitlines(True) if not line.startswith("Model: "))


def to_pcm(samples: Tensor) -> bytes:
    """Return samples as raw 16-bit audio."""
    return bytes((samples * 32_767).to(torch.int16).numpy().tobytes())


def spoken(pipeline: ASRInferencePipeline, data: bytes, rate: int = RATE) -> list[str]:
    """Return the utterances in raw audio, which is there as a whole."""
    blocks = list(stream_audio(RawPcm(io.BytesIO(data), rate), PIECE_SECS))
    session = pipeline.live(TranscribeOptions(normalization="causal"))
    session.feed(torch.cat(blocks))
    session.finish()
    return [segment.text.strip() for segment in session.segments]


def test_a_pipe_of_odd_pieces_that_breaks_within_a_sample(pipeline: ASRInferencePipeline) -> None:
    data = to_pcm(speech())
    expected = spoken(pipeline, data)
    assert len(expected) > 1
    pipe = Pipe("live", *MODEL)
    pipe.feed(data + b"\x01", pause_secs=0.01)
    assert pipe.end() == (expected, "")


@pytest.mark.slow
def test_another_rate_through_a_pipe(pipeline: ASRInferencePipeline) -> None:
    data = to_pcm(resample(speech(), RATE, 44_100))
    expected = spoken(pipeline, data, 44_100)
    assert len(expected) > 1
    pipe = Pipe("live", *MODEL, "--raw-rate", "44100")
    pipe.feed(data)
    assert pipe.end() == (expected, "")


@pytest.mark.slow
@pytest.mark.parametrize("rate", [None, 44_100], ids=["wav", "raw"])
def test_transcribe_reads_a_pipe_as_a_file(
    pipeline: ASRInferencePipeline, rate: int | None
) -> None:
    samples = resample(speech(), RATE, rate or 22_050)
    wav = io.BytesIO()
    soundfile.write(wav, samples.numpy(), rate or 22_050, format="WAV", subtype="PCM_16")
    data = wav.getvalue()
    (expected,) = pipeline.stream_results([data])
    pipe = Pipe(
        *("transcribe", "-", *MODEL, "--format", "json"),
        *(("--raw-rate", str(rate)) if rate else ()),
    )
    pipe.feed(data[44:] if rate else data, pause_secs=0.005)
    lines, _ = pipe.end()
    record = json.loads("\n".join(lines))
    assert record["text"] == expected.text
    assert record["duration"] == pytest.approx(expected.duration, abs=1e-3)
    assert expected.text


@pytest.mark.slow
def test_ctrl_c_ends_live_with_what_was_said_last(pipeline: ASRInferencePipeline) -> None:
    data, num_settled = _cut_within_speech(pipeline, to_pcm(speech()))
    *settled, last = spoken(pipeline, data)
    assert len(settled) == num_settled > 0
    pipe = Pipe("live", *MODEL, "--update-seconds", "3600")
    pipe.feed(data)
    assert [pipe.line() for _ in settled] == settled
    pipe.wait_until_idle()
    pipe.process.send_signal(signal.SIGINT)
    assert pipe.end() == ([last], "")


@pytest.mark.parametrize(("num_interrupts", "code"), [(1, 0), (2, 130)])
def test_an_interrupted_utterance_is_not_lost(
    pipeline: ASRInferencePipeline, tmp_path: Path, num_interrupts: int, code: int
) -> None:
    """Ctrl-C while it is recognised lets it be completed, a second one does not."""
    data = to_pcm(speech())
    args = ["live", *MODEL, "--update-seconds", "3600", "--threads", "1"]
    process = CONTEXT.Process(target=_interrupted, args=(args, tmp_path, data, num_interrupts))
    process.start()
    process.join(TIMEOUT_SECS)
    assert process.exitcode == code
    first, *rest = (tmp_path / "stdout").read_text().splitlines() or [""]
    assert first == ("" if code else spoken(pipeline, data)[0])
    assert len(rest) <= 1, "what the pipe held"
    assert without_notice((tmp_path / "stderr").read_text()) == ""


def _interrupted(args: list[str], folder: Path, data: bytes, num_interrupts: int) -> None:
    """Be the program, which is interrupted while it recognises an utterance, and hears no end."""
    reader, writer = os.pipe()
    sys.stdin = os.fdopen(reader)
    Thread(target=os.write, args=(writer, data), daemon=True).start()
    write, interrupts = ClipScribe.write, iter(range(num_interrupts))

    def interrupted(scribe: ClipScribe, clips: list[Clip]) -> list[Written]:
        written = write(scribe, clips)
        has_text = any(isinstance(one, Segment) and one.text for one in written)
        for _ in interrupts if has_text else ():
            signal.raise_signal(signal.SIGINT)
        return written

    setattr(ClipScribe, "write", interrupted)  # noqa: B010
    signal.signal(signal.SIGINT, signal.default_int_handler)
    be_the_program(args, folder, None, {})


def _cut_within_speech(pipeline: ASRInferencePipeline, data: bytes) -> tuple[bytes, int]:
    """Return raw audio up to a piece in which somebody speaks, and how many have ended by then."""
    session = pipeline.live(TranscribeOptions(normalization="causal", update_secs=0.2))
    size = round(2 * PIECE_SECS * RATE)
    for end in range(size, len(data), size):
        (piece,) = stream_audio(RawPcm(io.BytesIO(data[end - size : end]), RATE))
        is_speech = any(update.tentative for update in session.feed(piece))
        if session.segments and is_speech:
            num_settled = len(session.segments)
            if len(spoken(pipeline, data[:end])) > num_settled:
                return data[:end], num_settled
    raise AssertionError("nobody speaks")


@pytest.mark.slow
@pytest.mark.parametrize("command", [("live",), ("transcribe", "-")], ids=["live", "transcribe"])
def test_empty_input_is_one_sentence(command: tuple[str, ...]) -> None:
    lines, err = Pipe(*command, *MODEL).end(code=1)
    assert lines == []
    (sentence,) = err.strip().splitlines()
    assert sentence.startswith("error: ")
    assert "<stdin>" in sentence


@pytest.mark.slow
@pytest.mark.parametrize("command", ["live", "transcribe"])
def test_a_reader_that_leaves_is_no_error(command: str) -> None:
    more: tuple[str | Path, ...] = (*CLIPS, "--batch-seconds", "1")
    line = shlex.join(
        command_of(command, *(more if command == "transcribe" else ()), "--threads", "1")
    )
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{line} | head -n 1"],
        input=to_pcm(speech()),
        capture_output=True,
        timeout=TIMEOUT_SECS,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(b"\n") == 1
    assert b"Error" not in result.stderr
    assert b"Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llm_asr_lid", "streaming"])
def test_a_minute_of_speech_in_pieces_of_any_size(name: str) -> None:
    audio = load_audio(MINI / "audio/sonnet.ogg")
    assert len(audio) > 50 * RATE
    pipeline = create_pipeline(name)
    results = [run(pipeline, audio, round(secs * RATE), options()) for secs in (0.02, 0.1, 1.0)]
    updates, text = results[0]
    assert len(text) > 100
    assert sum(bool(update.segments) for update in updates) > 5
    assert results[1:] == results[:1] * 2
