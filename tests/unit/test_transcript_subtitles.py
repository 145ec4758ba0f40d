"""What is written is what other people's parsers read, whatever was said."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import pysubs2
import pytest
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from wavellama.text.words import split_words
from wavellama.transcript.pieces import count_columns
from wavellama.transcript.types import Segment, Transcript, Word
from wavellama.transcript.writers import FORMATS, WriterOptions

PLAIN = WriterOptions()

SPACED = (
    *("one", "two,", "it's", "Äh", "e\u0301te\u0301", "это", "Ελλάδα.", "नमस्ते", "한국어", "x" * 30),
    *("שָׁלוֹם", "مرحبا", "\u200fab\u200e", "👍🏽", "👩\u200d👩\u200d👧", "🇩🇪", "𝔘", "ﬁn", "…", "“a”"),
    *("<i>", "</u>", "<00:01.000>", "-->", "--->", "->", "{\\an8}", "WEBVTT", "NOTE", "STYLE"),
    *('"', '"a', "a;b", "\\", "#", "-", "A&B", "&amp;"),
)

UNSPACED = (
    *"你好世界スーパー",
    *("好，", "。", "“世", "เก็", "บ", "น้ำ", "ကျော", "ភា", "བོད་", "ｱ", "か\u3099"),
)

ODD = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Z", "Nd"), exclude_characters="\\"),
    min_size=1,
    max_size=8,
)
r"""Anything but what pysubs2 takes for something else: digits alone in a last line for the number
of the next cue, and \N for the end of a line."""

SPACES = (" ", "  ", "\t", "\n", "\r\n", " \n\n ", "\u2028", "\x85", "\x0b", "\u3000", "\xa0")


class Cue(NamedTuple):
    start: int
    end: int
    text: str


@st.composite
def spelled_texts(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Words, each with the space before it."""
    words = draw(st.lists(st.sampled_from(SPACED + UNSPACED) | ODD, max_size=12))
    spaces = [draw(st.sampled_from(SPACES)) for _ in words]
    return [
        ("" if {word, before} <= set(UNSPACED) else space, word)
        for space, word, before in zip(spaces, words, ["", *words], strict=False)
    ]


@st.composite
def segments(draw: st.DrawFn, start: float, with_words: bool, tidy: bool) -> Segment:
    """A segment; unless tidy, its times may lie anywhere near ``start``."""
    spelled = draw(spelled_texts())
    step = st.floats(0.002, 5) if tidy else st.floats(-1, 1)
    words, time = [], start
    for _, word in spelled:
        begin = time + draw(step)
        time = begin + draw(step)
        words.append(Word(word, begin, time, draw(st.none() | st.floats(0, 1))))
    end = time if tidy else start + draw(step)
    text = "".join(space + word for space, word in spelled) + draw(st.sampled_from(["", " \n"]))
    return Segment(text=text, start=start, end=end, words=tuple(words) if with_words else ())


@st.composite
def transcripts(draw: st.DrawFn, tidy: bool = False) -> Transcript:
    time = draw(st.sampled_from([0.0, 3598.0, 86_400.0]))
    with_words = draw(st.booleans())
    found: list[Segment] = []
    for _ in range(draw(st.integers(0, 4))):
        found.append(draw(segments(time, with_words, tidy)))
        time = max(time, found[-1].end + 0.01)
    return Transcript(source="a.wav", index=0, segments=tuple(found), duration=time)


LAYOUTS = st.one_of(
    st.just(PLAIN),
    st.builds(WriterOptions, st.integers(1, 45)),
    st.builds(WriterOptions, st.integers(1, 45), st.integers(1, 3)),
)


def write(name: str, transcript: Transcript, options: WriterOptions = PLAIN) -> str:
    return FORMATS[name].write(transcript, options)


def read_srt(text: str) -> list[Cue]:
    events = pysubs2.SSAFile.from_string(text, format_="srt", keep_html_tags=True)
    return [Cue(event.start, event.end, event.text.replace(r"\N", "\n")) for event in events]


def read_vtt(text: str) -> list[Cue]:
    captions = webvtt.from_string(text, strict=True)
    return [
        Cue(
            caption.start_time.in_milliseconds(),
            caption.end_time.in_milliseconds(),
            "\n".join(caption.lines),
        )
        for caption in captions.captions
    ]


def read_vtt_again(text: str) -> list[Cue]:
    events = pysubs2.SSAFile.from_string(text, format_="vtt", keep_html_tags=True)
    return [Cue(event.start, event.end, event.text.replace(r"\N", "\n")) for event in events]


def letters(text: str) -> str:
    """All but the white space."""
    return "".join(text.split())


def spoken(transcript: Transcript) -> list[str]:
    return [text for segment in transcript.segments if (text := segment.text.strip())]


def short_arrows(text: str) -> str:
    return re.sub("-+->", "->", text)


def without_underline(text: str) -> str:
    return re.sub("</?u>", "", text)


def check_times(cues: list[Cue]) -> None:
    assert all(0 <= cue.start < cue.end for cue in cues)
    assert all(before.end <= after.start for before, after in pairwise(cues))


@given(transcripts(), LAYOUTS)
def test_srt(transcript: Transcript, options: WriterOptions) -> None:
    text = write("srt", transcript, options)
    cues = read_srt(text)
    check_times(cues)
    said = letters("".join(cue.text for cue in cues))
    assert short_arrows(said) == short_arrows(letters("".join(spoken(transcript))))
    assert not any("-->" in cue.text for cue in cues)
    numbers = [block.split("\n")[0] for block in text.split("\n\n")[:-1]]
    assert numbers == [str(i + 1) for i in range(len(cues))]


@given(transcripts(), LAYOUTS)
def test_vtt(transcript: Transcript, options: WriterOptions) -> None:
    text = write("vtt", transcript, options)
    cues = read_vtt(text)
    check_times(cues)
    said = html.unescape("".join(cue.text for cue in cues))
    assert letters(said) == letters("".join(spoken(transcript)))
    assert cues == read_vtt_again(text)


@given(transcripts())
def test_both_kinds_of_subtitles_show_the_same_at_the_same_time(transcript: Transcript) -> None:
    options = WriterOptions(20, 2)
    srt, vtt = (write(name, transcript, options) for name in ("srt", "vtt"))
    assert read_srt(srt) == [
        cue._replace(text=short_arrows(html.unescape(cue.text))) for cue in read_vtt(vtt)
    ]


@given(transcripts())
def test_every_segment_is_a_cue_without_options(transcript: Transcript) -> None:
    cues = read_vtt(write("vtt", transcript))
    assert [letters(html.unescape(cue.text)) for cue in cues] == [
        letters(text) for text in spoken(transcript)
    ]


@given(transcripts(), LAYOUTS)
def test_lines_and_cues_are_no_larger_than_asked(
    transcript: Transcript, options: WriterOptions
) -> None:
    whole = {word.text for segment in transcript.segments for word in segment.words}
    for cue in read_vtt(write("vtt", transcript, options)):
        lines = html.unescape(cue.text).split("\n")
        assert len(lines) <= (options.max_line_count or (1 if options == PLAIN else 1000))
        for line in lines:
            too_wide = count_columns(line) > (options.max_line_width or 1000)
            assert not too_wide or line in {*SPACED, *UNSPACED, *whole} or is_one_piece(line)


def is_one_piece(line: str) -> bool:
    """Return whether a line has no place to end: no space, and at most one letter without space."""
    return not re.search(r"\s", line) and len(split_words(line)) <= 1


@given(transcripts(tidy=True))
def test_words_are_shown_when_they_are_spoken(transcript: Transcript) -> None:
    with_words = [segment for segment in transcript.segments if segment.words]
    transcript = replace(transcript, segments=tuple(with_words))
    cues = read_vtt(write("vtt", transcript, WriterOptions(1, 1)))
    words = [word for segment in with_words for word in segment.words]
    shown = [html.unescape(cue.text) for cue in cues]
    assert shown == [word.text for word in words]
    for cue, word in zip(cues, words, strict=True):
        assert (cue.start, cue.end) == (round(word.start * 1000), round(word.end * 1000))


@given(transcripts(), st.none() | st.integers(1, 45))
def test_each_word_is_highlighted_once_in_its_order(
    transcript: Transcript, width: int | None
) -> None:
    with_words = tuple(segment for segment in transcript.segments if segment.words)
    transcript = replace(transcript, segments=with_words)
    options = WriterOptions(width, None if width is None else 2, highlight_words=True)
    cues = read_vtt(write("vtt", transcript, options))
    check_times(cues)
    found = [re.findall("<u>(.*?)</u>", cue.text) for cue in cues]
    assert all(len(words) <= 1 for words in found)
    said = [word.text for segment in with_words for word in segment.words]
    assert [html.unescape(word) for words in found for word in words] == said
    plain = read_vtt(write("vtt", transcript, replace(options, highlight_words=False)))
    if width is not None:  # else long pauses end cues that are one otherwise
        assert {without_underline(cue.text) for cue in cues} == {cue.text for cue in plain}


@given(transcripts())
def test_tsv(transcript: Transcript) -> None:
    table = io.StringIO(write("tsv", transcript), newline="")
    rows = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [letters(row["text"]) for row in rows] == [letters(text) for text in spoken(transcript)]
    assert all(0 <= int(row["start"]) <= int(row["end"]) for row in rows)
    assert all(set(row) == {"start", "end", "text"} for row in rows)


@given(transcripts())
def test_txt(transcript: Transcript) -> None:
    lines = write("txt", transcript).splitlines()
    assert [letters(line) for line in lines] == [letters(text) for text in spoken(transcript)]


@pytest.mark.parametrize("name", ["json", "jsonl"])
@given(transcript=transcripts())
def test_json(name: str, transcript: Transcript) -> None:
    lines = write(name, transcript).splitlines()
    assert len(lines) == 1
    record = json.loads(lines[0])
    assert record["text"] == transcript.text
    for row, segment in zip(record["segments"], transcript.segments, strict=True):
        assert row["text"] == segment.text
        words = row.get("words", [])
        assert len(words) == len(segment.words)
        assert not words or "".join(word["word"] for word in words) == segment.text
        for found, word in zip(words, segment.words, strict=True):
            assert word.text in found["word"]
            assert 0 <= found["start"] <= found["end"]
