"""Requests that cost the server a stack trace, or everybody else a wait."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
import torch
from starlette.testclient import TestClient

from tests.servers import serving
from tests.unit.test_pipeline_inference import RATE
from tests.unit.test_pipeline_live import speech
from tests.unit.test_server_realtime_endpoint import talking
from tests.unit.test_server_transcriptions import post
from wavellama.server.realtime.ear import Ear, More, Started
from wavellama.server.realtime.settings import first_record, to_settings

DEEP = "[" * 100_000


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving() as client:
        yield client


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("languages", DEEP),
        ("keywords", DEEP),
        ("timestamp_granularities", DEEP),
        ("include", DEEP),
        ("language", "\0"),
        ("languages[]", "\0"),
        ("audio_track", "\0"),
        ("audio_track", "9" * 5_000),
        ("audio_track", "+-5"),
        ("channel", "-+5"),
    ],
)
def test_values_that_nobody_can_mean_are_refused(
    client: TestClient, field: str, value: str
) -> None:
    reply = post(client, form={field: value, "response_format": "verbose_json"})
    assert reply.status_code == 400, reply.text[:200]
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert len(reply.text) < 10_000, "what was sent is not sent back"


@pytest.mark.parametrize("field", ["language", "audio_track", "script", "model", "temperature"])
def test_texts_of_megabytes_are_refused_before_they_are_looked_at(
    client: TestClient, field: str
) -> None:
    reply = post(client, form={field: "a" * 3_000_000})
    assert reply.status_code in (400, 404)
    assert len(reply.text) < 10_000


def test_a_strategy_that_is_nested_deeply_means_nothing(client: TestClient) -> None:
    assert post(client, form={"chunking_strategy": '{"a":' * 50_000}).status_code == 400


def test_a_rate_of_thousands_of_digits_is_refused(client: TestClient) -> None:
    with talking(client, f"/v1/realtime?rate={'9' * 5_000}") as talk:
        assert talk.read("error")[0]["error"]["type"] == "invalid_request_error"


def test_speech_without_a_pause_is_not_held() -> None:
    turns = {"type": "server_vad", "silence_duration_ms": 60_000}
    record = {**first_record("model", RATE), "turn_detection": turns}
    ear, audio = Ear(to_settings(record), 0), speech()[: 20 * RATE]
    heard = list(ear.hear(base64.b64encode((audio * 32_767).short().numpy().tobytes()).decode()))
    samples = torch.cat([one.samples for one in heard if isinstance(one, Started | More)])
    assert len(samples) > 15 * RATE, "all of it is one turn"
    assert len(ear.take()) < 2 * RATE


@pytest.mark.parametrize("given", ["Basic \u00e4", "Basic YWJj\u00ff", "Basic =", "Basic YQ"])
def test_a_password_that_is_no_base64_is_a_wrong_one(given: str) -> None:
    with serving(api_keys=("k",)) as client:
        headers = {b"Authorization": given.encode("latin-1")}
        assert client.get("/v1/models", headers=headers).status_code == 401
