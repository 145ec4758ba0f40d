"""The real server, and the clients that people point at it."""

from __future__ import annotations

import asyncio
import base64
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import openai
import pytest
import torch
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.e2e.runs import command_of, run_cli, write_golden_model
from tests.servers import clip, talk, wav
from tests.unit.test_pipeline_inference import RATE
from tests.unit.test_pipeline_live import speech
from wavellama import ASRInferencePipeline, TranscribeOptions, Transcript

pytestmark = pytest.mark.slow

CARD: Final = "my_lid"
KEY: Final = "k3y-of-a-test"
START_SECS: Final = 120


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cards")
    write_golden_model(folder, CARD)
    return folder


class Server:
    """The program."""

    def __init__(self, cards: Path, *args: str) -> None:
        self.cards = cards
        command = command_of("serve", "--model", CARD, "--port", "0", "--threads", "1", *args)
        environment = {**os.environ, "FAIRSEQ2_USER_ASSET_DIR": str(cards), "OMP_NUM_THREADS": "1"}
        environment |= {"TMPDIR": str(cards / "tmp"), "WAVELLAMA_API_KEY": KEY}
        (cards / "tmp").mkdir(exist_ok=True)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdout=pipe, stderr=pipe, env=environment, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(f"{CARD} is ready: http"), self.end()
        self.url = line.split()[3].removesuffix("/v1")
        self.port = int(self.url.rpartition(":")[2])

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """End it; return its exit code, and what it wrote."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=START_SECS)
        return self.process.returncode, out, err

    def memory_mib(self) -> float:
        """Return how much memory it takes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def temporary_files(self) -> list[str]:
        """Return what it has open in its folder of temporary files, where nothing has a name."""
        links = Path(f"/proc/{self.process.pid}/fd").iterdir()
        folder = str(self.cards / "tmp")
        return [name for name in map(os.readlink, links) if name.startswith(folder)]

    def client(self, **changes: Any) -> openai.OpenAI:
        """Return OpenAI's client."""
        options = {"api_key": KEY, "base_url": f"{self.url}/v1", "max_retries": 0, **changes}
        return openai.OpenAI(**options)

    def send(self, data: bytes) -> socket.socket:
        """Send bytes; return the connection."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=START_SECS)
        connection.sendall(data)
        return connection


def read_metric(server: Server, name: str) -> float:
    text = server.client().get("/../metrics", cast_to=str)
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


@pytest.fixture(scope="module")
def server(cards: Path) -> Iterator[Server]:
    server = Server(cards)
    yield server
    code, _, err = server.end()
    assert (code, err) == (0, "")
    assert list((cards / "tmp").iterdir()) == []


@pytest.fixture(scope="module")
def pipeline(cards: Path) -> ASRInferencePipeline:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRSEQ2_USER_ASSET_DIR", str(cards))
        patch.setattr("fairseq2.runtime.dependency._resolver", None)
        return ASRInferencePipeline(CARD, device="cpu", dtype=torch.float32)


def alone(pipeline: ASRInferencePipeline, data: bytes, **options: Any) -> Transcript:
    """Return what the pipeline alone makes of a file."""
    (transcript,) = pipeline.stream_results([data], TranscribeOptions(**options))
    return transcript


def as_file(data: bytes) -> tuple[str, bytes]:
    return "a.wav", data


# OpenAI's client


def test_openai_reads_all_formats(server: Server, pipeline: ASRInferencePipeline) -> None:
    create = server.client().audio.transcriptions.create
    expected = alone(pipeline, talk(), word_timestamps=True, lang="de")
    plain = create(file=as_file(talk()), model=CARD, language="de", include=["logprobs"])
    assert plain.text == alone(pipeline, talk(), lang="de").text
    assert plain.logprobs is not None
    assert plain.usage is not None
    assert plain.usage.type == "duration"
    verbose = create(
        file=as_file(talk()),
        model=CARD,
        language="de",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert verbose.language == "deu_Latn"
    assert verbose.segments is not None
    assert verbose.words is not None
    assert [one.text for one in verbose.segments] == [one.text for one in expected.segments]
    words = [word.text for segment in expected.segments for word in segment.words]
    assert [word.word for word in verbose.words] == words
    srt = create(file=as_file(talk()), model=CARD, response_format="srt")
    assert isinstance(srt, str)
    assert "-->" in srt


def test_openai_reads_streams(server: Server, pipeline: ASRInferencePipeline) -> None:
    stream = server.client().audio.transcriptions.create(
        file=as_file(talk()), model=CARD, stream=True, extra_body={"chunk_secs": 3}
    )
    *deltas, done = stream
    assert done.type == "transcript.text.done"
    text = "".join(event.delta for event in deltas if event.type == "transcript.text.delta")
    assert text == done.text == alone(pipeline, talk(), chunk_secs=3.0).text


def test_openai_asks_many_at_a_time(server: Server, pipeline: ASRInferencePipeline) -> None:
    async def ask() -> list[str]:
        options = {"api_key": KEY, "base_url": f"{server.url}/v1", "max_retries": 0}
        async with openai.AsyncOpenAI(**options) as client:  # type: ignore[arg-type]
            create = client.audio.transcriptions.create
            files = [as_file(talk(1.5 + 0.5 * i)) for i in range(8)]
            replies = await asyncio.gather(*(create(file=file, model=CARD) for file in files))
        return [reply.text for reply in replies]

    texts = [alone(pipeline, talk(1.5 + 0.5 * i)).text for i in range(8)]
    assert asyncio.run(ask()) == texts


def test_openai_knows_the_errors(server: Server) -> None:
    create = server.client().audio.transcriptions.create
    with pytest.raises(openai.NotFoundError) as missing:
        create(file=as_file(clip()), model="whisper-1")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as bad:
        create(file=as_file(b"no audio"), model=CARD)
    assert bad.value.code == "invalid_audio"
    with pytest.deprecated_call(), pytest.raises(openai.BadRequestError) as refused:
        server.client().audio.translations.create(file=as_file(clip()), model=CARD)
    assert refused.value.code == "unsupported_value"
    with pytest.raises(openai.AuthenticationError) as stranger:
        server.client(api_key="wrong").models.list()
    assert stranger.value.code == "invalid_api_key"
    assert [model.id for model in server.client().models.list()] == [CARD]
    assert server.client().models.retrieve(CARD).owned_by == "wavellama"


def test_the_example_prints_the_text(
    server: Server, pipeline: ASRInferencePipeline, tmp_path: Path
) -> None:
    (tmp_path / "talk.wav").write_bytes(talk())
    example = Path(__file__).parents[2] / "examples" / "ask_server.py"
    shown = subprocess.run(
        [sys.executable, example, tmp_path / "talk.wav", server.url, "de"],
        env={**os.environ, "WAVELLAMA_API_KEY": KEY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == f"{alone(pipeline, talk(), lang='de').text}\n"


def test_openai_listens(server: Server) -> None:
    audio = {
        "format": {"type": "audio/pcm", "rate": 24_000},
        "turn_detection": None,
        "transcription": {"model": CARD, "language": "de"},
    }
    session: Any = {"type": "transcription", "audio": {"input": audio}}
    with server.client().realtime.connect(
        model=CARD, extra_query={"intent": "transcription"}
    ) as talk:
        assert talk.recv().type == "session.created"
        talk.session.update(session=session)
        assert talk.recv().type == "session.updated"
        samples = np.repeat(speech()[: 2 * RATE].numpy(), 3)[::2]
        data = (samples * 32_767).astype("<i2").tobytes()
        for begin in range(0, len(data), 4_800):
            piece = base64.b64encode(data[begin : begin + 4_800]).decode()
            talk.input_audio_buffer.append(audio=piece)
        talk.input_audio_buffer.commit()
        deltas = ""
        for event in talk:
            if event.type == "conversation.item.input_audio_transcription.delta":
                deltas += event.delta or ""
            if event.type == "conversation.item.input_audio_transcription.completed":
                break
        assert event.type == "conversation.item.input_audio_transcription.completed"
        assert event.transcript == deltas
        assert deltas


def listening(server: Server) -> socket.socket:
    """Return the connection of a websocket that has been opened."""
    connection = server.send(
        b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        + f"Authorization: Bearer {KEY}\r\n\r\n".encode()
    )
    assert connection.recv(4096).startswith(b"HTTP/1.1 101")
    return connection


def test_clients_that_vanish_while_they_speak_cost_nobody_else(server: Server) -> None:
    for _ in range(5):
        with listening(server) as connection:
            connection.sendall(os.urandom(500))
    deadline = time.monotonic() + START_SECS
    while read_metric(server, "wavellama_websocket_connections_active"):
        assert time.monotonic() < deadline
    assert server.client().audio.transcriptions.create(file=as_file(talk(2.0)), model=CARD).text


@pytest.mark.parametrize("frame", [b"\x81\x82\0\0\0\0\xff\xfe", b"\x81\x02ab", b"\xf3\x80\0\0\0\0"])
def test_frames_that_are_none_end_their_session_and_are_not_logged(
    server: Server, frame: bytes
) -> None:
    with listening(server) as connection:
        connection.sendall(frame)
        received = b""
        while more := connection.recv(65_536):
            received += more
    assert b"Traceback" not in received
    assert server.client().models.list().data


def test_a_message_beyond_measure_ends_its_session_alone(server: Server) -> None:
    url = f"ws://127.0.0.1:{server.port}/v1/realtime?api_key={KEY}"
    with connect(url) as good, connect(url) as bad:
        assert "session.created" in str(bad.recv())
        with suppress(ConnectionClosed):
            bad.send("x" * (17 * 2**20))
        with pytest.raises(ConnectionClosed) as closed:
            bad.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        assert "session.created" in str(good.recv())
        good.send('{"type": "input_audio_buffer.clear"}')
        assert "input_audio_buffer.cleared" in str(good.recv())


# Clients that misbehave

HEAD: Final = (
    f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    "Content-Type: multipart/form-data; boundary=x\r\n"
).encode()

STREAM: Final = b'--x\r\nContent-Disposition: form-data; name="stream"\r\n\r\ntrue\r\n'

PART: Final = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'


def test_clients_that_vanish_cost_nobody_else(server: Server) -> None:
    length = len(PART) + len(talk()) + 7
    whole = HEAD + f"Content-Length: {length}\r\n\r\n".encode() + PART + talk() + b"\r\n--x--"
    stream = STREAM + PART
    length = len(stream) + len(talk()) + 7
    heard = HEAD + f"Content-Length: {length}\r\n\r\n".encode() + stream + talk() + b"\r\n--x--"
    cut = [whole[:size] for size in (10, len(HEAD), len(HEAD) + 200, len(whole) // 2, len(whole))]
    for data in [*cut, heard]:
        connection = server.send(data)
        if data is heard:
            assert connection.recv(20).startswith(b"HTTP/1.1 200")
        # As kill -9 does: what was received and not read makes the end a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    assert server.client().audio.transcriptions.create(file=as_file(talk(2.0)), model=CARD).text
    deadline = time.monotonic() + START_SECS
    while read_metric(server, "wavellama_requests_running"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


CLIENT: Final = """
import base64, io, sys, time
from openai import OpenAI

class Slow(io.BytesIO):
    def read(self, size=-1):
        print(self.tell(), flush=True)
        time.sleep(0.02)
        return super().read(size)

what, url, key, path = sys.argv[1:]
data = open(path, "rb").read()
client = OpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0)
create = client.audio.transcriptions.create
if what == "upload":
    create(file=("a.wav", Slow(data)), model="my_lid")
elif what == "wait":
    print("asking", flush=True)
    create(file=("a.wav", data), model="my_lid")
elif what == "stream":
    own = {"chunk_secs": 2}
    for event in create(file=("a.wav", data), model="my_lid", stream=True, extra_body=own):
        print(event.type, flush=True)
else:
    with client.realtime.connect(model="my_lid") as talk:
        for begin in range(44, len(data), 3200):
            piece = base64.b64encode(data[begin : begin + 3200]).decode()
            talk.input_audio_buffer.append(audio=piece)
            print(begin, flush=True)
"""


@pytest.mark.parametrize(
    ("what", "num_lines"), [("upload", 30), ("wait", 1), ("stream", 2), ("live", 40)]
)
def test_clients_that_are_killed_leave_nothing(
    server: Server, tmp_path: Path, what: str, num_lines: int
) -> None:
    path = tmp_path / "long.wav"
    path.write_bytes(wav(np.tile(speech()[: 24 * RATE].numpy(), 6)))
    command = [sys.executable, "-c", CLIENT, what, server.url, KEY, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        for _ in range(num_lines):
            assert client.stdout.readline()
        if what == "upload":
            wait_until(lambda: bool(server.temporary_files()))
        if what == "wait":
            wait_until(lambda: bool(read_metric(server, "wavellama_requests_running")))
        client.kill()
    for name in ("requests_running", "requests_waiting", "websocket_connections_active"):
        wait_until(partial(is_zero, server, f"wavellama_{name}"))
    assert server.temporary_files() == []
    assert server.client().audio.transcriptions.create(file=as_file(talk(2.0)), model=CARD).text


def is_zero(server: Server, name: str) -> bool:
    return read_metric(server, name) == 0


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + START_SECS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_odd_requests_get_an_answer_or_none(server: Server) -> None:
    flood = b"".join(b"X-%d: %s\r\n" % (i, b"y" * 1000) for i in range(200))
    odd = [
        HEAD + flood + b"\r\n",
        HEAD + b"Content-Length: 10\r\nContent-Length: 12\r\n\r\n" + bytes(12),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Content-Length: 1000000000\r\n\r\n" + PART,
        b"\0" * 1000,
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    for data in odd:
        with server.send(data) as connection:
            connection.settimeout(10)
            reply = connection.recv(4096)
            assert not reply or reply.split()[1] in (b"400", b"401", b"413", b"431")
            assert b"Traceback" not in reply
    assert server.client().audio.transcriptions.create(file=as_file(talk(2.0)), model=CARD).text


@pytest.mark.parametrize("length", ["Content-Length: 1000000000", "Transfer-Encoding: chunked"])
def test_a_gigabyte_is_refused_early_and_held_nowhere(server: Server, length: str) -> None:
    before = server.memory_mib()

    def frame(data: bytes) -> bytes:
        return b"%x\r\n%s\r\n" % (len(data), data) if "chunked" in length else data

    piece, num_sent = frame(bytes(2**20)), 0
    with server.send(HEAD + length.encode() + b"\r\n\r\n" + frame(PART)) as connection:
        while not select.select([connection], [], [], 0)[0]:
            connection.sendall(piece)
            num_sent += 1
            assert num_sent < 200
        assert b" 413 " in connection.recv(4096)
        with suppress(ConnectionError):  # the server may hang up, or read on
            for _ in range(300):
                connection.sendall(piece)
    assert server.memory_mib() - before < 60


def test_a_slow_upload_holds_nobody_up(server: Server) -> None:
    length = len(PART) + len(clip()) + 7
    with server.send(HEAD + f"Content-Length: {length}\r\n\r\n".encode() + PART) as connection:
        assert server.client().audio.transcriptions.create(file=as_file(talk(2.0)), model=CARD).text
        connection.sendall(clip() + b"\r\n--x--")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


# Beginning and end


def test_what_is_in_work_is_answered_before_the_end(cards: Path) -> None:
    server = Server(cards, "--max-upload-mb", "100")
    with ThreadPoolExecutor(1) as pool:
        create = server.client(timeout=300).audio.transcriptions.create
        long = wav(np.tile(speech()[: 24 * RATE].numpy(), 4))
        asked = pool.submit(create, file=as_file(long), model=CARD)
        while not int(read_metric(server, "wavellama_requests_running")):
            time.sleep(0.02)
        code, out, err = server.end()
        assert asked.result(1).text
    assert (code, out, err) == (0, "", "")
    with pytest.raises(openai.APIConnectionError):
        server.client().models.list()


def test_a_port_that_is_taken_is_one_sentence(server: Server) -> None:
    result = run_cli(
        *("serve", "--model", CARD, "--port", str(server.port)),
        env={"FAIRSEQ2_USER_ASSET_DIR": str(server.cards)},
    )
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: Nothing can listen at 127.0.0.1, port {server.port}")


def test_the_page_is_served_over_tls(cards: Path, tmp_path: Path) -> None:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    made = subprocess.run(
        [*command.split(), "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("openssl cannot be run")
    files = ("--ssl-certfile", f"{tmp_path}/cert.pem", "--ssl-keyfile", f"{tmp_path}/key.pem")
    server = Server(cards, *files)
    context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    with (
        server.send(b"") as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert server.end()[0] == 0
