"""Audio in chunks: nothing that is said is lost, and nothing comes twice."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wavellama.audio.chunks import (
    MARGIN_SAMPLES,
    MAX_GAP_SAMPLES,
    Chunk,
    HeldAudio,
    cut_at_silence,
    cut_fixed,
)
from wavellama.audio.load import load_audio
from wavellama.audio.vad import VadOptions, detect_speech
from wavellama.errors import ConfigError
from wavellama.units import MIN_SAMPLES, SAMPLE_RATE, seconds_to_samples

AUDIO = Path(str(files("wavellama.assets"))) / "corpora" / "mini" / "audio"


@lru_cache
def _clips() -> list[Tensor]:
    """Real speech in three languages, and noise."""
    sonnet = load_audio(AUDIO / "sonnet.ogg")
    clips = [load_audio(path) for path in sorted(AUDIO.glob("*/*/*.ogg"))[::150]]
    noise = 0.05 * torch.randn(SAMPLE_RATE, generator=torch.Generator().manual_seed(0))
    return [*(clip[: 5 * SAMPLE_RATE] for clip in clips), sonnet[: 8 * SAMPLE_RATE], noise]


@st.composite
def recordings(draw: st.DrawFn) -> Tensor:
    """Clips with silences before, between and after them."""
    gaps = st.sampled_from([0, 1, 3_000, 9_001, 31_000, 34_000, 70_000])
    parts = [torch.zeros(draw(gaps))]
    for place in draw(st.lists(st.integers(0, len(_clips()) - 1), max_size=5)):
        parts += [_clips()[place], torch.zeros(draw(gaps))]
    return torch.cat(parts)


def _blocks(audio: Tensor, size: int) -> Iterator[Tensor]:
    for begin in range(0, len(audio), size):
        yield audio[begin : begin + size]


def _spans(chunks: list[Chunk]) -> list[tuple[int, int]]:
    return [(chunk.start, chunk.end) for chunk in chunks]


# Margins


@pytest.mark.parametrize(
    ("next_start", "room", "before", "after"),
    [
        pytest.param(None, 9_999, MARGIN_SAMPLES, MARGIN_SAMPLES, id="enough"),
        pytest.param(6_000, 9_999, MARGIN_SAMPLES, 0, id="speech goes on"),
        pytest.param(6_100, 9_999, MARGIN_SAMPLES, 50, id="half the silence"),
        pytest.param(None, MARGIN_SAMPLES + 7, MARGIN_SAMPLES, 7, id="what fits"),
        pytest.param(None, 7, 7, 0, id="little fits"),
        pytest.param(None, 0, 0, 0, id="nothing fits"),
    ],
)
def test_margins(next_start: int | None, room: int, before: int, after: int) -> None:
    held = HeldAudio()
    held.append(torch.zeros(16_000))
    start, end = held.with_margin(5_000, 6_000, next_start, 1_000 + room)
    assert (5_000 - start, end - 6_000) == (before, after)


def test_margins_end_where_the_audio_does() -> None:
    held = HeldAudio()
    held.append(torch.zeros(16_000))
    held.drop_before(4_990)
    assert held.with_margin(5_000, 15_980, None, 16_000) == (4_990, 16_000)


# At silences


@given(recordings(), st.floats(0.5, 12), st.integers(300, 300_000))
def test_chunks_hold_all_speech(audio: Tensor, max_secs: float, block_size: int) -> None:
    chunks = list(cut_at_silence(_blocks(audio, block_size), max_secs))
    _check_order_and_length(chunks, audio, seconds_to_samples(max_secs))
    covered = torch.zeros(len(audio), dtype=torch.bool)
    for chunk in chunks:
        covered[chunk.start : chunk.end] = True
    for region in detect_speech(audio)[0]:
        assert bool(covered[region.start : region.end].all())


@given(recordings(), st.floats(0.5, 12), st.integers(300, 300_000))
def test_chunks_do_not_depend_on_the_blocks(
    audio: Tensor, max_secs: float, block_size: int
) -> None:
    chunks = list(cut_at_silence(_blocks(audio, block_size), max_secs))
    others = list(cut_at_silence([audio], max_secs))
    assert _spans(chunks) == _spans(others)
    assert [chunk.regions for chunk in chunks] == [other.regions for other in others]


@given(recordings(), st.floats(0.5, 12))
def test_regions_and_silences_of_chunks(audio: Tensor, max_secs: float) -> None:
    for chunk in cut_at_silence([audio], max_secs):
        assert chunk.regions
        assert chunk.speech_probability is not None
        assert 0 < chunk.speech_probability <= 1
        assert 0 <= chunk.regions[0].start - chunk.start <= MARGIN_SAMPLES
        assert 0 <= chunk.end - chunk.regions[-1].end <= MARGIN_SAMPLES
        for first, second in pairwise(chunk.regions):
            assert 0 <= second.start - first.end <= MAX_GAP_SAMPLES


def _check_order_and_length(chunks: list[Chunk], audio: Tensor, max_samples: int) -> None:
    assert all(first.end <= second.start for first, second in pairwise(chunks))
    for chunk in chunks:
        assert MIN_SAMPLES < len(chunk.waveform) <= max_samples
        assert torch.equal(chunk.waveform, audio[chunk.start : chunk.end])


def test_regions_that_fit_are_those_of_the_detector() -> None:
    sonnet = load_audio(AUDIO / "sonnet.ogg")
    for options in (VadOptions(), VadOptions(threshold=0.9, min_silence_ms=400)):
        chunks = list(cut_at_silence([sonnet], 30, options))
        assert sum((chunk.regions for chunk in chunks), ()) == detect_speech(sonnet, options)[0]
        assert 2 <= len(chunks) <= 3


def test_cuts_lie_in_the_middle_of_silences() -> None:
    line = load_audio(AUDIO / "sonnet.ogg")[round(2.5 * SAMPLE_RATE) : round(5.8 * SAMPLE_RATE)]
    gap = torch.zeros(1_600)
    chunks = list(cut_at_silence([torch.cat([line, gap, line, gap, line])], 5))
    assert len(chunks) == 3
    for first, second in pairwise(chunks):
        silence = first.regions[-1].end, second.regions[0].start
        assert first.end == pytest.approx(min(sum(silence) / 2, silence[0] + MARGIN_SAMPLES), abs=1)
        assert second.start == pytest.approx(
            max(sum(silence) / 2, silence[1] - MARGIN_SAMPLES), abs=1
        )


def test_a_long_silence_is_left_out() -> None:
    line = load_audio(AUDIO / "sonnet.ogg")[round(2.5 * SAMPLE_RATE) : round(5.8 * SAMPLE_RATE)]
    apart = torch.cat([line, torch.zeros(10 * SAMPLE_RATE), line])
    chunks = list(cut_at_silence([apart], 30))
    assert len(chunks) == 2
    assert sum(len(chunk.waveform) for chunk in chunks) < 2 * len(line)
    together = torch.cat([line, torch.zeros(SAMPLE_RATE), line])
    assert len(list(cut_at_silence([together], 30))) == 1


@pytest.mark.parametrize("num_samples", [0, 1, 399, 400, 401, 16_000, 400_000])
def test_audio_without_speech_yields_nothing(num_samples: int) -> None:
    assert not list(cut_at_silence([torch.zeros(num_samples)], 30))
    assert not list(cut_at_silence([], 30))


def test_a_chunk_comes_before_all_audio_has_been_read() -> None:
    sonnet = load_audio(AUDIO / "sonnet.ogg")
    num_read = 0

    def blocks() -> Iterator[Tensor]:
        nonlocal num_read
        for _ in range(100):
            num_read += len(sonnet)
            yield sonnet

    first = next(cut_at_silence(blocks(), 10))
    assert first.start < SAMPLE_RATE
    assert num_read == len(sonnet)


def test_a_copy_is_given_away() -> None:
    sonnet = load_audio(AUDIO / "sonnet.ogg")
    before = sonnet.clone()
    for chunk in cut_at_silence([sonnet], 5):
        chunk.waveform.zero_()
    assert torch.equal(sonnet, before)


def test_half_a_second_is_the_least() -> None:
    with pytest.raises(ConfigError, match="8000"):
        next(cut_at_silence([torch.zeros(16_000)], 0.49))


# Windows


@given(
    st.integers(1, 200_000),
    st.integers(402, 50_000),
    st.floats(0, 0.9),
    st.integers(300, 200_000),
)
def test_windows(num_samples: int, window: int, overlap_share: float, block_size: int) -> None:
    audio = torch.arange(num_samples, dtype=torch.float32)
    overlap = round(window * overlap_share)
    secs = window / SAMPLE_RATE, overlap / SAMPLE_RATE
    chunks = list(cut_fixed(_blocks(audio, block_size), *secs))
    assert _spans(chunks) == _spans(list(cut_fixed([audio], *secs)))
    assert chunks[0].start == 0
    assert chunks[-1].end == num_samples
    for chunk in chunks:
        assert torch.equal(chunk.waveform, audio[chunk.start : chunk.end])
        assert (chunk.regions, chunk.speech_probability) == ((), None)
    assert all(len(chunk.waveform) == window for chunk in chunks[:-1])
    for first, second in pairwise(chunks[:-1]):
        assert second.start == first.start + window - overlap
    if len(chunks) > 1:
        assert chunks[-2].start < chunks[-1].start <= chunks[-2].end - overlap
        assert window // 3 <= len(chunks[-1].waveform) <= window


@pytest.mark.parametrize(("num_samples", "count"), [(15_999, 1), (16_000, 1), (16_001, 2)])
def test_audio_that_fits_is_one_chunk(num_samples: int, count: int) -> None:
    chunks = list(cut_fixed([torch.ones(num_samples)], 1.0, 0.1))
    assert len(chunks) == count


def test_nothing_gives_no_window() -> None:
    assert not list(cut_fixed([], 1.0, 0.1))


@pytest.mark.parametrize("overlap_secs", [1.0, 2.0, -1 / 16_000])
def test_windows_that_would_not_advance(overlap_secs: float) -> None:
    with pytest.raises(ConfigError, match="overlap"):
        next(cut_fixed([torch.ones(16_000)], 1.0, overlap_secs))
