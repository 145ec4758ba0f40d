"""Subtitles and tables of a minute of speech, as other people's programs read them."""

from __future__ import annotations

import csv
import html
import json
import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import pysubs2
import pytest
import webvtt

from tests.e2e.forked import run_forked
from tests.e2e.test_transcribe import MINI
from wavellama.audio.load import load_audio
from wavellama.units import samples_to_seconds

SONNET: Final = MINI / "audio/sonnet.ogg"

NARROW: Final = ("--max-line-width", "20", "--max-line-count", "1")
WIDTH: Final = 20

pytestmark = pytest.mark.slow


class Cue(NamedTuple):
    """What is shown, and when in milliseconds."""

    start: int
    end: int
    text: str


@pytest.fixture(scope="module")
def ctc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, which can align."""
    out = tmp_path_factory.mktemp("toy_ctc") / "run"
    result = run_forked(
        *("recipe", "asr", "train", "toy_ctc", "--output-dir", out, "--no-rich"),
        *("--config", "regime.num_steps=2"),
    )
    assert result.returncode == 0, result.stderr
    return out


@cache
def duration_ms() -> int:
    """Return how long the audio is."""
    return round(1000 * samples_to_seconds(len(load_audio(SONNET))))


def transcribe(out: Path, formats: str, *options: str | Path) -> Path:
    """Transcribe the sonnet with the embedded model; return its results, without suffix."""
    result = run_forked(
        *("transcribe", SONNET, "--lang", "eng_Latn", "--threads", "1", "--output-dir", out),
        *("--format", formats, *options),
    )
    assert result.returncode == 0, result.stderr
    return out / SONNET.stem


def read_srt(path: Path) -> list[Cue]:
    events = pysubs2.load(str(path.with_suffix(".srt")), keep_html_tags=True)
    return [Cue(event.start, event.end, event.text.replace(r"\N", "\n")) for event in events]


def read_vtt(path: Path) -> list[Cue]:
    captions = webvtt.read(str(path.with_suffix(".vtt")))
    return [
        Cue(_vtt_ms(caption.start), _vtt_ms(caption.end), html.unescape(caption.raw_text))
        for caption in captions.captions
    ]


def _vtt_ms(time: str) -> int:
    hours, minutes, seconds = time.split(":")
    return round(1000 * (3600 * int(hours) + 60 * int(minutes) + float(seconds)))


def read_tsv(path: Path) -> list[Cue]:
    with path.with_suffix(".tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [Cue(int(row["start"]), int(row["end"]), row["text"]) for row in rows]


def read_json(path: Path) -> list[dict[str, Any]]:
    record = json.loads(path.with_suffix(".json").read_text("utf-8"))
    segments: list[dict[str, Any]] = record["segments"]
    assert record["text"] == "".join(segment["text"] for segment in segments).strip()
    assert round(1000 * record["duration"]) == duration_ms()
    return segments


def spans_of(rows: list[dict[str, Any]], key: str) -> list[Cue]:
    """Return segments or words as cues."""
    return [Cue(round(1000 * r["start"]), round(1000 * r["end"]), r[key]) for r in rows]


def words_of(cues: list[Cue]) -> list[str]:
    """Return the words of cues, in order."""
    return [word for cue in cues for word in cue.text.split()]


def assert_in_order(cues: list[Cue], shortest: int = 1) -> None:
    """Check that cues follow each other within the audio, and last for so many milliseconds."""
    assert len(cues) > 5
    assert all(cue.end - cue.start >= shortest for cue in cues)
    assert all(before.end <= after.start for before, after in pairwise(cues))
    assert cues[0].start >= 0
    assert cues[-1].end <= duration_ms()


def assert_narrow(cues: list[Cue]) -> None:
    """Check that each cue is one line of so many columns, or one word that is wider."""
    for cue in cues:
        text = re.sub("</?u>", "", cue.text)
        assert "\n" not in text
        assert len(text) <= WIDTH or len(text.split()) == 1, text


@pytest.mark.parametrize("aligner", ["own", "other"])
def test_all_formats_tell_the_same(ctc: Path, tmp_path: Path, aligner: str) -> None:
    more = ("--aligner", ctc) if aligner == "other" else ()
    path = transcribe(tmp_path / "out", "txt,srt,vtt,tsv,json", *more)
    words = path.with_suffix(".txt").read_text("utf-8").split()
    assert len(words) > 50
    segments = read_json(path)
    timed = spans_of([word for segment in segments for word in segment["words"]], "word")
    for cues in (read_srt(path), read_vtt(path), read_tsv(path), spans_of(segments, "text"), timed):
        assert words_of(cues) == words
        assert_in_order(cues, shortest=0 if cues is timed else 1)
    assert read_srt(path) == read_vtt(path)
    assert all(cue.text.count("\n") < 2 for cue in read_srt(path))
    assert [cue.text for cue in read_tsv(path)] == [segment["text"].strip() for segment in segments]
    firsts = [cue.text.split()[0] for cue in read_srt(path)]
    for cue, first in zip(read_srt(path), firsts, strict=True):
        near = [word for word in timed if abs(word.start - cue.start) <= 1]  # halves are rounded
        assert first in [word.text.strip() for word in near]


def test_highlighted_words_in_narrow_lines(tmp_path: Path) -> None:
    formats, options = "txt,srt,vtt", ("--highlight-words", *NARROW)
    path = transcribe(tmp_path / "out", formats, *options)
    words = path.with_suffix(".txt").read_text("utf-8").split()
    cues = read_srt(path)
    assert cues == read_vtt(path)
    assert_in_order(cues)
    assert_narrow(cues)
    assert [word for cue in cues for word in re.findall("<u>(.*?)</u>", cue.text)] == words
    assert all(cue.text.count("<u>") <= 1 for cue in cues)


def test_narrow_lines(tmp_path: Path) -> None:
    path = transcribe(tmp_path / "out", "txt,srt,vtt", *NARROW)
    cues = read_srt(path)
    assert cues == read_vtt(path)
    assert_in_order(cues)
    assert_narrow(cues)
    assert words_of(cues) == path.with_suffix(".txt").read_text("utf-8").split()
    one_line = transcribe(tmp_path / "wide", "srt", "--max-line-width", "40")
    assert len(read_srt(one_line)) < len(cues)
