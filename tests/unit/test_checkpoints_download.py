"""Downloads from a server that breaks off, changes its file, or knows nothing of ranges."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from fairseq2.utils.progress import NOOP_PROGRESS_REPORTER

from tests.fakes_checkpoints import ctc_config, family, load, new_model, use_cache
from wavellama.checkpoints import fetch
from wavellama.checkpoints.download import download
from wavellama.errors import CheckpointError

CONTENT = bytes(range(256)) * 5000


@dataclass
class Server:
    """What the server does, and what it was asked."""

    url: str = ""
    content: bytes = CONTENT
    tag: str = '"one"'
    modified: str = ""
    status: int = 200
    limits: list[int | None] = field(default_factory=list)
    """How many bytes each of the next requests gets before the line breaks; None: all."""

    ranges: bool = True
    says_length: bool = True
    disposition: str = ""
    asked: list[str | None] = field(default_factory=list)
    """The ranges that were asked for."""

    sent: int = 0


class Handler(BaseHTTPRequestHandler):
    """Answers as ``Server`` says."""

    state: Server

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        state, wanted = self.state, self.headers.get("Range")
        state.asked.append(wanted)
        start = int(wanted[6:-1]) if wanted and state.ranges else 0
        same = self.headers.get("If-Range") in (state.tag or None, state.modified or None)
        start = start if same else 0
        if state.status != 200:
            return self._head(state.status, 0)
        total = len(state.content)
        if start >= total:
            return self._head(416, 0, f"bytes */{total}")
        limit = state.limits.pop(0) if state.limits else None
        body = state.content[start:]
        said = f"bytes {start}-{total - 1}/{total}" if start else ""
        self._head(206 if start else 200, len(body), said)
        state.sent += len(body[:limit])
        self.wfile.write(body[:limit])
        return None

    def _head(self, status: int, length: int, content_range: str = "") -> None:
        self.send_response(status)
        headers = {
            "Content-Length": str(length) if self.state.says_length else "",
            "Content-Range": content_range,
            "ETag": self.state.tag,
            "Last-Modified": self.state.modified,
            "Content-Disposition": self.state.disposition,
        }
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    handler = type("StatedHandler", (Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_port}/models/my%20model.pt"
        yield state
        http.shutdown()
        thread.join()


def _download(server: Server, folder: Path) -> bytes:
    """Download, and return what lies in the folder, which holds one file."""
    download(server.url, folder, NOOP_PROGRESS_REPORTER)
    (file,) = folder.iterdir()
    assert file.name == "my model.pt"
    return file.read_bytes()


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir())


def test_a_download_leaves_one_file(server: Server, tmp_path: Path) -> None:
    assert _download(server, tmp_path / "cache" / "x") == CONTENT
    assert set(_left(tmp_path / "cache" / "x")) <= {"x", "x.lock"}
    assert server.asked == [None]


def test_what_is_there_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    _download(server, tmp_path / "x")
    _download(server, tmp_path / "x")
    assert len(server.asked) == 1


def test_the_server_may_name_the_file(server: Server, tmp_path: Path) -> None:
    server.disposition = 'attachment; filename="../../my model.pt"'
    assert _download(server, tmp_path / "x") == CONTENT


def test_a_broken_line_is_taken_up_at_once(server: Server, tmp_path: Path) -> None:
    server.limits = [300_000, 500_001, 1]
    assert _download(server, tmp_path / "x") == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=800001-", "bytes=800002-"]
    assert server.sent == len(CONTENT)


@pytest.mark.parametrize("mark", ["tag", "date", "weak tag and date"])
def test_a_failed_download_goes_on_the_next_time(server: Server, tmp_path: Path, mark: str) -> None:
    if mark != "tag":
        server.tag = 'W/"one"' if "weak" in mark else ""
        server.modified = "Wed, 21 Oct 2015 07:28:00 GMT"
    server.limits = [700_000, 0]
    with pytest.raises(CheckpointError) as caught:
        _download(server, tmp_path / "x")
    text = str(caught.value)
    assert text.startswith(f"{server.url} cannot be downloaded: ")
    assert text.endswith("; 700,000 bytes are kept, and the next try goes on from there.")
    assert not (tmp_path / "x").exists()
    assert _download(server, tmp_path / "x") == CONTENT
    assert server.asked[-1] == "bytes=700000-"
    assert server.sent == len(CONTENT)


def test_a_file_that_has_changed_is_downloaded_whole(server: Server, tmp_path: Path) -> None:
    server.limits = [700_000, 0]
    with pytest.raises(CheckpointError):
        _download(server, tmp_path / "x")
    server.tag, server.content = '"two"', CONTENT[::-1][:-7]
    assert _download(server, tmp_path / "x") == CONTENT[::-1][:-7]


@pytest.mark.parametrize("known", [True, False], ids=["with a mark", "without"])
def test_a_server_without_ranges_sends_all_again(
    server: Server, tmp_path: Path, known: bool
) -> None:
    server.ranges = False
    server.tag = server.tag if known else ""
    server.limits = [700_000, 700_000]
    with pytest.raises(CheckpointError):
        _download(server, tmp_path / "x")
    assert _download(server, tmp_path / "x") == CONTENT
    assert server.asked[-1] == ("bytes=700000-" if known else None)


def test_a_part_that_was_complete_is_used(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(CONTENT)
    (tmp_path / "x.part.version").write_text(server.tag)
    assert _download(server, tmp_path / "x") == CONTENT
    assert server.sent == 0


def test_a_part_that_is_too_long_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(CONTENT + b"more")
    (tmp_path / "x.part.version").write_text(server.tag)
    assert _download(server, tmp_path / "x") == CONTENT


def test_a_server_that_says_no_length(server: Server, tmp_path: Path) -> None:
    server.says_length = False
    assert _download(server, tmp_path / "x") == CONTENT


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_refusal_keeps_what_is_there(server: Server, tmp_path: Path, status: int) -> None:
    (tmp_path / "x.part").write_bytes(CONTENT[:5])
    server.status = status
    with pytest.raises(CheckpointError, match=rf"the server answers {status} .*; 5 bytes are kept"):
        _download(server, tmp_path / "x")
    assert (tmp_path / "x.part").read_bytes() == CONTENT[:5]


def test_no_server_at_all(server: Server, tmp_path: Path) -> None:
    url = re.sub(r":\d+/", ":1/", server.url)
    with pytest.raises(CheckpointError, match=r"cannot be downloaded: .*refused.*\.$"):
        download(url, tmp_path / "x", NOOP_PROGRESS_REPORTER)


# By a card


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of fairseq2's cache of assets."""
    return use_cache(tmp_path / "cache", monkeypatch)


@pytest.mark.usefixtures("cache")
def test_a_card_downloads_its_checkpoint_once(server: Server, tmp_path: Path) -> None:
    weights = new_model("wav2vec2_asr", ctc_config()).state_dict()
    torch.save({"model": weights}, tmp_path / "a.pt")
    server.content = (tmp_path / "a.pt").read_bytes()
    server.limits = [20_000]
    total = hashlib.sha256(server.content).hexdigest()
    for _ in range(2):
        model = load("wav2vec2_asr", ctc_config(), server.url, checkpoint_sha256=total)
        assert torch.equal(model.state_dict()["final_proj.bias"], weights["final_proj.bias"])
    assert server.asked == [None, "bytes=20000-"]


def test_a_download_that_is_not_what_the_card_means(server: Server, cache: Path) -> None:
    expected, found = "0" * 64, hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(CheckpointError, match=f"its SHA-256 is {found}, .* expects {expected};"):
        load("wav2vec2_asr", ctc_config(), server.url, checkpoint_sha256=expected)
    assert not (cache / "verified").exists()


@pytest.mark.usefixtures("cache")
def test_fairseq2_finds_what_was_downloaded(server: Server) -> None:
    from fairseq2.utils.uri import Uri

    fetcher = family("wav2vec2_asr").fetcher  # type: ignore[attr-defined]
    assert isinstance(fetcher, fetch.CheckpointFetcher)
    with pytest.raises(CheckpointError, match=r"my model\.pt cannot be read: "):
        load("wav2vec2_asr", ctc_config(), server.url)
    path = fetcher.downloads.download_model(Uri.parse(server.url), local_only=True)
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 1
