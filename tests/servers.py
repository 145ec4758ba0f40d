"""A server in this process, with a small random model."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import soundfile
from starlette.testclient import TestClient

from tests.unit.test_pipeline_inference import RATE, create_pipeline, noise
from tests.unit.test_pipeline_live import speech
from wavellama import ASRInferencePipeline, ContextExample
from wavellama.server.app import create_app
from wavellama.server.metrics import Metrics
from wavellama.server.models import ServedModel
from wavellama.server.state import ServerConfig

TRANSCRIPTIONS = "/v1/audio/transcriptions"

MODEL = "toys/lid"


@cache
def shared_pipeline(case: str = "llm_asr_lid") -> ASRInferencePipeline:
    """Return a pipeline that all tests of a file share; do not change it."""
    return create_pipeline(case)


@contextmanager
def serving(
    pipeline: ASRInferencePipeline | None = None,
    batch_secs: float = 60.0,
    more: Mapping[str, ASRInferencePipeline] | None = None,
    examples: Sequence[ContextExample] | None = None,
    **config: Any,
) -> Iterator[TestClient]:
    """Serve a model as long as the block lasts.

    :param more: other models, by their names.
    """
    metrics = Metrics()
    pipelines = {MODEL: pipeline or shared_pipeline(), **(more or {})}
    models = [
        ServedModel(name, each, batch_secs, examples, metrics.on_batch)
        for name, each in pipelines.items()
    ]
    app = create_app(ServerConfig(**config), models, metrics)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    """Return samples as a file."""
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="WAV", subtype="PCM_16")
    return out.getvalue()


@cache
def clip(seconds: float = 0.7, seed: int = 0) -> bytes:
    """Return a file of noise."""
    return wav(noise(seconds, seed))


@cache
def talk(seconds: float = 12.0) -> bytes:
    """Return a file in which a person speaks, with pauses."""
    return wav(speech()[: int(seconds * RATE)].numpy())


def events_of(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream, each of which has its name and one line of data."""
    events = []
    for frame in text.split("\n\n"):
        if not frame or frame.startswith(":"):
            continue
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events
