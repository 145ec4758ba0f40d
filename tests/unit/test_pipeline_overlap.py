"""Windows that overlap, joined into one text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavellama.pipeline.overlap import Seam, find_seam, join_windows
from wavellama.transcript.types import Alternative, Segment, Word


def segment(text: str, start: float, end: float, words: tuple[Word, ...] = ()) -> Segment:
    return Segment(text=text, start=start, end=end, words=words)


def timed(*words: tuple[str, float]) -> Segment:
    """Return a segment of words of 0.4 s."""
    places = tuple(Word(text, start, start + 0.4, 0.5) for text, start in words)
    text = " ".join(text for text, _ in words)
    return segment(text, places[0].start, places[-1].end, places)


def test_what_both_heard_is_written_once() -> None:
    left = segment("it was the best of times, it", 0.0, 10.0)
    right = segment("Times it was the worst", 8.0, 18.0)
    joined = join_windows(left, right, (8.0, 10.0))
    assert [part.text for part in joined] == ["it was the best of times, it", "was the worst"]


def test_texts_that_do_not_meet_stay_as_they_are() -> None:
    left, right = segment("one two", 0.0, 10.0), segment("three four", 8.0, 18.0)
    assert [part.text for part in join_windows(left, right, (8.0, 10.0))] == [
        "one two",
        "three four",
    ]


def test_only_words_near_the_edges_are_looked_at() -> None:
    left = segment("no " * 12 + "yes", 0.0, 30.0)
    right = segment("yes " + "no " * 12, 28.0, 58.0)
    first, second = join_windows(left, right, (28.0, 30.0))
    assert first.text.count("no") >= 9
    assert second.text.count("no") >= 9


def test_characters_are_words_where_there_are_no_spaces() -> None:
    left = Segment(text="今日は天気が", start=0.0, end=6.0, language="jpn_Jpan")
    right = Segment(text="天気がいいですね", start=4.0, end=10.0, language="jpn_Jpan")
    joined = join_windows(left, right, (4.0, 6.0))
    assert [part.text for part in joined] == ["今日は天気が", "いいですね"]


@pytest.mark.parametrize("is_timed", [False, True])
def test_what_is_known_of_the_whole_window_is_not_said_of_a_part(is_timed: bool) -> None:
    left = timed(("one", 7.0), ("two", 8.3))
    right = timed(("two", 8.3), ("three", 11.0))
    known = {
        "tokens": (5, 6),
        "avg_logprob": -0.1,
        "confidence": 0.9,
        "alternatives": (Alternative("two three", -0.2),),
    } | ({} if is_timed else {"words": ()})
    parts = [replace(one, **known) for one in (left, right)]  # type: ignore[arg-type]
    whole, cut = join_windows(parts[0], parts[1], (8.0, 10.0))
    assert whole == parts[0]
    assert (cut.text, cut.tokens, cut.alternatives, cut.avg_logprob) == ("three", (), (), -0.1)
    assert cut.confidence == (0.5 if is_timed else 0.9), "of its words, or of the window"


def test_word_times_decide_where_there_are_some() -> None:
    left = timed(("a", 7.0), ("b", 8.1), ("c", 9.2))
    right = timed(("bee", 8.2), ("see", 9.3), ("d", 10.5))
    first, second = join_windows(left, right, (8.0, 10.0))
    assert (first.text, second.text) == ("a b", "see d")
    assert first.end == pytest.approx(8.5)
    assert second.start == pytest.approx(9.3)
    assert [word.text for word in second.words] == ["see", "d"]


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=12)


@given(
    before=WORDS, shared=st.lists(st.sampled_from("uvwxyz"), min_size=1, max_size=6), after=WORDS
)
def test_a_common_stretch_is_found_wherever_it_is(
    before: list[str], shared: list[str], after: list[str]
) -> None:
    left, right = [*before, *shared], [*shared, *after]
    seam = find_seam(left, right, len(shared), len(shared))
    assert left[: seam.keep_left] + right[seam.drop_right :] == [*before, *shared, *after]


def test_nothing_in_common() -> None:
    assert find_seam(["a"], ["b"], 1, 1) == Seam(1, 0)
    assert find_seam([], [], 2, 2) == Seam(0, 0)
