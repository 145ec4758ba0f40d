"""What cannot be recognised live costs its own utterance, and the session goes on."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.unit.test_pipeline_inference import RATE, create_pipeline, noise
from tests.unit.test_pipeline_live import options, speech
from wavellama.cli import live
from wavellama.cli.main import create_parser
from wavellama.errors import ContextTooLongError, DecodingError
from wavellama.pipeline.live import LiveSession, LiveUpdate


def fail_at(session: LiveSession, call: int, error: Exception) -> None:
    """Let one call of the session's recogniser, counted from 0, raise an error."""
    recogniser: Any = session._listener._scribe._recogniser  # type: ignore[attr-defined]
    recognise: Callable[..., Any] = recogniser.recognise
    calls = iter(range(1000))

    def recognise_or_fail(*args: Any) -> Any:
        if next(calls) == call:
            raise error
        return recognise(*args)

    recogniser.recognise = recognise_or_fail


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DecodingError("The model has produced NaN."), "NaN"),
        (torch.OutOfMemoryError(), "memory is too small"),
        (ContextTooLongError(9, 8), "shorter pieces"),
    ],
)
@pytest.mark.parametrize("name", ["llm_asr_lid", "streaming"])
def test_an_error_costs_one_utterance_and_names_it(
    name: str, error: Exception, reason: str
) -> None:
    pipeline = create_pipeline(name)
    audio = speech()[: 8 * RATE] if name == "llm_asr_lid" else torch.from_numpy(noise(4.0))
    session = pipeline.live(options(update_secs=3600.0))
    fail_at(session, 1, error)
    updates = [*session.feed(audio), session.finish()]
    (failure,) = [failure for update in updates for failure in update.failures]
    assert failure.reason.count(reason) == 1
    begin, end = (float(word) for word in failure.source.split() if word[0].isdigit())
    assert 0.5 < begin < end < 5.0
    kept = [segment for update in updates for segment in update.segments]
    assert all(segment.end <= begin + 0.01 or segment.start >= end - 0.01 for segment in kept)
    assert kept[-1].start >= end - 0.01, "the session goes on"


def test_a_guess_that_fails_is_no_loss() -> None:
    session = create_pipeline().live(options())
    fail_at(session, 0, DecodingError("The model has produced NaN."))
    updates = [*session.feed(speech()[: 4 * RATE]), session.finish()]
    assert updates[0] == LiveUpdate(updates[0].time, (), "")
    assert not any(update.failures for update in updates)
    assert session.text


def test_the_command_line_names_what_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    pipeline, create = create_pipeline(), create_pipeline().live

    def failing(*args: Any, **kwargs: Any) -> LiveSession:
        session = create(*args, **kwargs)
        fail_at(session, 0, DecodingError("The model has produced NaN."))
        return session

    monkeypatch.setattr(pipeline, "live", failing)
    monkeypatch.setattr(live, "create_pipeline", lambda args: pipeline)
    file = tmp_path / "audio.raw"
    file.write_bytes((speech()[: 8 * RATE] * 32767).short().numpy().tobytes())
    with file.open("rb") as stream:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        assert live.run_live(create_parser().parse_args(["live", "--model", "any"])) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) >= 2
    assert err.startswith("error: live audio from ")
    assert len(err.splitlines()) == 1
