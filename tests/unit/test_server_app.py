"""The server around the transcriptions: keys, limits, clients that leave, and what it counts."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Message

from tests.servers import MODEL, TRANSCRIPTIONS, clip, events_of, serving, shared_pipeline, talk
from tests.unit.test_server_transcriptions import INVALID, error_of, post, sum_of
from wavellama.errors import ConfigError
from wavellama.pipeline.jobs import Clip
from wavellama.pipeline.options import TranscribeOptions
from wavellama.pipeline.scribes import ClipScribe, ClipWriting, Written
from wavellama.server.scheduler import Client, Scheduler
from wavellama.server.state import ServerConfig

KEY = "s3cret-\u00e4"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(max_upload_mb=0.5, cors=("https://here.example",)) as client:
        yield client


def test_health_models_and_languages(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    listed = client.get("/v1/models").json()
    (record,) = listed["data"]
    assert listed["object"] == "list"
    assert record == client.get(f"/v1/models/{MODEL}").json()
    assert (record["id"], record["object"], record["num_beams"]) == (MODEL, "model", 2)
    assert type(record["created"]) is int
    missing = client.get("/v1/models/whisper-1")
    assert error_of(missing) == (404, INVALID, "model", "model_not_found")
    rows = client.get("/v1/languages").json()["data"]
    german = {"code": "deu_Latn", "name": "German", "short": "de", "script": "Latin"}
    assert german in rows


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", TRANSCRIPTIONS, 405), ("GET", "/../etc/passwd", 404)],
)
def test_what_is_not_there_is_in_the_envelope(
    client: TestClient, method: str, path: str, status: int
) -> None:
    assert error_of(client.request(method, path)) == (status, INVALID, None, None)


# Keys


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/v1/models", "/v1/languages", TRANSCRIPTIONS, "/nothing"]
)
def test_nothing_but_health_answers_without_a_key(path: str) -> None:
    basic = base64.b64encode(f"me:{KEY}".encode()).decode()
    good = [f"Bearer {KEY}", "Bearer other", f"Basic {basic}"]
    bad = ["", "Bearer", "Bearer wrong", f"Bearer {KEY[:-1]}", "Basic ?", "Basic YQ=="]
    with serving(api_keys=(KEY, "other")) as client:
        assert client.get("/health").status_code == 200
        for value in bad:
            reply = client.get(path, headers={b"Authorization": value.encode()})
            assert error_of(reply) == (401, INVALID, None, "invalid_api_key")
            assert KEY not in reply.text
        for value in good:
            reply = client.get(path, headers={b"Authorization": value.encode()})
            assert reply.status_code in (200, 404, 405)
        assert client.get(path, headers={"X-API-Key": "other"}).status_code != 401
        assert client.get(f"{path}?api_key={KEY}").status_code == 401, "addresses are logged"


def test_pages_of_other_origins_may_ask_if_they_are_named(client: TestClient) -> None:
    for origin, allowed in (("https://here.example", True), ("https://there.example", False)):
        reply = post_from(client, origin)
        assert (reply.headers.get("access-control-allow-origin") == origin) == allowed


def post_from(client: TestClient, origin: str) -> Any:
    return client.post(TRANSCRIPTIONS, headers={"Origin": origin})


# Limits


def test_a_body_that_is_too_large_is_refused_before_and_while_it_is_read(
    client: TestClient,
) -> None:
    reply = post(client, bytes(600_000))
    assert error_of(reply) == (413, INVALID, "file", "file_too_large")

    def pieces() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(100):
            yield bytes(100_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    reply = client.post(TRANSCRIPTIONS, content=pieces(), headers=headers)
    assert error_of(reply) == (413, INVALID, "file", "file_too_large")
    assert "content-length" not in reply.request.headers


@pytest.mark.parametrize("length", ["-1", "1e9", "99999999999999999999999", "\u0663"])
def test_odd_content_lengths(client: TestClient, length: str) -> None:
    headers = {b"Content-Length": length.encode()}
    reply = client.post(TRANSCRIPTIONS, content=b"x", headers=headers)
    assert error_of(reply)[0] in (400, 413)


async def _upload(app: Any, pause: float) -> list[Message]:
    """Send the half of a form, and the rest after a pause; return what was answered."""
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    bodies: list[Message] = [
        {"type": "http.request", "body": head + clip(), "more_body": True},
        {"type": "http.request", "body": b"\r\n--x--"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        if len(bodies) == 1:
            await asyncio.sleep(pause)
        return bodies.pop(0) if bodies else await _never()

    async def send(message: Message) -> None:
        sent.append(message)

    await app(_scope("multipart/form-data; boundary=x"), receive, send)
    return sent


def _scope(content_type: str) -> dict[str, Any]:
    """Return what a request's head says."""
    headers = [(b"content-type", content_type.encode())]
    scope = {"type": "http", "method": "POST", "path": TRANSCRIPTIONS, "headers": headers}
    return {**scope, "query_string": b"", "http_version": "1.1", "state": {}}


async def _never() -> Message:
    await asyncio.sleep(60)
    return {"type": "http.disconnect"}


def test_a_body_may_take_its_time_but_not_for_ever(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wavellama.server.uploads.PATIENCE_SECS", 1.0)
    monkeypatch.setattr("wavellama.server.uploads.MIN_BYTES_PER_SEC", len(clip()) / 60)
    slow, *_ = asyncio.run(_upload(client.app, 1.2))
    assert slow["status"] == 200
    monkeypatch.setattr("wavellama.server.uploads.MIN_BYTES_PER_SEC", 1000 * len(clip()))
    stalled, body = asyncio.run(_upload(client.app, 5))
    assert stalled["status"] == 408
    assert b"request_timeout" in body["body"]
    assert sum_of(client.get("/metrics").text, "wavellama_requests_running ") == 0


@pytest.mark.parametrize("limits", [{"max_queue": 0}, {"max_upload_mb": 0.0}])
def test_limits_of_nothing_are_refused(limits: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(limits))):
        ServerConfig(**limits)


@contextmanager
def held_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Event, Event, list[int]]]:
    """Let the model wait: yields what it sets when it is asked, what frees it, and its batches."""
    start, busy, free, sizes = ClipScribe.start, Event(), Event(), list[int]()

    def held(scribe: ClipScribe, rows: list[Any]) -> ClipWriting | None:
        busy.set()
        assert free.wait(60)
        sizes.append(len(rows))
        return start(scribe, rows)

    monkeypatch.setattr(ClipScribe, "start", held)
    try:
        yield busy, free, sizes
    finally:
        free.set()


def test_too_many_requests_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        serving(max_queue=2) as client,
        ThreadPoolExecutor(2) as pool,
        held_model(monkeypatch) as (busy, free, _),
    ):
        first = [pool.submit(post, client) for _ in range(2)]
        assert busy.wait(60)
        while sum_of(client.get("/metrics").text, "wavellama_requests_running ") < 2:
            time.sleep(0.01)
        reply = post(client)
        assert error_of(reply) == (429, "rate_limit_error", None, "rate_limit_exceeded")
        assert (reply.headers["Retry-After"], reply.headers["x-should-retry"]) == ("2", "true")
        free.set()
        assert [one.result().status_code for one in first] == [200, 200]
        assert post(client).status_code == 200


def test_a_bug_is_an_error_without_a_stack_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: Any) -> Any:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(ClipScribe, "start", bug)
    with serving() as client:
        for form in ({}, {"stream": "true"}):
            reply = post(client, form=form)
            assert error_of(reply) == (500, "server_error", None, None)
            assert reply.headers["x-should-retry"] == "false"
            assert "secret" not in reply.text
        monkeypatch.undo()
        assert post(client).status_code == 200


# Clients that leave


async def _leave(app: Any, form: bytes, content_type: str, when: Event) -> list[Message]:
    """Send a request, and leave as soon as an event is set; return what was answered."""
    sent: list[Message] = []
    bodies = [{"type": "http.request", "body": form}]

    async def receive() -> Message:
        if bodies:
            return bodies.pop()
        await asyncio.to_thread(when.wait, 60)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(_scope(content_type), receive, send)
    return sent


def noted_drop(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Return what is set when a client has been dropped."""
    drop, dropped = Scheduler.drop, Event()

    def noted(scheduler: Scheduler, client: Client) -> None:
        drop(scheduler, client)
        dropped.set()

    monkeypatch.setattr(Scheduler, "drop", noted)
    return dropped


@pytest.mark.parametrize("stream", ["false", "true"])
def test_the_work_of_a_client_that_leaves_is_dropped(
    monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    with serving(batch_secs=3.0) as client, held_model(monkeypatch) as (busy, free, sizes):
        form = {"chunk_secs": "2", "stream": stream, "vad": "true"}
        request = client.build_request(
            "POST", TRANSCRIPTIONS, data=form, files={"file": ("a.wav", talk())}
        )
        dropped = noted_drop(monkeypatch)
        monkeypatch.setattr("wavellama.server.transcriptions.PING_SECS", 0.05)
        leaving = _leave(client.app, request.read(), request.headers["content-type"], busy)
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(asyncio.run, leaving)
            assert busy.wait(60)
            assert dropped.wait(60)
            free.set()
            done.result(60)
        assert sum(sizes) <= 2, "what was in the model then is all"
        assert sum_of(client.get("/metrics").text, "wavellama_requests_waiting ") == 0
        assert sum_of(client.get("/metrics").text, "wavellama_requests_running ") == 0


@pytest.mark.parametrize("stream", ["false", "true"])
def test_a_text_whose_client_leaves_is_not_written_to_its_end(
    monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    step, third, num_steps = ClipWriting.step, Event(), 0

    def counted(writing: ClipWriting) -> list[tuple[Clip, Written]]:
        nonlocal num_steps
        num_steps += 1
        if num_steps == 3:
            third.set()
            assert dropped.wait(60)
        return step(writing)

    with serving() as client:
        form = {"stream": stream, "no_speech_threshold": "1"}
        request = client.build_request("POST", TRANSCRIPTIONS, data=form, files={"file": clip()})
        body, kind = request.read(), request.headers["content-type"]
        monkeypatch.setattr(ClipWriting, "step", counted)
        dropped = noted_drop(monkeypatch)
        monkeypatch.setattr("wavellama.server.transcriptions.PING_SECS", 0.05)
        asyncio.run(_leave(client.app, body, kind, third))
        assert num_steps == 3, "the step in which the client left is the last one"
        assert post(client, form={"no_speech_threshold": "1"}).status_code == 200
        assert num_steps > 8, "the text has more steps"


def test_a_client_that_does_not_read_its_stream_holds_no_place(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wavellama.server.transcriptions.STALLED_SECS", 0.2)
    form = {"stream": "true", "no_speech_threshold": "1"}
    request = client.build_request("POST", TRANSCRIPTIONS, data=form, files={"file": clip()})
    bodies = [{"type": "http.request", "body": request.read()}]

    async def receive() -> Message:
        return bodies.pop() if bodies else await _never()

    async def send(message: Message) -> None:
        await asyncio.sleep(60 if message.get("body") else 0)

    begin = time.monotonic()
    asked: Any = client.app(_scope(request.headers["content-type"]), receive, send)
    asyncio.run(asked)
    assert time.monotonic() - begin < 30
    assert sum_of(client.get("/metrics").text, "wavellama_requests_running ") == 0


def test_a_client_that_leaves_within_its_upload(client: TestClient) -> None:
    gone = Event()
    gone.set()
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'

    async def leave() -> list[Message]:
        messages: list[Message] = [
            {"type": "http.disconnect"},
            {"type": "http.request", "body": head, "more_body": True},
        ]
        sent: list[Message] = []

        async def receive() -> Message:
            return messages.pop()

        async def send(message: Message) -> None:
            sent.append(message)

        await client.app(_scope("multipart/form-data; boundary=x"), receive, send)
        return sent

    first, *_ = asyncio.run(leave())
    assert first["status"] == 499
    assert sum_of(client.get("/metrics").text, "wavellama_requests_running ") == 0


def test_nothing_stays_in_the_folder_of_temporary_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with serving() as client:
        large = clip(40.0)
        assert len(large) > 1_000_000
        assert post(client, large).status_code == 200
        assert post(client, large[:1_200_000] + b"?").status_code in (200, 400)
        assert post(client, bytes(2_000_000)).status_code == 400
    assert list(tmp_path.iterdir()) == []


# Counting


def test_metrics_count_requests_audio_and_tokens() -> None:
    with serving() as client:
        post(client, clip(0.5))
        events_of(post(client, clip(0.5, 1), {"stream": "true"}).text)
        post(client, b"bad")
        client.get("/nothing")
        text = client.get("/metrics").text
    requests = f'endpoint="{TRANSCRIPTIONS}",model="{MODEL}",status='
    assert sum_of(text, f'wavellama_requests_total{{{requests}"200"') == 2
    assert sum_of(text, f'wavellama_requests_total{{{requests}"400"') == 1
    assert sum_of(text, 'wavellama_requests_total{endpoint="other"') == 1
    assert sum_of(text, "wavellama_audio_seconds_total") == pytest.approx(1.0)
    chosen = TranscribeOptions(no_speech_threshold=1.0)
    (first, second) = shared_pipeline().stream_results([clip(0.5), clip(0.5, 1)], chosen)
    num_tokens = sum(len(one.tokens) for t in (first, second) for one in t.segments)
    assert sum_of(text, "wavellama_tokens_generated_total") == num_tokens
    assert sum_of(text, "wavellama_real_time_factor_count") == 2
    assert sum_of(text, "wavellama_time_to_first_text_seconds_count") == 1
