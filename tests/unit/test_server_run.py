"""Connections: who is hung up on, and that it costs nobody else and is not logged."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

import pytest
from websockets.sync.client import connect

PROGRAM: Final = """
import asyncio, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from wavellama.server import run

run.REQUEST_SECS = float(sys.argv[1])
run.UNREAD_SECS = 1.0

async def answer(request):
    await asyncio.sleep(float(request.query_params.get("secs", 0)))
    return PlainTextResponse("x" * int(request.query_params.get("size", 0)) + "here")

async def echo(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)

app = Starlette(routes=[Route("/", answer, methods=["GET", "POST"]), WebSocketRoute("/", echo)])
address = run.Address(host="127.0.0.1", port=0)
with run.reserve(address) as taken:
    run.serve(app, address, taken, lambda url: print(url, flush=True))
"""

GET: Final = b"GET /?secs=%d HTTP/1.1\r\nHost: x\r\n\r\n"

HEAD: Final = b"POST / HTTP/1.1\r\nHost: x\r\n"


@contextmanager
def listening(request_secs: float = 1.0) -> Iterator[tuple[int, int]]:
    """Serve a few words; yield the port and the process."""
    command = [sys.executable, "-c", PROGRAM, str(request_secs)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline()
        try:
            yield int(url.rpartition(":")[2]), process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with listening() as (port, _):
        yield port


def open_connection(port: int, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(data)
    return connection


def read_answer(connection: socket.socket) -> bool:
    """Return whether a request is answered."""
    answer = b""
    while not answer.endswith(b"here") and (more := connection.recv(4096)):
        answer += more
    return answer.endswith(b"here")


def ask(port: int, secs: int = 0) -> bool:
    """Return whether a new client is answered."""
    with open_connection(port, GET % secs) as connection:
        return read_answer(connection)


def trickle(connection: socket.socket, piece: bytes) -> float:
    """Send a piece now and then; return after how many seconds the server has hung up."""
    begin = time.monotonic()
    connection.settimeout(0.05)
    while time.monotonic() < begin + 20:
        try:
            connection.sendall(piece)
            if not connection.recv(4096):
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    return time.monotonic() - begin


@pytest.mark.parametrize(
    ("data", "piece"),
    [
        (b"", b""),
        (HEAD, b"a"),
        (HEAD, b"X-More: 1\r\n"),
        (GET % 0 + HEAD, b"a"),
        (HEAD + b"Content-Length: 100000\r\n\r\n", b"a"),
    ],
    ids=[
        "nothing",
        "endless header",
        "endless headers",
        "second request",
        "body of an answered one",
    ],
)
def test_a_request_that_does_not_end_is_hung_up_on(port: int, data: bytes, piece: bytes) -> None:
    with open_connection(port, data) as connection:
        assert ask(port), "nobody else waits for it"
        assert 0.5 < trickle(connection, piece) < 10
    assert ask(port)


def test_what_is_in_work_takes_as_long_as_it_takes(port: int) -> None:
    with connect(f"ws://127.0.0.1:{port}/") as talk:
        assert ask(port, 2)
        talk.send("still there")
        assert talk.recv(10) == "still there"


def test_who_reads_nothing_is_hung_up_on(port: int) -> None:
    size = 20_000_000
    with open_connection(port, b"GET /?size=%d HTTP/1.1\r\nHost: x\r\n\r\n" % size) as connection:
        time.sleep(3)
        num_read = 0
        with suppress(ConnectionResetError):
            while more := connection.recv(2**20):
                num_read += len(more)
        assert 0 < num_read < size, "what was on the way"


def test_requests_may_follow_each_other_on_a_connection(port: int) -> None:
    with open_connection(port) as connection:
        for _ in range(4):
            connection.sendall(b"GET / HT")
            time.sleep(0.4)
            connection.sendall(b"TP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(connection)


def test_more_connections_than_files_may_be_open() -> None:
    with listening(request_secs=60) as (port, process), ExitStack() as stack:
        os.kill(process, signal.SIGSTOP)
        flood = [stack.enter_context(open_connection(port)) for _ in range(500)]
        os.kill(process, signal.SIGCONT)
        until_hung_up_on(flood[-1])
        for connection in flood[:-1]:
            connection.close()
        assert ask(port)


def until_hung_up_on(connection: socket.socket) -> None:
    with suppress(ConnectionResetError):
        assert connection.recv(1) == b""
