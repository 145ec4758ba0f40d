"""Voice detection: silero's regions, however the audio arrives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wavellama.audio.load import load_audio
from wavellama.audio.regions import WINDOW_SAMPLES, RegionFinder, mean_probability
from wavellama.audio.vad import SpeechDetector, SpeechRegion, VadOptions, detect_speech
from wavellama.errors import ConfigError

AUDIO = Path(str(files("wavellama.assets"))) / "corpora" / "mini" / "audio"


@pytest.fixture(scope="module")
def sonnet() -> Tensor:
    return load_audio(AUDIO / "sonnet.ogg")


@pytest.fixture(scope="module")
def silero() -> Any:
    """The package and its own model; importing it sets torch's threads, to one as the tests do."""
    package: Any = import_module("silero_vad")
    return package, package.load_silero_vad()


def _spans(regions: Any) -> list[tuple[int, int]]:
    return [(region.start, region.end) for region in regions]


def _silero_names(options: VadOptions) -> dict[str, Any]:
    return {
        "threshold": options.threshold,
        "neg_threshold": options.neg_threshold,
        "min_speech_duration_ms": options.min_speech_ms,
        "min_silence_duration_ms": options.min_silence_ms,
        "speech_pad_ms": options.speech_pad_ms,
    }


# Against silero


@pytest.mark.parametrize(
    "options",
    [
        VadOptions(),
        VadOptions(threshold=0.8, neg_threshold=0.3),
        VadOptions(min_speech_ms=1000, min_silence_ms=500),
        VadOptions(min_silence_ms=32, speech_pad_ms=200),
    ],
    ids=str,
)
def test_the_sonnet_has_sileros_regions(sonnet: Tensor, silero: Any, options: VadOptions) -> None:
    package, model = silero
    noisy = sonnet + 0.01 * torch.randn(len(sonnet))
    for waveform in (sonnet, noisy, sonnet[: 20 * 16_000 + 77]):
        expected = package.get_speech_timestamps(waveform, model, **_silero_names(options))
        regions, _ = detect_speech(waveform, options)
        assert _spans(regions) == [(region["start"], region["end"]) for region in expected]
        assert regions


def test_short_clips_have_sileros_regions(silero: Any) -> None:
    package, model = silero
    clips = sorted(AUDIO.glob("*/*/*.ogg"))[::40]
    assert len(clips) > 20
    for clip in clips:
        waveform = load_audio(clip)
        expected = package.get_speech_timestamps(waveform, model)
        regions, _ = detect_speech(waveform)
        assert _spans(regions) == [(region["start"], region["end"]) for region in expected]


@st.composite
def window_probabilities(draw: st.DrawFn) -> list[float]:
    """Stretches of speech and silence, with values between that are neither."""
    levels = st.sampled_from([0.01, 0.2, 0.4, 0.49, 0.5, 0.9])
    stretches = st.tuples(levels, st.integers(1, 40))
    return [p for p, count in draw(st.lists(stretches, max_size=40)) for p in [p] * count]


@st.composite
def vad_options(draw: st.DrawFn, max_pad_ms: int = 300) -> VadOptions:
    threshold = draw(st.sampled_from([0.3, 0.5, 0.9]))
    return VadOptions(
        threshold=threshold,
        neg_threshold=draw(st.sampled_from([None, 0.1, 0.3])),
        min_speech_ms=draw(st.sampled_from([25, 100, 250, 900])),
        min_silence_ms=draw(st.sampled_from([0, 40, 100, 700])),
        speech_pad_ms=draw(st.integers(0, max_pad_ms)),
    )


def _regions(
    probabilities: list[float],
    options: VadOptions,
    num_samples: int,
    max_samples: int | None = None,
) -> list[SpeechRegion]:
    finder = RegionFinder(options, max_samples)
    found = [region for p in probabilities for region in finder.feed(p)]
    return found + finder.finish(num_samples)


@given(window_probabilities(), vad_options(), st.integers(0, WINDOW_SAMPLES - 1))
def test_probabilities_give_sileros_regions(
    probabilities: list[float], options: VadOptions, missing: int
) -> None:
    package: Any = import_module("silero_vad")
    num_samples = max(len(probabilities) * WINDOW_SAMPLES - missing, 0)
    expected = package.get_speech_timestamps_from_probs(
        probabilities, audio_length_samples=num_samples, **_silero_names(options)
    )
    regions = _regions(probabilities, options, num_samples)
    assert _spans(regions) == [(region["start"], region["end"]) for region in expected]


# Piece by piece


def _pieces(waveform: Tensor, size: int) -> Iterator[Tensor]:
    for begin in range(0, len(waveform), size):
        yield waveform[begin : begin + size]


@pytest.mark.parametrize("size", [1_000, 7, 512, 16_000])
def test_the_sizes_of_pieces_do_not_matter(sonnet: Tensor, size: int) -> None:
    waveform = sonnet[: 100 * size if size < 100 else 20 * 16_000]
    detector = SpeechDetector()
    regions = [region for piece in _pieces(waveform, size) for region in detector.feed(piece)]
    regions += detector.finish()
    expected, _ = detect_speech(waveform)
    assert _spans(regions) == _spans(expected)
    for region, other in zip(regions, expected, strict=True):
        assert region.probability == pytest.approx(other.probability, abs=1e-5)


def test_regions_come_as_soon_as_they_are_complete(sonnet: Tensor) -> None:
    detector = SpeechDetector()
    delays = []
    for place, piece in enumerate(_pieces(sonnet, 160)):
        for region in detector.feed(piece):
            delays.append((place + 1) * 160 - region.end)
    assert len(delays) > 10
    # 100 ms of silence in whole windows; the rest of a piece; what the padding takes off.
    assert max(delays) <= 5 * WINDOW_SAMPLES


def test_the_horizon_and_the_open_region(sonnet: Tensor) -> None:
    detector = SpeechDetector()
    horizon, open_starts = 0, set()
    for piece in _pieces(sonnet, 1600):
        regions = detector.feed(piece)
        assert all(region.start >= horizon for region in regions)
        assert detector.horizon >= horizon
        horizon = detector.horizon
        open_starts.add(detector.open_start)
    regions = [*detect_speech(sonnet)[0]]
    assert open_starts - {None} == {region.start for region in regions}


def test_silence_and_nothing() -> None:
    assert detect_speech(torch.zeros(80_000)) == ((), 0.0)
    assert detect_speech(torch.zeros(0)) == ((), 0.0)
    assert detect_speech(torch.zeros(1)) == ((), 0.0)


def test_the_probability_of_speech(sonnet: Tensor) -> None:
    regions, probability = detect_speech(sonnet)
    assert 0.9 < probability < 1
    assert all(0.5 < region.probability <= 1 for region in regions)
    longer, shorter = SpeechRegion(0, 300, 0.9), SpeechRegion(400, 500, 0.5)
    assert mean_probability([longer, shorter]) == pytest.approx(0.8)
    assert mean_probability([]) == 0.0


# Long regions


@given(
    window_probabilities(),
    vad_options(max_pad_ms=32),
    st.integers(8_000, 100_000),
    st.integers(0, WINDOW_SAMPLES - 1),
)
def test_regions_that_are_too_long_are_cut(
    probabilities: list[float], options: VadOptions, max_samples: int, missing: int
) -> None:
    num_samples = max(len(probabilities) * WINDOW_SAMPLES - missing, 0)
    whole = _regions(probabilities, options, num_samples)
    pieces = _regions(probabilities, options, num_samples, max_samples)
    assert all(0 < piece.end - piece.start <= max_samples for piece in pieces)
    assert all(first.end <= second.start for first, second in pairwise(pieces))
    joined: list[tuple[int, int]] = []
    starts = {region.start for region in whole}
    for start, end in _spans(pieces):
        if start not in starts:
            assert joined[-1][1] == start
            start = joined.pop()[0]
        joined.append((start, end))
    assert joined == _spans(whole)


def test_the_cut_is_where_speech_is_least_probable() -> None:
    probabilities = [0.9] * 200
    probabilities[50] = 0.4  # in the last third of the first 64 windows
    probabilities[20] = 0.36  # earlier than that
    pieces = _regions(probabilities, VadOptions(), 200 * WINDOW_SAMPLES, 64 * WINDOW_SAMPLES)
    assert pieces[0].end == 50 * WINDOW_SAMPLES + WINDOW_SAMPLES // 2
    assert pieces[0].probability == pytest.approx((49 * 0.9 + 0.36) / 50)
    assert pieces[1].probability < 0.9


def test_what_is_cut_is_known_before_speech_ends() -> None:
    finder = RegionFinder(VadOptions(), 16_000)
    fed = 0
    while not finder.feed(0.9):
        fed += WINDOW_SAMPLES
    assert fed <= 16_000


@pytest.mark.parametrize(
    ("speech", "silence", "is_enough"), [(20, 8, False), (48, 6, True), (66, 2, True)]
)
def test_less_silence_ends_a_long_region_that_may_hurry(
    speech: int, silence: int, is_enough: bool
) -> None:
    """All numbers are windows; a region has at most 96, and 10 of silence end any."""
    found = {}
    for hurry in (False, True):
        options = VadOptions(min_silence_ms=320, hurry=hurry)
        finder = RegionFinder(options, 96 * WINDOW_SAMPLES)
        fed = [finder.feed(p) for p in [0.9] * speech + [0.1] * silence]
        found[hurry] = [region for regions in fed for region in regions]
    assert not found[False]
    assert [region.end // WINDOW_SAMPLES for region in found[True]] == [speech] * is_enough


# Options


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", 1.5),
        ("threshold", 0.0),
        ("neg_threshold", 0.6),
        ("neg_threshold", -0.1),
        ("min_speech_ms", 24),
        ("min_silence_ms", -1),
        ("speech_pad_ms", -1),
    ],
)
def test_options_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"`{name}`"):
        VadOptions(**{name: value})  # type: ignore[arg-type]


def test_pieces_that_are_too_short_are_refused() -> None:
    with pytest.raises(ConfigError, match="8000 or more"):
        SpeechDetector(max_samples=7_999)
    with pytest.raises(ConfigError, match="32000 or more"):
        RegionFinder(VadOptions(speech_pad_ms=1000), 31_999)


# What stays as it was

PROBE = """
import sys, torch, warnings
torch.set_num_threads(2)
load = torch.jit.load
def deprecated_load(*args, **kwargs):
    warnings.warn("as newer versions of torch say", FutureWarning)
    return load(*args, **kwargs)
torch.jit.load = deprecated_load
state = torch.get_rng_state()
from wavellama.audio.vad import detect_speech
detect_speech(torch.ones(16000))
assert torch.get_num_threads() == 2
assert torch.equal(torch.get_rng_state(), state)
assert not {"silero_vad", "onnxruntime"} & set(sys.modules)
"""


def test_torchs_threads_and_random_numbers_are_left_alone_and_no_deprecation_is_told() -> None:
    command = [sys.executable, "-c", PROBE]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "as newer versions of torch say" not in ended.stderr


def test_other_defaults_of_torch_do_not_matter(sonnet: Tensor) -> None:
    expected = detect_speech(sonnet[:80_000])
    torch.set_default_dtype(torch.bfloat16)
    with torch.inference_mode():
        assert detect_speech(sonnet[:80_000]) == expected
