"""The page: its files, what they may load, and what its modules make of transcripts."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import numpy as np
import pysubs2
import pytest
import webvtt
from starlette.testclient import TestClient

from tests.servers import MODEL, events_of, serving, talk
from tests.unit.test_server_transcriptions import post
from wavellama.server.page import page_files

PAGE: Final = Path(__file__).parents[2] / "src/wavellama/server/page"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving() as client:
        yield client


class Elements(HTMLParser):
    """What an HTML file consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_and_all_that_it_names_are_there(client: TestClient) -> None:
    reply = client.get("/")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    elements = Elements(reply.text).found
    named = [attrs[key] for _, attrs in elements for key in ("src", "href") if attrs.get(key)]
    assert len(named) >= 3
    scripts = [name for name in page_files() if name.endswith(".js")]
    imports = [
        f"page/{name}"
        for script in scripts
        for name in re.findall(r'from "\./(.+?)"', page_files()[script].decode())
    ]
    for path in [*named, *imports]:
        found = client.get(f"/{path}")
        assert found.status_code == 200, path
        assert "'self'" in found.headers["content-security-policy"]
        assert "unsafe" not in found.headers["content-security-policy"]
    begun = {"page/main.js", "page/worklet.js"}
    assert set(imports) | begun == {f"page/{name}" for name in scripts}
    assert client.get("/page/app.py").status_code == 404
    assert client.get("/page/..%2fapp.py").status_code == 404


def test_the_page_has_no_inline_code_and_loads_nothing_from_elsewhere() -> None:
    elements = Elements(page_files()["index.html"].decode()).found
    for tag, attrs in elements:
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
        assert tag != "style"
        assert tag != "script" or "src" in attrs
    for name, data in page_files().items():
        urls = re.findall(rb"https?://[\w.]+", data)
        assert [url for url in urls if url != b"http://www.w3.org"] == [], name
        assert b"innerHTML" not in data


def test_all_that_people_use_has_a_name() -> None:
    elements = Elements(page_files()["index.html"].decode()).found
    labels = {attrs.get("for") for tag, attrs in elements if tag == "label"}
    ids = {attrs["id"] for _, attrs in elements if "id" in attrs}
    for tag, attrs in elements:
        if tag == "input":
            assert attrs["id"] in labels
        for key in ("aria-controls", "aria-describedby", "for"):
            assert attrs.get(key) in {None, *ids}
    assert {"status", "alert", "combobox", "listbox"} <= {
        attrs.get("role") for _, attrs in elements
    }
    used = set(re.findall(r'get\("(\w+)"\)', page_files()["main.js"].decode()))
    assert used <= ids


def run_module(code: str, *arguments: Any) -> Any:
    """Run JavaScript, whose `result` is returned; `input` holds the arguments."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: the page's modules were not run")
    imports = "\n".join(
        f"import * as {name} from {json.dumps((PAGE / f'{name}.js').as_uri())};"
        for name in ("exports", "transcript", "languages", "audio", "api", "live")
    )
    script = f"{imports}\nconst input = {json.dumps(arguments)};\n{code}\n"
    done = subprocess.run(
        [node, "--input-type=module", "-e", f"{script}console.log(JSON.stringify(result));"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def done(client: TestClient) -> Any:
    """What a stream ends with."""
    form = {"stream": "true", "word_timestamps": "true", "chunk_secs": "3"}
    reply = post(client, talk(), {**form, "timestamp_granularities[]": ["word", "segment"]})
    return events_of(reply.text)[-1]


def test_segments_have_all_words_of_the_text(done: Any) -> None:
    segments = run_module("const result = transcript.segmentsOf(input[0]);", done)
    words = [word["text"] for segment in segments for word in segment["words"]]
    assert words == [word["word"] for word in done["words"]]
    texts = [
        "".join(" " * word["spaced"] + word["text"] for word in segment["words"])
        for segment in segments
    ]
    assert texts == [segment["text"] for segment in done["segments"]]


def test_words_have_alternatives(client: TestClient) -> None:
    form = {"stream": "true", "word_timestamps": "true", "chunk_secs": "3", "nbest": "4"}
    reply = post(client, talk(), {**form, "timestamp_granularities[]": ["word", "segment"]})
    done = events_of(reply.text)[-1]
    segments = run_module("const result = transcript.segmentsOf(input[0]);", done)
    found = [word["others"] for segment in segments for word in segment["words"]]
    assert any(found), "hypotheses differ"
    for segment, record in zip(segments, done["segments"], strict=True):
        texts = " ".join(one["text"] for one in record["alternatives"][1:])
        for word in segment["words"]:
            assert all(other != word["text"] and other in texts for other in word["others"])


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [
        ("a b c", ["a b c", "a x c", "a y c"], [[], ["x", "y"], []]),
        ("a b c", ["a c", "a b b c", "x a b c"], [["a b", "x a"], [], []]),
        ("newyork is", ["new york is", "newark is"], [["new york", "newark"], []]),
        ("one", ["two", "two", "", "three four"], [["two", "three four"]]),
        ("", ["a"], []),
    ],
)
def test_alternatives_are_those_with_the_fewest_changes(
    own: str, others: Any, expected: Any
) -> None:
    words = [{"text": text, "spaced": i > 0} for i, text in enumerate(own.split())]
    assert (
        run_module("const result = transcript.alternativesOf(...input);", words, others) == expected
    )


def test_characters_have_alternatives_where_no_spaces_are() -> None:
    words = [{"text": text, "spaced": False} for text in "東京都"]
    code = "const result = transcript.alternativesOf(...input);"
    assert run_module(code, words, ["東京都", "東尖都"]) == [[], ["尖"], []]


def test_exports_can_be_read(done: Any) -> None:
    code = """
    const segments = transcript.segmentsOf(input[0]);
    segments[0].words[0].text = "<new> & word";
    const names = ["txt", "srt", "vtt", "tsv", "json"];
    const result = Object.fromEntries(
      names.map((name) => [name, exports.exportAs(name, segments, { language: "x" })]));
    """
    found = run_module(code, done)
    count = len(done["segments"])
    assert count > 2
    subtitles = pysubs2.SSAFile.from_string(found["srt"])
    captions = webvtt.from_string(found["vtt"]).captions
    rows = found["tsv"].splitlines()
    assert len(subtitles) == len(captions) == len(rows) - 1 == count
    assert len(found["txt"].splitlines()) == count
    assert unescape(captions[0].text).startswith("<new> & word")
    assert found["txt"].startswith("<new> & word")
    assert subtitles[1].start == pytest.approx(1000 * done["segments"][1]["start"], abs=1)
    record = json.loads(found["json"])
    assert record["language"] == "x"
    assert record["segments"][-1]["text"] == done["segments"][-1]["text"].strip()


@pytest.mark.parametrize(
    ("text", "first"),
    [("german", "deu_Latn"), ("de", "deu_Latn"), ("GERM", "deu_Latn"), ("rus_", "rus_Cyrl")],
)
def test_languages_are_found(client: TestClient, text: str, first: str) -> None:
    rows = client.get("/v1/languages").json()["data"]
    code = "const result = languages.search(input[0], input[1]).map((row) => row.code);"
    assert run_module(code, rows, text)[0] == first
    assert run_module(code, rows, "no such language") == []


def test_events_are_read_however_they_are_cut(done: Any) -> None:
    code = """
    const bytes = new TextEncoder().encode(input[0]);
    const pieces = [];
    for (let i = 0; i < bytes.length; i += 7) pieces.push(bytes.slice(i, i + 7));
    const result = [];
    for await (const event of api.readEvents(new Blob(pieces).stream())) result.push(event);
    """
    frames = ": waiting\n\n" + f"event: x\ndata: {json.dumps(done, ensure_ascii=False)}\n\n" * 2
    assert run_module(code, frames) == [done, done]


def test_shades_and_waves() -> None:
    code = "const result = [input.map(transcript.shade), audio.peaks([0, -3, 1, 2, 1], 2)];"
    assert run_module(code, 1.0, 0.5, 0.0, None) == [[0, 0.3, 0.6, 0], [3, 2]]


def test_live_text_grows_and_guesses_are_replaced(client: TestClient) -> None:
    code = """
    const [events, samples] = input;
    const known = [];
    let now = live.NOTHING;
    for (const event of events) {
      now = live.apply(now, event);
      known.push([now.text, now.tentative]);
    }
    const result = [known, now.error, live.encode(samples), live.settingsOf("m", ["deu_Latn"])];
    """
    item = "conversation.item.input_audio_transcription"
    events: list[dict[str, Any]] = [
        {"type": f"{item}.tentative", "item_id": "1", "text": "on"},
        {"type": f"{item}.delta", "item_id": "1", "delta": "one"},
        {"type": f"{item}.delta", "item_id": "1", "delta": " two"},
        {"type": f"{item}.completed", "item_id": "1", "transcript": "one two"},
        {"type": f"{item}.tentative", "item_id": "2", "text": "th"},
        {"type": f"{item}.delta", "item_id": "2", "delta": "three"},
        {"type": "error", "error": {"message": "why"}},
    ]
    known, error, audio, settings = run_module(code, events, [0, 0.5, -1, 2])
    assert known == [
        *(["", "on"], ["one", ""], ["one two", ""], ["one two", ""]),
        *(["one two", "th"], ["one two three", ""], ["one two three", ""]),
    ]
    assert error == "why"
    assert base64.b64decode(audio) == np.array([0, 16_383, -32_767, 32_767], "<i2").tobytes()
    settings["audio"]["input"]["transcription"]["model"] = MODEL
    with client.websocket_connect("/v1/realtime") as socket:
        assert socket.receive_json()["type"] == "session.created"
        socket.send_json({"type": "session.update", "session": settings})
        record = socket.receive_json()["session"]
    assert record["audio"]["input"]["transcription"] == {"model": MODEL, "language": "deu_Latn"}
    assert record["include"] == settings["include"]
