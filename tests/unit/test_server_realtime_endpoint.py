"""``/v1/realtime`` in this process: the order of events, both forms, all formats of audio."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from torchaudio.functional import resample

from tests.servers import MODEL, clip, serving, wav
from tests.servers import talk as talk_file
from tests.unit.test_pipeline_inference import RATE, create_pipeline
from tests.unit.test_pipeline_live import speech
from tests.unit.test_server_app import held_model
from tests.unit.test_server_transcriptions import alone, post, sum_of
from wavellama.server.realtime.settings import TENTATIVE

URL: Final = f"/v1/realtime?model={MODEL}&intent=transcription"

ITEM: Final = "conversation.item.input_audio_transcription"

BETA: Final = {"OpenAI-Beta": "realtime=v1"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving() as client:
        yield client


class Talk:
    """A websocket; what was received is read until an event of some type."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send_json({"type": kind, **fields})

    def update(self, **fields: Any) -> dict[str, Any]:
        """Change the audio's settings; return what the session is then."""
        self.send("session.update", session={"type": "transcription", "audio": {"input": fields}})
        event = self.read("session.updated", "error")[-1]
        return dict(event.get("session") or event)

    def say(self, data: bytes, piece: int = 9_600) -> None:
        """Send audio in pieces."""
        for begin in range(0, len(data), piece):
            text = base64.b64encode(data[begin : begin + piece]).decode()
            self.send("input_audio_buffer.append", audio=text)

    def read(self, *kinds: str) -> list[dict[str, Any]]:
        """Return all events up to one of some types."""
        events: list[dict[str, Any]] = []
        while not events or events[-1]["type"] not in kinds:
            events.append(self.socket.receive_json())
        ids = [event["event_id"] for event in events]
        assert len(set(ids)) == len(ids)
        return events

    def rest(self) -> list[dict[str, Any]]:
        """Return all events that are still to come."""
        self.send("input_audio_buffer.clear")
        return self.read("input_audio_buffer.cleared")[:-1]


@contextmanager
def talking(client: TestClient, url: str = URL, **kwargs: Any) -> Iterator[Talk]:
    with client.websocket_connect(url, **kwargs) as socket:
        yield Talk(socket)


def pcm(samples: torch.Tensor, rate: int = 24_000) -> bytes:
    """Return samples as raw audio of a rate."""
    converted = resample(samples, RATE, rate)
    return bytes((converted * 32_767).clamp(-32_768, 32_767).to(torch.int16).numpy().tobytes())


def words_of(kinds: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in kinds]


def id_of(event: dict[str, Any]) -> str | None:
    """Return which item an event is about."""
    found = event.get("item_id") or event.get("item", {}).get("id")
    return None if found is None else str(found)


# What a session is told


def test_a_session_begins_and_only_what_is_said_changes(client: TestClient) -> None:
    with talking(client) as talk:
        (created,) = talk.read("session.created")
        first = created["session"]
        assert first["object"] == "realtime.transcription_session"
        assert first["id"].startswith("sess_")
        assert first["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24_000}
        assert first["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 500
        changed = talk.update(turn_detection={"threshold": 0.6}, transcription={"language": "de"})
        expected = {**first["audio"]["input"]["turn_detection"], "threshold": 0.6}
        assert changed["audio"]["input"]["turn_detection"] == expected
        assert changed["audio"]["input"]["transcription"] == {"model": MODEL, "language": "de"}
        off = talk.update(turn_detection=None)
        assert off["audio"]["input"]["turn_detection"] is None
        assert off["audio"]["input"]["transcription"] == {"model": MODEL, "language": "de"}
        assert off["id"] == first["id"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"format": {"type": "audio/mp3"}}, "format.type"),
        ({"format": {"type": "audio/pcm", "rate": 7}}, "format.rate"),
        ({"format": 3}, "format"),
        ({"turn_detection": {"type": "magic"}}, "turn_detection.type"),
        ({"turn_detection": {"threshold": "loud"}}, "turn_detection.threshold"),
        ({"turn_detection": {"threshold": 0}}, "turn_detection.threshold"),
        ({"turn_detection": {"silence_duration_ms": 1}}, "turn_detection.silence_duration_ms"),
        ({"transcription": {"language": "klingonese"}}, "language"),
        ({"transcription": {"model": "whisper-1"}}, "model"),
        ({"transcription": {"model": {}}}, "model"),
        ({"transcription": {"language": ["de"]}}, "language"),
        ({"transcription": {"languages": "de"}}, "languages"),
        ({"transcription": {"languages": ["de", 5]}}, "languages"),
        ({"transcription": {"keywords": {"a": 1}}}, "keywords"),
        ({"transcription": {"keywords": ["a" * 20_001]}}, "keywords"),
        ({"turn_detection": {"silence_duration_ms": True}}, "turn_detection.silence_duration_ms"),
        ({"turn_detection": {"unknown": "x" * 100_000}}, "session"),
    ],
)
def test_what_cannot_be_is_an_error_and_changes_nothing(
    client: TestClient, fields: Any, param: str
) -> None:
    with talking(client) as talk:
        (created,) = talk.read("session.created")
        error = talk.update(**fields)["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", param)
        assert talk.update()["audio"] == created["session"]["audio"]


def test_garbage_is_an_error_and_the_session_goes_on(client: TestClient) -> None:
    with talking(client) as talk:
        talk.read("session.created")
        talk.socket.send_text("{")
        talk.socket.send_text("[1]")
        talk.socket.send_bytes(b"\0\1")
        talk.send("response.create", event_id="mine")
        talk.send("session.update", session=7)
        talk.send("session.update", session={"type": "realtime"})
        talk.send("input_audio_buffer.append", audio="?")
        talk.send("input_audio_buffer.append")
        errors = [talk.read("error")[0]["error"] for _ in range(8)]
        assert [error["event_id"] for error in errors] == [None] * 3 + ["mine"] + [None] * 4
        assert all(error["message"] and "Traceback" not in str(error) for error in errors)
        assert talk.update()["type"] == "transcription"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"type": ' + "1" * 5_000 + "}",
        '{"type": "x", "event_id": NaN}',
        '{"type": "x", "event_id": "\\ud800"}',
        '{"type": "x", "event_id": ' + "[" * 300 + "]" * 300 + "}",
        '{"type": "\\ud800"}',
        '{"type": ["session.update"]}',
        '{"type": "session.update", "session": {"include": 5}}',
        '{"type": "session.update", "session": {"audio": {"input": {"transcription": '
        '{"language": "\\ud800"}}}}}',
        '{"type": "session.update", "session": {"audio": {"input": {"turn_detection": '
        '{"threshold": Infinity}}}}}',
        '{"type": "input_audio_buffer.append", "audio": "\\ud800"}',
    ],
)
def test_a_text_that_is_no_event_is_an_error_of_one_line(client: TestClient, text: str) -> None:
    with talking(client) as talk:
        talk.read("session.created")
        talk.socket.send_text(text)
        error = talk.read("error")[0]["error"]
        assert error["type"] == "invalid_request_error"
        assert len(error["message"]) < 300
        changed = talk.update(turn_detection={"unknown": "\U00010000"})
        assert changed["audio"]["input"]["turn_detection"]["unknown"] == "\U00010000"


# Turns


def test_turns_of_a_speaker_come_in_order(client: TestClient) -> None:
    """A second of silence follows each file, which so is a turn or more."""
    audio = speech()[: 12 * RATE]
    with talking(client) as talk:
        talk.read("session.created")
        talk.say(pcm(audio))
        events = talk.rest()
    items = [event["item_id"] for event in events if event["type"].endswith("speech_started")]
    completed = [event for event in events if event["type"] == f"{ITEM}.completed"]
    assert len(items) > 1
    assert [event["item_id"] for event in completed] == items[: len(completed)]
    before = None
    for event in completed:
        own = [one for one in events if event["item_id"] == id_of(one)]
        kinds = [kind for kind in words_of(own) if kind != f"{ITEM}.delta"]
        assert kinds == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            f"{ITEM}.completed",
        ]
        start, stop, committed, added, *_ = (one for one in own if "delta" not in one)
        assert 0 <= start["audio_start_ms"] < stop["audio_end_ms"] <= 12_000
        assert committed["previous_item_id"] == before
        assert added["item"]["content"] == [{"type": "input_audio", "transcript": None}]
        deltas = "".join(e["delta"] for e in own if e["type"] == f"{ITEM}.delta")
        assert deltas == event["transcript"]
        assert event["usage"]["seconds"] > 0
        before = event["item_id"]
    assert any(event["transcript"] for event in completed)


def test_pieces_do_not_matter(client: TestClient) -> None:
    texts = []
    for piece in (9_600, 1_001, 200_000):
        with talking(client) as talk:
            talk.read("session.created")
            talk.say(pcm(speech()[: 6 * RATE]), piece)
            events = talk.rest()
        texts.append([event.get("transcript") for event in events if "transcript" in event])
    assert texts[0]
    assert texts[0] == texts[1] == texts[2]


def test_a_commit_ends_the_turn_and_another_one_is_harmless(client: TestClient) -> None:
    with talking(client) as talk:
        talk.read("session.created")
        talk.say(pcm(speech()[:RATE]))
        talk.send("input_audio_buffer.commit")
        events = talk.read(f"{ITEM}.completed", "error")
        assert words_of(events)[:2] == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
        ]
        talk.send("input_audio_buffer.commit", event_id="again")
        error = talk.read("error")[-1]["error"]
        assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "again")
        assert "Expected at least 100ms of audio" in error["message"]
        talk.say(pcm(speech()[2 * RATE : 5 * RATE]))
        talk.send("input_audio_buffer.commit")
        assert talk.read(f"{ITEM}.completed")


def test_tentative_text_comes_on_request_alone(client: TestClient) -> None:
    found = []
    for include in ([], [TENTATIVE]):
        with talking(client) as talk:
            talk.read("session.created")
            talk.send("session.update", session={"include": include})
            talk.read("session.updated")
            talk.say(pcm(speech()[: 4 * RATE]))
            found.append(f"{ITEM}.tentative" in words_of(talk.rest()))
    assert found == [False, True]


def test_a_model_that_streams_tells_text_while_somebody_speaks() -> None:
    with serving(create_pipeline("streaming")) as client, talking(client) as talk:
        talk.read("session.created")
        talk.say(pcm(speech()[: 4 * RATE]))
        kinds = words_of(talk.rest())
    assert kinds.index(f"{ITEM}.delta") < kinds.index("input_audio_buffer.speech_stopped")


# Without turns


@pytest.mark.parametrize("rate", [24_000, 16_000])
def test_what_a_client_commits_has_the_text_of_its_file(client: TestClient, rate: int) -> None:
    samples = speech()[: 2 * RATE]
    with talking(client) as talk:
        talk.read("session.created")
        talk.update(
            format={"type": "audio/pcm", "rate": rate},
            turn_detection=None,
            transcription={"language": "de", "keywords": ["zk"]},
        )
        talk.say(pcm(samples, rate))
        talk.send("input_audio_buffer.commit")
        events = talk.read(f"{ITEM}.completed")
    data = np.frombuffer(pcm(samples, rate), np.int16)
    form = {"language": "de", "keywords[]": "zk"}
    expected = post(client, wav(data, rate), form).json()
    assert events[-1]["transcript"] == expected["text"]
    assert events[-1]["languages"] == expected["languages"] == [{"code": "deu_Latn"}]
    assert words_of(events) == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        f"{ITEM}.delta",
        f"{ITEM}.completed",
    ]


def test_too_little_audio_is_no_item(client: TestClient) -> None:
    with talking(client) as talk:
        talk.read("session.created")
        talk.update(turn_detection=None)
        talk.say(pcm(torch.zeros(RATE // 20)))
        talk.send("input_audio_buffer.commit")
        error = talk.read("error")[-1]["error"]
        assert error["code"] == "input_audio_buffer_commit_empty"
        talk.say(pcm(torch.zeros(RATE)))
        assert talk.rest() == []
        talk.send("input_audio_buffer.commit")
        assert talk.read("error"), "what was cleared is gone"


def test_audio_waits_while_other_things_are_told(client: TestClient) -> None:
    first, second = pcm(speech()[: RATE // 20]), pcm(speech()[RATE // 20 : 2 * RATE])
    with talking(client) as talk:
        talk.read("session.created")
        talk.update(turn_detection=None)
        talk.say(first)
        talk.update(transcription={"language": "de"})
        talk.send("input_audio_buffer.commit")
        assert talk.read("error")
        talk.say(second)
        talk.send("input_audio_buffer.commit")
        completed = talk.read(f"{ITEM}.completed")[-1]
    data = wav(np.frombuffer(first + second, np.int16), 24_000)
    assert completed["transcript"]
    assert completed["transcript"] == post(client, data, {"language": "de"}).json()["text"]


def test_a_tenth_of_a_second_is_enough(client: TestClient) -> None:
    """Though a resampler holds the last of it back."""
    with talking(client) as talk:
        talk.read("session.created")
        talk.update(turn_detection=None)
        talk.say(pcm(speech()[: RATE // 10]))
        talk.send("input_audio_buffer.commit")
        assert talk.read(f"{ITEM}.completed", "error")[-1]["type"] == f"{ITEM}.completed"


def test_more_than_is_held_is_an_error(client: TestClient) -> None:
    with talking(client) as talk:
        talk.read("session.created")
        talk.update(turn_detection=None, format={"rate": 16_000})
        minute = base64.b64encode(bytes(2 * 60 * RATE)).decode()
        for _ in range(6):
            talk.send("input_audio_buffer.append", audio=minute)
        assert talk.read("error")[-1]["error"]["code"] == "input_audio_buffer_full"


def test_without_transcription_only_items_are_told(client: TestClient) -> None:
    with talking(client) as talk:
        talk.read("session.created")
        talk.update(transcription=None)
        talk.say(pcm(speech()[: 6 * RATE]))
        kinds = words_of(talk.rest())
    assert "conversation.item.done" in kinds
    assert not [kind for kind in kinds if kind.startswith(ITEM)]


# The form of the beta


def test_home_assistant_speaks_the_beta(client: TestClient) -> None:
    """16 kHz though it says pcm16, no model in the address, and a commit at the end."""
    with talking(client, "/v1/realtime?intent=transcription&rate=16000", headers=BETA) as talk:
        (created,) = talk.read("transcription_session.created")
        assert created["session"]["input_audio_format"] == "pcm16"
        session = {
            "input_audio_format": "pcm16",
            "input_audio_transcription": {"model": MODEL, "language": "de", "prompt": ""},
            "turn_detection": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 600},
            "input_audio_noise_reduction": {"type": "near_field"},
        }
        talk.send("transcription_session.update", session=session)
        updated = talk.read("transcription_session.updated")[-1]["session"]
        assert updated["input_audio_transcription"]["language"] == "de"
        talk.say(pcm(speech()[: 3 * RATE], 16_000))
        talk.send("input_audio_buffer.commit")
        events = talk.read(f"{ITEM}.completed")
    assert "conversation.item.created" in words_of(events)
    assert events[-1]["transcript"]


# Who may listen


@pytest.mark.parametrize(
    "given",
    [
        {"headers": {"Authorization": "Bearer k"}},
        {"headers": {"X-API-Key": "k"}},
        {"subprotocols": ["realtime", "openai-insecure-api-key.k"]},
        {"query": "&api_key=k"},
    ],
)
def test_keys_are_taken_where_clients_put_them(given: Any) -> None:
    query = given.pop("query", "")
    with serving(api_keys=("k",)) as client:
        with talking(client, URL + query, **given) as talk:
            assert talk.read("session.created")
            assert talk.socket.accepted_subprotocol == (
                "realtime" if "subprotocols" in given else None
            )
        with pytest.raises(WebSocketDisconnect) as refused, talking(client):
            pass
        assert refused.value.code == 1008


def test_unknown_models_and_strange_origins_are_refused(client: TestClient) -> None:
    with talking(client, "/v1/realtime?model=whisper-1") as talk:
        assert talk.read("error")[0]["error"]["code"] == "model_not_found"
        with pytest.raises(WebSocketDisconnect) as refused:
            talk.socket.receive_json()
        assert refused.value.code == 1008
    origin = {"Origin": "https://elsewhere.example"}
    with pytest.raises(WebSocketDisconnect), talking(client, headers=origin):
        pass
    with talking(client, headers={"Origin": "http://testserver"}) as talk:
        talk.read("session.created")


def test_too_many_sessions_are_turned_away() -> None:
    with serving(max_queue=1) as client, talking(client) as first:
        first.read("session.created")
        with talking(client) as talk:
            assert talk.read("error")[0]["error"]["code"] == "rate_limit_exceeded"
        assert sum_of(client.get("/metrics").text, "wavellama_websocket_connections_total") == 2
        assert first.update()["type"] == "transcription"


def test_a_client_that_leaves_while_it_speaks_leaves_nothing(client: TestClient) -> None:
    with talking(client) as talk:
        talk.read("session.created")
        talk.say(pcm(speech()[: 2 * RATE]))
    deadline = time.monotonic() + 30
    while sum_of(client.get("/metrics").text, "wavellama_websocket_connections_active"):
        assert time.monotonic() < deadline
    assert sum_of(client.get("/metrics").text, "wavellama_requests_waiting ") == 0
    assert post(client, clip()).json()["text"] == alone(clip()).text


async def _talk_and_leave(app: Any, texts: list[str], may_leave: Callable[[], bool]) -> None:
    """Send texts, and leave as soon as it may be; returns when the server has noticed it."""
    messages = [{"type": "websocket.receive", "text": text} for text in texts]
    messages.insert(0, {"type": "websocket.connect"})

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        while not may_leave():
            await asyncio.sleep(0.01)
        return {"type": "websocket.disconnect"}

    async def send(message: Any) -> None:
        pass

    await asyncio.wait_for(app({**SCOPE, "state": {}}, receive, send), 30)


SCOPE: Final = {"type": "websocket", "path": "/v1/realtime", "query_string": b"", "headers": []}


@pytest.mark.parametrize("turns", ["null", "{}"])
def test_a_client_that_leaves_is_noticed_while_its_speech_is_in_work_or_waits(
    monkeypatch: pytest.MonkeyPatch, turns: str
) -> None:
    audio = base64.b64encode(pcm(speech()[: 2 * RATE])).decode()
    append = f'{{"type": "input_audio_buffer.append", "audio": "{audio}"}}'
    update = f'{{"audio": {{"input": {{"turn_detection": {turns}}}}}}}'
    texts = [f'{{"type": "session.update", "session": {update}}}', append]
    texts += ['{"type": "input_audio_buffer.commit"}', append]
    with serving() as client, held_model(monkeypatch) as (busy, free, sizes):

        def waiting() -> float:
            return sum_of(client.get("/metrics").text, "wavellama_requests_waiting ")

        asyncio.run(_talk_and_leave(client.app, texts, busy.is_set))
        asyncio.run(_talk_and_leave(client.app, texts, lambda: waiting() == 1))
        assert waiting() == 0
        free.set()
        assert post(client, clip()).json()["text"]
    assert sizes == [1, 1], "the second was never begun"


def test_a_client_that_does_not_read_ends_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavellama.server.realtime.endpoint.STALLED_SECS", 0.2)
    connect = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        return connect.pop() if connect else await asyncio.sleep(60)

    async def send(message: Any) -> None:
        await asyncio.sleep(60 if message["type"] == "websocket.send" else 0)

    with serving() as client:
        talk: Any = client.app({**SCOPE, "state": {}}, receive, send)
        begin = time.monotonic()
        asyncio.run(talk)
        assert time.monotonic() - begin < 30
        assert sum_of(client.get("/metrics").text, "wavellama_websocket_connections_active") == 0


def test_texts_are_those_of_a_session_alone_whoever_else_speaks(client: TestClient) -> None:
    def listen(begin: int) -> list[str]:
        with talking(client) as talk:
            talk.read("session.created")
            talk.say(pcm(speech()[begin * RATE : (begin + 6) * RATE]))
            return [event["transcript"] for event in talk.rest() if "transcript" in event]

    begins = [0, 2, 3]
    expected = [listen(begin) for begin in begins]
    assert all(expected[:2])
    with ThreadPoolExecutor(6) as pool:
        files = [pool.submit(post, client, talk_file(), {"chunk_secs": "2"}) for _ in range(3)]
        assert list(pool.map(listen, begins)) == expected
    (text,) = {file.result().json()["text"] for file in files}
    assert text == alone(talk_file(), chunk_secs=2.0).text
