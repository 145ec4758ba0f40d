"""Each format's exact text, and what each option does to it."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from wavellama.errors import ConfigError, UnknownNameError
from wavellama.transcript.types import Alternative, Segment, Timings, Transcript, Word
from wavellama.transcript.writers import FORMATS, WriterOptions, find_formats, readable

PLAIN = WriterOptions()


def transcript(*segments: Segment, **more: Any) -> Transcript:
    return Transcript(source="talk.wav", index=0, segments=segments, duration=60.0, **more)


def segment(text: str, start: float, end: float, **more: Any) -> Segment:
    return Segment(text=text, start=start, end=end, **more)


def timed(text: str, *words: tuple[str, float, float]) -> Segment:
    """A segment whose words have times."""
    return segment(text, words[0][1], words[-1][2], words=tuple(Word(*word) for word in words))


TALK = transcript(segment("Good morning.", 0.0, 1.25), segment(" How are you?", 3661.5, 3662.0))

SONG = transcript(
    timed(
        " One two, three four", ("One", 0, 0.5), ("two,", 0.5, 1), ("three", 2, 3), ("four", 3, 4)
    )
)


def write(name: str, what: Transcript, options: WriterOptions = PLAIN) -> str:
    return FORMATS[name].write(what, options)


def vtt_blocks(what: Transcript, options: WriterOptions) -> list[tuple[str, str]]:
    """Times and text of each cue."""
    header, *blocks = write("vtt", what, options).removesuffix("\n\n").split("\n\n")
    assert header == "WEBVTT"
    return [(times, text) for times, _, text in (block.partition("\n") for block in blocks)]


def vtt_texts(what: Transcript, options: WriterOptions = PLAIN) -> list[str]:
    return [text for _, text in vtt_blocks(what, options)]


# Exact texts, as openai-whisper writes them.


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("txt", "Good morning.\nHow are you?\n"),
        (
            "srt",
            "1\n00:00:00,000 --> 00:00:01,250\nGood morning.\n\n"
            "2\n01:01:01,500 --> 01:01:02,000\nHow are you?\n\n",
        ),
        (
            "vtt",
            "WEBVTT\n\n00:00.000 --> 00:01.250\nGood morning.\n\n"
            "01:01:01.500 --> 01:01:02.000\nHow are you?\n\n",
        ),
        ("tsv", "start\tend\ttext\n0\t1250\tGood morning.\n3661500\t3662000\tHow are you?\n"),
    ],
)
def test_text_formats(name: str, text: str) -> None:
    assert write(name, TALK) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [("txt", ""), ("srt", ""), ("vtt", "WEBVTT\n\n"), ("tsv", "start\tend\ttext\n")],
)
@pytest.mark.parametrize("segments", [(), (segment(" \n", 1.0, 2.0),)])
def test_nothing_said(name: str, text: str, segments: tuple[Segment, ...]) -> None:
    assert write(name, transcript(*segments)) == text
    assert write(name, transcript(*segments), WriterOptions(20, 2, highlight_words=True)) == text


def test_json() -> None:
    said = segment(
        " 你 ab",
        1.23456,
        2.5,
        tokens=(7, 9),
        words=(Word("你", 1.23456, 2.0, 0.87654321), Word("ab", 2.0, 2.5)),
        alternatives=(Alternative(" 你 ab", -0.5), Alternative(" ab", -1.5)),
        avg_logprob=-0.25,
        confidence=0.75,
        no_speech_prob=0.125,
        language="cmn_Hans",
        language_probability=0.9,
        stop_reason="length",
    )
    whole = transcript(segment("", 0.0, 0.5), said, language="eng_Latn", language_probability=0.5)
    silent = {
        **{"id": 0, "seek": 0, "start": 0.0, "end": 0.5, "text": "", "tokens": []},
        **{"temperature": 0.0, "avg_logprob": None, "compression_ratio": 0.0},
        **{"no_speech_prob": None, "words": []},
        **{"confidence": None, "language": None, "language_probability": None},
        **{"stop_reason": "eos", "alternatives": []},
    }
    spoken = {
        **{"id": 1, "seek": 123, "start": 1.235, "end": 2.5, "text": " 你 ab", "tokens": [7, 9]},
        **{"temperature": 0.0, "avg_logprob": -0.25},
        **{"compression_ratio": round(said.compression_ratio, 6), "no_speech_prob": 0.125},
        "words": [
            {"word": " 你", "start": 1.235, "end": 2.0, "probability": 0.876543},
            {"word": " ab", "start": 2.0, "end": 2.5, "probability": None},
        ],
        **{"confidence": 0.75, "language": "cmn_Hans", "language_probability": 0.9},
        "stop_reason": "length",
        "alternatives": [{"text": " 你 ab", "score": -0.5}, {"text": " ab", "score": -1.5}],
    }
    text = write("json", whole)
    assert json.loads(text) == {
        **{"text": "你 ab", "segments": [silent, spoken], "language": "eng_Latn"},
        **{"language_probability": 0.5, "source": "talk.wav", "duration": 60.0},
        "timings": {"audio_secs": 0.0, "recognition_secs": 0.0, "alignment_secs": 0.0},
    }
    assert "你" in text  # readable without a JSON parser


def test_json_tells_where_the_time_went() -> None:
    record = json.loads(write("json", transcript(timings=Timings(1.5, 2.5, 0.25))))
    assert record["timings"] == {
        **{"audio_secs": 1.5, "recognition_secs": 2.5, "alignment_secs": 0.25}
    }


def test_json_has_words_only_where_they_were_asked_for() -> None:
    assert "words" not in json.loads(write("json", TALK))["segments"][0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_json_has_no_number_that_json_lacks(value: float) -> None:
    record = json.loads(write("json", transcript(segment("a", 0, 1, avg_logprob=value))))
    assert record["segments"][0]["avg_logprob"] is None


@pytest.mark.parametrize("name", ["json", "jsonl"])
def test_json_is_one_line_for_every_reader(name: str) -> None:
    text = write(name, transcript(segment("a\nb\r\u2028\u2029\x85\x0b\x1cc", 0, 1)))
    assert text.endswith("}\n")
    assert len(text.splitlines()) == 1
    assert json.loads(text)["segments"][0]["text"] == "a\nb\r\u2028\u2029\x85\x0b\x1cc"


# Odd texts.


@pytest.mark.parametrize("name", ["txt", "srt", "vtt", "tsv"])
def test_a_text_stays_in_its_line(name: str) -> None:
    lines = write(name, transcript(segment(" a\tb \r\n\n c\u2028d\x85e", 0, 1))).splitlines()
    assert [line.split("\t")[-1] for line in lines if "a b" in line] == ["a b c d e"]


def test_texts_are_not_taken_for_arrows_or_markup() -> None:
    odd = transcript(segment("a --> b ---> <i>c</i> &amp;", 0, 1))
    assert write("srt", odd).splitlines()[2] == "a -> b -> <i>c</i> &amp;"
    assert vtt_texts(odd) == ["a --&gt; b ---&gt; &lt;i&gt;c&lt;/i&gt; &amp;amp;"]


def test_an_arrow_of_two_words_is_none() -> None:
    odd = transcript(timed("--> x", ("--", 0, 1), (">", 1, 2), ("x", 2, 3)))
    assert write("srt", odd, WriterOptions(40)).splitlines()[2] == "-> x"


def test_highlighted_text_is_escaped_and_its_underline_is_not() -> None:
    options = WriterOptions(highlight_words=True)
    assert vtt_texts(transcript(timed("<a>", ("<a>", 0, 1))), options) == ["<u>&lt;a&gt;</u>"]


# Odd times.


@pytest.mark.parametrize(
    ("seconds", "srt", "vtt"),
    [
        (0.0004, "00:00:00,000", "00:00.000"),
        (59.9996, "00:01:00,000", "01:00.000"),
        (3599.9994, "00:59:59,999", "59:59.999"),
        (3599.9996, "01:00:00,000", "01:00:00.000"),
        (359_999.9999, "100:00:00,000", "100:00:00.000"),
    ],
)
def test_times_are_rounded_before_they_are_split(seconds: float, srt: str, vtt: str) -> None:
    one = transcript(segment("a", seconds, seconds + 1))
    assert write("srt", one).splitlines()[1].startswith(f"{srt} --> ")
    assert write("vtt", one).splitlines()[2].startswith(f"{vtt} --> ")


def test_cues_begin_at_zero_last_and_do_not_overlap() -> None:
    times = [(-0.5, 1.5), (1.0, 1.0), (1.0, 0.5), (1.0, 3.0), (2.0, 2.5)]
    cues = vtt_blocks(transcript(*(segment("a", *pair) for pair in times)), PLAIN)
    assert [time for time, _ in cues] == [
        "00:00.000 --> 00:01.000",
        "00:01.000 --> 00:01.001",
        "00:01.001 --> 00:01.002",
        "00:01.002 --> 00:02.000",
        "00:02.000 --> 00:02.500",
    ]


def test_tables_and_json_have_no_negative_times_or_durations() -> None:
    odd = transcript(segment("a", -1.0, -0.5), segment("b", 2.0, 1.0))
    assert write("tsv", odd).splitlines()[1:] == ["0\t0\ta", "2000\t2000\tb"]
    rows = json.loads(write("json", odd))["segments"]
    assert [(row["seek"], row["start"], row["end"]) for row in rows] == [(0, 0, 0), (200, 2, 2)]


# Layout.


def test_lines_are_broken_at_the_width() -> None:
    assert vtt_blocks(SONG, WriterOptions(9)) == [
        ("00:00.000 --> 00:04.000", "One two,\nthree\nfour")
    ]


def test_full_cues_are_followed_by_others_at_the_times_of_their_words() -> None:
    assert vtt_blocks(SONG, WriterOptions(9, 2)) == [
        ("00:00.000 --> 00:03.000", "One two,\nthree"),
        ("00:03.000 --> 00:04.000", "four"),
    ]


def test_a_line_is_as_wide_as_it_may_be_and_no_wider() -> None:
    assert vtt_texts(SONG, WriterOptions(10)) == ["One two,\nthree four"]
    assert vtt_texts(SONG, WriterOptions(7)) == ["One\ntwo,\nthree\nfour"]


def test_a_word_is_never_cut() -> None:
    assert vtt_texts(SONG, WriterOptions(2, 3)) == ["One\ntwo,\nthree", "four"]


@pytest.mark.parametrize(("pause", "texts"), [(3.0, ["a b"]), (3.001, ["a", "b"])])
def test_a_long_pause_ends_a_cue(pause: float, texts: list[str]) -> None:
    what = transcript(timed("a b", ("a", 0, 1), ("b", 1 + pause, 5)))
    assert vtt_texts(what, WriterOptions(40)) == texts


def test_the_end_of_a_segment_ends_a_cue() -> None:
    what = transcript(timed("a", ("a", 0, 1)), timed(" b", ("b", 1, 2)))
    assert vtt_texts(what, WriterOptions(40, 2)) == ["a", "b"]


def test_wide_characters_take_two_columns() -> None:
    what = transcript(timed("你好世界", *((char, i, i + 1) for i, char in enumerate("你好世界"))))
    assert vtt_texts(what, WriterOptions(5)) == ["你好\n世界"]
    assert vtt_texts(what, WriterOptions(4)) == ["你好\n世界"]


def test_without_word_times_cues_share_the_time_of_their_segment_by_characters() -> None:
    what = transcript(segment(" aaaa bb cccc dddddddddd", 10.0, 20.0))
    assert vtt_blocks(what, WriterOptions(10, 1)) == [
        ("00:10.000 --> 00:13.000", "aaaa bb"),
        ("00:13.000 --> 00:15.000", "cccc"),
        ("00:15.000 --> 00:20.000", "dddddddddd"),
    ]


def test_highlighted_words() -> None:
    assert vtt_blocks(SONG, WriterOptions(9, 2, highlight_words=True)) == [
        ("00:00.000 --> 00:00.500", "<u>One</u> two,\nthree"),
        ("00:00.500 --> 00:01.000", "One <u>two,</u>\nthree"),
        ("00:01.000 --> 00:02.000", "One two,\nthree"),
        ("00:02.000 --> 00:03.000", "One two,\n<u>three</u>"),
        ("00:03.000 --> 00:04.000", "<u>four</u>"),
    ]


def test_one_of_two_equal_words_is_highlighted() -> None:
    what = transcript(timed("no no", ("no", 0, 1), ("no", 1, 2)))
    options = WriterOptions(highlight_words=True)
    assert vtt_texts(what, options) == ["<u>no</u> no", "no <u>no</u>"]


def test_segments_without_word_times_are_shown_among_highlighted_ones() -> None:
    what = transcript(*SONG.segments, segment("five six", 5, 6))
    assert vtt_texts(what, WriterOptions(highlight_words=True))[-1] == "five six"


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_words_without_times_cannot_be_highlighted(name: str) -> None:
    with pytest.raises(ConfigError, match=r"talk\.wav: .*`word_timestamps`"):
        write(name, TALK, WriterOptions(highlight_words=True))


# What may be asked for.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0,), "`max_line_width` must be at least 1, but is 0"),
        ((40, -1), "`max_line_count` must be at least 1, but is -1"),
        ((None, 2), "`max_line_count` 2 has no effect .* set `max_line_width`"),
    ],
)
def test_options_that_mean_nothing(values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WriterOptions(*values)


def test_options_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        PLAIN.max_line_width = 3  # type: ignore[misc]


def test_formats_are_a_list() -> None:
    assert list(find_formats("srt, txt,,srt")) == ["srt", "txt"]
    assert list(find_formats(",".join(FORMATS))) == list(FORMATS)


def test_an_unknown_format_is_named_with_its_neighbours() -> None:
    with pytest.raises(
        UnknownNameError, match=r"stt is not .* Did you mean .*srt.* Choose from txt"
    ):
        find_formats("txt,stt")


@pytest.mark.parametrize("names", ["", " , "])
def test_no_format(names: str) -> None:
    with pytest.raises(ConfigError, match="names no format"):
        find_formats(names)


@pytest.mark.parametrize("options", [WriterOptions(40), WriterOptions(highlight_words=True)])
def test_options_that_no_format_reads(options: WriterOptions) -> None:
    with pytest.raises(ConfigError, match=r"txt and json cannot honour .* only srt and vtt can"):
        readable(options, find_formats("txt,json"))
    assert readable(options, find_formats("txt,srt")).max_line_width in (40, 42)
    assert readable(PLAIN, find_formats("txt,json")) == PLAIN


@pytest.mark.parametrize("name", ["txt", "tsv", "json", "jsonl"])
def test_formats_without_layout_are_the_same_with_every_option(name: str) -> None:
    assert write(name, SONG, WriterOptions(2, 1, highlight_words=True)) == write(name, SONG)


@pytest.mark.parametrize("start", [samples / 16_000 for samples in range(8, 160_000, 9_992)])
def test_all_formats_round_times_alike(start: float) -> None:
    """Times between two milliseconds once were rounded otherwise in JSON than in subtitles."""
    talk = transcript(segment("Here.", start, start + 1))
    _, times, *_ = write("srt", talk).split("\n")
    _, row, _ = write("tsv", talk).split("\n")
    (record,) = json.loads(write("json", talk))["segments"]
    milliseconds = row.split("\t")[:2]
    assert [str(round(record[end] * 1000)) for end in ("start", "end")] == milliseconds
    assert [int(time.rpartition(":")[2].replace(",", "")) for time in times.split(" --> ")] == [
        int(time) for time in milliseconds
    ]
