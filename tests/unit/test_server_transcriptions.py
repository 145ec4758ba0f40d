"""``POST /v1/audio/transcriptions`` in this process, with a small random model."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from typing import Any, TypeAlias

import pysubs2
import pytest
import torch
import webvtt
from fairseq2.data.tokenizers import load_tokenizer
from fairseq2.models.wav2vec2.asr import create_wav2vec2_asr_model
from starlette.testclient import TestClient

from tests.fakes import arch_config
from tests.servers import MODEL, TRANSCRIPTIONS, clip, events_of, serving, shared_pipeline, talk
from tests.unit.test_pipeline_inference import RATE, create_pipeline, noise
from wavellama import (
    ASRInferencePipeline,
    ContextExample,
    TranscribeOptions,
    Transcript,
    Wav2Vec2LlamaBeamSearchConfig,
)
from wavellama.pipeline.attempts import Fault
from wavellama.pipeline.scribes import ClipScribe
from wavellama.transcript.options import READABLE
from wavellama.transcript.subtitles import write_srt


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(batch_secs=6.0) as client:
        yield client


def alone(data: bytes, **options: Any) -> Transcript:
    """Return what the pipeline alone makes of a file."""
    chosen = TranscribeOptions(**{"no_speech_threshold": 1.0, **options})
    (transcript,) = shared_pipeline().stream_results([data], chosen)
    return replace(transcript, source="")


def post(client: TestClient, audio: bytes = b"", form: Any = None, name: str = "a.wav") -> Any:
    files = {"file": (name, audio or clip(), "audio/x-wav")}
    data = {"no_speech_threshold": "1", **(form or {})}  # noise stands for speech
    return client.post(TRANSCRIPTIONS, data=data, files=files)


def error_of(reply: Any) -> tuple[int, str, str | None, str | None]:
    record = reply.json()["error"]
    assert set(record) == {"message", "type", "param", "code"}
    assert "Traceback" not in reply.text
    return reply.status_code, record["type"], record["param"], record["code"]


INVALID = "invalid_request_error"


# What is answered


def test_json_is_the_text_of_the_pipeline(client: TestClient) -> None:
    reply = post(client, talk(), {"model": MODEL, "language": "de", "prompt": "?", "x[y]": "1"})
    expected = alone(talk(), lang="deu_Latn")
    assert reply.status_code == 200
    assert reply.json() == {
        "text": expected.text,
        "languages": [{"code": "deu_Latn"}],
        "usage": {"type": "duration", "seconds": 12},
    }
    assert expected.text


def test_text_and_subtitles(client: TestClient) -> None:
    expected = alone(talk(), word_timestamps=True)
    found = {name: post(client, talk(), {"response_format": name}) for name in FORMATS}
    assert found["text"].text == alone(talk()).text
    assert found["srt"].text == write_srt(expected, READABLE)
    assert len(pysubs2.SSAFile.from_string(found["srt"].text)) > 1
    assert len(webvtt.from_string(found["vtt"].text).captions) > 1
    types = {name: reply.headers["content-type"] for name, reply in found.items()}
    assert types == FORMATS


FORMATS = {
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}

SEGMENT_FIELDS = {"id": int, "seek": int, "start": float, "end": float, "text": str}
SEGMENT_FIELDS |= {"tokens": list, "temperature": float, "avg_logprob": float}
SEGMENT_FIELDS |= {"compression_ratio": float, "no_speech_prob": float}


def test_verbose_json_has_all_fields_with_their_types(client: TestClient) -> None:
    record = post(client, talk(), {"response_format": "verbose_json"}).json()
    expected = alone(talk())
    assert (record["task"], record["language"], record["text"]) == ("transcribe", "", expected.text)
    assert record["duration"] == pytest.approx(12.0)
    assert "words" not in record
    assert [segment["id"] for segment in record["segments"]] == [*range(len(expected.segments))]
    for segment in record["segments"]:
        assert {name: type(segment[name]) for name in SEGMENT_FIELDS} == SEGMENT_FIELDS
    assert "".join(segment["text"] for segment in record["segments"]).strip() == expected.text


GRANULARITIES = [
    [("timestamp_granularities[]", "word"), ("timestamp_granularities[]", "segment")],
    [("timestamp_granularities", "word"), ("timestamp_granularities", "segment")],
    [("timestamp_granularities", "segment,word")],
    [("timestamp_granularities", '["segment", "word"]')],
]


@pytest.mark.parametrize("spelling", GRANULARITIES)
def test_granularities_in_all_spellings(client: TestClient, spelling: Any) -> None:
    form: dict[str, list[str]] = {"response_format": ["verbose_json"]}
    for name, value in spelling:
        form.setdefault(name, []).append(value)
    record = post(client, talk(), form).json()
    words = [word for one in alone(talk(), word_timestamps=True).segments for word in one.words]
    assert [word["word"] for word in record["words"]] == [word.text for word in words]
    assert record["words"][0]["start"] == pytest.approx(words[0].start, abs=1e-3)
    assert set(record["words"][0]) == {"word", "start", "end", "probability"}
    assert record["segments"]


def test_only_words(client: TestClient) -> None:
    form = {"response_format": "verbose_json", "timestamp_granularities[]": "word"}
    record = post(client, talk(), form).json()
    assert record["words"]
    assert "segments" not in record


def test_logprobs_are_those_of_the_tokens(client: TestClient) -> None:
    tokens = post(client, talk(), {"include[]": "logprobs"}).json()["logprobs"]
    expected = [value for one in alone(talk()).segments for value in one.token_logprobs]
    assert [token["logprob"] for token in tokens] == pytest.approx(expected, abs=1e-5)
    assert all(bytes(token["bytes"]).decode() == token["token"] for token in tokens)
    letters = "".join(token["token"] for token in tokens).replace(" ", "")
    assert letters == alone(talk()).text.replace(" ", "")


# Streams


@pytest.mark.parametrize("value", ["true", "True"])
def test_deltas_add_up_to_the_text(client: TestClient, value: str) -> None:
    form = {"stream": value, "timestamp_granularities[]": ["segment", "word"], "chunk_secs": "3"}
    reply = post(client, talk(), {**form, "include[]": "logprobs"})
    assert reply.headers["content-type"].startswith("text/event-stream")
    *deltas, done = events_of(reply.text)
    expected = alone(talk(), chunk_secs=3.0)
    assert {event["type"] for event in deltas} == {"transcript.text.delta"}
    assert len(deltas) > 1
    assert done["type"] == "transcript.text.done"
    assert "".join(event["delta"] for event in deltas) == done["text"] == expected.text
    assert [segment["text"] for segment in done["segments"]] == [
        segment.text for segment in expected.segments
    ]
    assert done["words"]
    assert [token for event in deltas for token in event["logprobs"]] == done["logprobs"]


def test_a_stream_that_cannot_begin_has_a_status(client: TestClient) -> None:
    reply = post(client, b"no audio", {"stream": "true"})
    assert error_of(reply) == (400, INVALID, "file", "invalid_audio")


def test_a_stream_that_fails_later_ends_with_the_error(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = ClipScribe.write, count()

    def fail_later(scribe: ClipScribe, rows: list[Any]) -> list[Any]:
        return write(scribe, rows) if next(calls) < 3 else [Fault("too loud") for _ in rows]

    monkeypatch.setattr(ClipScribe, "start", lambda *_: None)  # written batch by batch
    monkeypatch.setattr(ClipScribe, "write", fail_later)
    reply = post(client, talk(24.0), {"stream": "true", "chunk_secs": "3"})
    *deltas, last = events_of(reply.text)
    assert {event["type"] for event in deltas} == {"transcript.text.delta"}
    assert last["error"] == {
        **{"message": "a.wav: too loud", "type": INVALID},
        **{"param": "file", "code": "invalid_audio"},
    }


# Own options, and what other clients send


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ({"languages[]": ["de", "rus_Cyrl"]}, {"languages": ("deu_Latn", "rus_Cyrl")}),
        ({"languages": "de,ru"}, {"languages": ("deu_Latn", "rus_Cyrl")}),
        ({"keywords[]": ["zk", "st"], "hotword_weight": "5"}, {"hotwords": ("zk", "st")}),
        ({"hotwords": "zk,st", "hotword_weight": "5"}, {"hotwords": ("zk", "st")}),
        ({"chunk_secs": "2.5", "vad": "false"}, {"chunk_secs": 2.5, "vad": False}),
        ({"chunking_strategy": '{"type": "server_vad"}'}, {"vad": True}),
        ({"chunking_strategy[type]": "server_vad"}, {"vad": True}),
        ({"chunking_strategy": "auto"}, {}),
        ({"temperature": "0.20", "vad_filter": "False", "language": ""}, {}),
        ({"nbest": "3"}, {"search": Wav2Vec2LlamaBeamSearchConfig(nbest=3, max_new_tokens=12)}),
        ({"beam": "1"}, {"search": Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=12)}),
    ],
)
def test_options_are_those_of_the_pipeline(client: TestClient, form: Any, options: Any) -> None:
    if "hotwords" in options:
        options = {**options, "hotword_weight": 5.0}
    assert post(client, talk(), form).json()["text"] == alone(talk(), **options).text


Field: TypeAlias = tuple[str, str]

SUBTITLE_EDIT: list[Field] = [("temperature", "0.20"), ("language", "de")]
WYOMING: list[Field] = [
    ("model", MODEL),
    ("temperature", "0.0"),
    ("prompt", "Lights."),
    ("language", "de"),
]
EXTRA: Field = ("vad_filter", "False")
BOTH_TIMES: list[Field] = [("timestamp_granularities[]", name) for name in ("word", "segment")]

REQUESTS: dict[str, list[Field]] = {
    "Open WebUI": [("model", MODEL)],
    "SubtitleEdit": [*SUBTITLE_EDIT, ("response_format", "verbose_json"), *BOTH_TIMES],
    "SubtitleEdit, stream": [*SUBTITLE_EDIT, ("response_format", "json"), ("stream", "true")],
    "wyoming_openai": [*WYOMING, ("response_format", "json"), EXTRA],
    "wyoming_openai, stream": [*WYOMING, ("response_format", "json"), EXTRA, ("stream", "true")],
    "openai_stt_ha": [
        ("model", MODEL),
        ("language", "de-DE"),
        ("prompt", ""),
        ("temperature", "0"),
    ],
}
"""The fields that programs send before the file, as they are documented to."""


def written_form(fields: list[Field], audio: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the body that such programs write, and its headers."""
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields]
    head = b'name="file"; filename="audio.wav"\r\nContent-Type: audio/x-wav\r\n\r\n'
    start = b"--0b3d\r\nContent-Disposition: form-data; "
    body = b"".join(start + part + b"\r\n" for part in [*parts, head + audio])
    return body + b"--0b3d--\r\n", {"Content-Type": "multipart/form-data; boundary=0b3d"}


@pytest.mark.parametrize("program", REQUESTS)
def test_programs_find_what_they_read(client: TestClient, program: str) -> None:
    fields = REQUESTS[program]
    body, headers = written_form(fields, talk())
    reply = client.post(TRANSCRIPTIONS, content=body, headers=headers)
    expected = alone(talk(), lang="deu_Latn" if "language" in dict(fields) else None)
    if "stream" in dict(fields):
        *deltas, record = events_of(reply.text)
        assert "".join(event["delta"] for event in deltas) == expected.text
    else:
        record = reply.json()
        assert record["text"] == expected.text
    if program.startswith("SubtitleEdit"):
        found = [(one["start"], one["end"], one["text"]) for one in record["segments"]]
        assert [text for *_, text in found] == [one.text for one in expected.segments]
        assert all(0.0 <= start <= end <= 12.0 for start, end, _ in found)
    if program == "SubtitleEdit":
        assert [word for word in record["words"] if word["start"] > word["end"]] == []
        assert " ".join(word["word"] for word in record["words"]).split() == expected.text.split()


# What is refused


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"model": "whisper-1"}, (404, "model", "model_not_found")),
        ({"language": "klingonese"}, (400, "language", "invalid_value")),
        ({"lang": "klingonese"}, (400, "lang", "invalid_value")),
        ({"languages[]": ["xx", "yy"]}, (400, "languages", "invalid_value")),
        ({"language_candidates": "xx,yy"}, (400, "language_candidates", "invalid_value")),
        ({"keywords[]": "z" * 20_001}, (400, "keywords", "invalid_value")),
        ({"hotwords": ["z" * 9_999, "k" * 9_999, "zkz"]}, (400, "hotwords", "invalid_value")),
        ({"response_format": "docx"}, (400, "response_format", "invalid_value")),
        ({"response_format": "diarized_json"}, (400, "response_format", "unsupported_value")),
        (
            {"known_speaker_names[]": ["A"]},
            (400, "known_speaker_names", "unsupported_value"),
        ),
        ({"timestamp_granularities[]": "word"}, (400, "timestamp_granularities", "invalid_value")),
        (
            {"timestamp_granularities[]": "line", "response_format": "verbose_json"},
            (400, "timestamp_granularities", "invalid_value"),
        ),
        ({"include[]": "voice"}, (400, "include", "invalid_value")),
        ({"include[]": "logprobs", "response_format": "text"}, (400, "include", "invalid_value")),
        ({"temperature": "hot"}, (400, "temperature", "invalid_value")),
        ({"temperature": "nan"}, (400, "temperature", "invalid_value")),
        ({"stream": "perhaps"}, (400, "stream", "invalid_value")),
        ({"stream": "true", "response_format": "srt"}, (400, "stream", "unsupported_value")),
        ({"chunking_strategy": "magic"}, (400, "chunking_strategy", "invalid_value")),
        ({"chunk_secs": "0.1"}, (400, "chunk_secs", "invalid_value")),
        ({"chunk_secs": "long"}, (400, "chunk_secs", "invalid_value")),
        ({"vad": "maybe"}, (400, "vad", "invalid_value")),
        ({"beam": "1000"}, (400, "beam", "invalid_value")),
        ({"beam": "two"}, (400, "beam", "invalid_value")),
        ({"channel": "7"}, (400, "file", "invalid_audio")),
        ({"normalization": "causal"}, (400, "normalization", "invalid_value")),
    ],
)
def test_what_cannot_be_honoured_is_named(client: TestClient, form: Any, expected: Any) -> None:
    status, param, code = expected
    assert error_of(post(client, form=form)) == (status, INVALID, param, code)


def test_no_client_chooses_files_or_models_of_the_server(client: TestClient) -> None:
    form = {"lm": "/etc/passwd", "draft_model": "/etc", "aligner": "/etc", "word_timestamps": "1"}
    assert post(client, form=form).json()["text"] == alone(clip()).text


def test_a_form_without_a_file(client: TestClient) -> None:
    expected = (400, INVALID, "file", "missing_required_parameter")
    assert error_of(client.post(TRANSCRIPTIONS, data={"model": MODEL})) == expected
    assert error_of(client.post(TRANSCRIPTIONS, content=b"{}")) == expected
    assert error_of(client.post(TRANSCRIPTIONS, data={"file": "text"})) == expected


@pytest.mark.parametrize("data", [b"no audio", b"RIFF\0\0\0\0WAVE", b"PK\3\4" + bytes(99)])
def test_what_is_no_audio_names_its_file_without_folders(client: TestClient, data: bytes) -> None:
    reply = post(client, data, name="../../etc/pass\r\nwd.wav")
    assert error_of(reply) == (400, INVALID, "file", "invalid_audio")
    message = reply.json()["error"]["message"]
    assert "wd.wav" in message
    assert "etc" not in message
    assert "tmp" not in message


def test_translations_are_refused(client: TestClient) -> None:
    reply = client.post("/v1/audio/translations", files={"file": ("a.wav", clip())})
    assert error_of(reply) == (400, INVALID, None, "unsupported_value")


def test_fuzzed_bodies_leave_the_server_up(client: TestClient) -> None:
    draw = random.Random(0)
    body = client.build_request("POST", TRANSCRIPTIONS, files={"file": ("a.wav", clip(0.1))})
    good, content_type = body.read(), body.headers["content-type"]
    for _ in range(200):
        bad = bytearray(good)
        for _ in range(draw.randint(1, 40)):
            bad[draw.randrange(min(len(bad), draw.choice([200, len(bad)])))] = draw.randrange(256)
        bad = bad[: draw.choice([len(bad), draw.randrange(len(bad))])]
        reply = client.post(
            TRANSCRIPTIONS, content=bytes(bad), headers={"content-type": content_type}
        )
        assert reply.status_code in (200, 400), reply.text
        assert reply.status_code == 200 or error_of(reply)[1] == INVALID
    assert post(client).status_code == 200


def test_many_fields_and_large_ones_are_refused(client: TestClient) -> None:
    many = {f"x{i}": "1" for i in range(600)}
    assert error_of(post(client, form=many))[0] == 400
    assert error_of(post(client, form={"x": "1" * 5_000_000}))[0] == 400
    files = [("file", ("a.wav", clip())), ("file", ("b.wav", clip()))]
    assert error_of(client.post(TRANSCRIPTIONS, files=files))[0] == 400


def bomb(kind: str) -> tuple[bytes, str]:
    """Return a body of some 4 MB that would cost much, and its type."""
    part, n = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a', 4_000_000
    bodies = {
        "parts": b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * (n // 60),
        "headers": b"--x\r\n" + b"a: b\r\n" * (n // 6),
        "a header": b"--x\r\na: " + b"b" * n,
        "a name": part + b"a" * n,
        "options": part + b'"' + b"; a=b" * (n // 5),
        "nothing": b"\r\n" * (n // 2),
        "an end": part + b'"\r\n\r\n1\r\n--x--' + b"--x--" * (n // 5),
        "inner forms": part
        + b'"\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n'
        + b"--y\r\n" * n,
        "pairs": b"&" * n,
        "letters": part.split(b";")[0]
        + b'; name="a"\r\n\r\nb-'
        + b"aaaz" * (n // 8)
        + b"\r\n--x--",
        "bits": part.split(b";")[0] + b'; name="a"\r\n\r\n\\ud800\r\n--x--',
    }
    types = {"pairs": "application/x-www-form-urlencoded"}
    types |= {"letters": FORM + "; charset=punycode", "bits": FORM + "; charset=unicode_escape"}
    return bodies[kind], types.get(kind, FORM)


FORM = "multipart/form-data; boundary=x"

BOMBS = ["parts", "headers", "a header", "a name", "options", "nothing", "an end", "inner forms"]


@pytest.mark.parametrize("kind", [*BOMBS, "pairs", "letters", "bits"])
def test_a_form_that_costs_much_is_refused_soon(client: TestClient, kind: str) -> None:
    body, content_type = bomb(kind)
    begin = time.monotonic()
    reply = client.post(TRANSCRIPTIONS, content=body, headers={"Content-Type": content_type})
    assert error_of(reply)[:2] == (400, INVALID)
    assert time.monotonic() - begin < 3


# Many at a time


def test_texts_are_those_of_a_request_alone_whoever_else_asks(client: TestClient) -> None:
    asked: list[tuple[bytes, dict[str, Any]]] = [
        (clip(0.4 + 0.3 * (i % 4), i), {"language": ["de", "ru"][i % 2]}) for i in range(12)
    ]
    asked += [(talk(), {"chunk_secs": "2"}), (talk(), {"stream": "true"})]
    asked += [
        (clip(0.6, i), {"keywords[]": [["zk"], ["st"]][i % 2], "hotword_weight": "9"})
        for i in range(4)
    ]
    with ThreadPoolExecutor(len(asked)) as pool:
        replies = list(pool.map(lambda one: post(client, *one), asked))
    for (data, form), reply in zip(asked, replies, strict=True):
        options: dict[str, Any] = {"lang": form["language"]} if "language" in form else {}
        if "chunk_secs" in form:
            options["chunk_secs"] = 2.0
        if "keywords[]" in form:
            options |= {"hotwords": form["keywords[]"], "hotword_weight": 9.0}
        record = events_of(reply.text)[-1] if "stream" in form else reply.json()
        assert record["text"] == alone(data, **options).text
    text = client.get("/metrics").text
    rows = sum_of(text, "wavellama_batch_rows_sum"), sum_of(text, "wavellama_batch_rows_count")
    assert rows[0] > rows[1] + 5, "requests meet in batches"
    assert sum_of(text, "wavellama_requests_running") == 0


def sum_of(metrics: str, name: str) -> float:
    lines = [line for line in metrics.splitlines() if line.startswith(name)]
    return math.fsum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.mark.parametrize("case", ["streaming", "llm_asr"])
def test_other_kinds_of_models(case: str) -> None:
    pipeline = create_pipeline(case)
    (expected,) = pipeline.stream_results([clip(3.0)], TranscribeOptions(no_speech_threshold=1.0))
    with serving(pipeline) as client:
        for form in ({}, {"language": "de"}):
            assert post(client, clip(3.0), form).json()["text"] == expected.text
        *deltas, done = events_of(post(client, clip(3.0), {"stream": "true"}).text)
        knows_languages = client.get("/v1/languages").json()["data"] != []
    assert knows_languages == (case == "streaming")
    assert "".join(event["delta"] for event in deltas) == done["text"] == expected.text
    assert json.dumps(done, allow_nan=False)


def test_a_zero_shot_model_reads_the_servers_examples() -> None:
    examples = [ContextExample({"waveform": noise(0.5), "sample_rate": RATE}, "ab")]
    pipeline = create_pipeline("zero_shot")
    (expected,) = pipeline.stream_results(
        [clip()], TranscribeOptions(no_speech_threshold=1.0), examples=examples
    )
    with serving(pipeline, examples=examples) as client:
        assert post(client).json()["text"] == expected.text
    with serving(pipeline) as client:
        assert error_of(post(client)) == (400, INVALID, None, "invalid_value")


def test_a_ctc_model_says_what_it_cannot_do() -> None:
    model = create_wav2vec2_asr_model(arch_config("tiny").wav2vec2_asr_config)
    tokenizer = load_tokenizer("toy_tokenizer")
    given: dict[str, Any] = {"model": model, "tokenizer": tokenizer, "dtype": torch.float32}
    pipeline = ASRInferencePipeline(None, device="cpu", **given)
    (expected,) = pipeline.stream_results([clip()], TranscribeOptions(no_speech_threshold=1.0))
    with serving(pipeline) as client:
        record = post(client, form={"response_format": "verbose_json"}).json()
        assert record["text"] == expected.text
        assert post(client, form={"include[]": "logprobs"}).json()["text"] == expected.text
        for field in ("keywords", "hotwords"):
            reply = post(client, form={field: "zk"})
            assert error_of(reply) == (400, INVALID, field, "invalid_value")
            assert f"`{field}`" in reply.json()["error"]["message"]


def test_each_model_answers_for_itself() -> None:
    other = create_pipeline("llm_asr")
    (expected,) = other.stream_results([clip()], TranscribeOptions(no_speech_threshold=1.0))
    with serving(more={"other": other}) as client:
        texts = [post(client, form={"model": name}).json()["text"] for name in (MODEL, "other")]
        assert post(client).json()["text"] == texts[0], "the first one serves those who name none"
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == [
            MODEL,
            "other",
        ]
        assert client.get("/v1/languages?model=other").json()["data"] == []
    assert texts == [alone(clip()).text, expected.text]
    assert texts[0] != texts[1]
