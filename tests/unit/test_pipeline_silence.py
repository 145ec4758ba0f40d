"""Which texts count as made of silence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.unit.test_pipeline_live import MINI
from wavellama.audio.chunks import Chunk
from wavellama.audio.load import load_audio
from wavellama.audio.regions import SpeechRegion
from wavellama.audio.vad import speech_peak
from wavellama.data.manifest import read_manifest
from wavellama.pipeline.options import TranscribeOptions
from wavellama.pipeline.silence import drop_unspoken
from wavellama.transcript.types import Alternative, Segment

RATE = 16_000
DEFAULT = TranscribeOptions()
SILENCE = Chunk(torch.zeros(RATE), 0)


def said(avg_logprob: float | None = -2.0) -> Segment:
    other = Alternative("b", -3.0)
    ids = {"tokens": (5,), "token_logprobs": (-1.0,), "alternatives": (other,)}
    return Segment(text="a", start=0.0, end=1.0, avg_logprob=avg_logprob, **ids)  # type: ignore[arg-type]


def noises() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(3 * RATE, generator=generator)
    times = torch.arange(3 * RATE) / RATE
    hum = sum(torch.sin(2 * torch.pi * 50 * n * times) / n for n in range(1, 8))
    spectrum = torch.fft.rfft(white) / torch.arange(1, 3 * RATE // 2 + 2)
    brown = torch.fft.irfft(spectrum)
    return {
        "zeros": 0 * white,
        "constant": 0 * white + 0.2,
        "last bit": white.sign() / 32768,
        "quiet": 0.001 * white,
        "loud": 0.3 * white,
        "brown": 0.1 * brown / brown.std(),
        "hum": 0.1 * torch.as_tensor(hum),
        "tone": 0.3 * torch.sin(2 * torch.pi * 1000 * times),
    }


@pytest.mark.parametrize("name", noises())
@pytest.mark.parametrize("secs", [0.03, 0.3, 3.0])
def test_silence_and_steady_noise_have_no_text(name: str, secs: float) -> None:
    chunk = Chunk(noises()[name][: round(secs * RATE)], 0)
    heard = drop_unspoken(said(), chunk, DEFAULT)
    assert heard.text == ""
    assert (heard.tokens, heard.token_logprobs, heard.alternatives) == ((), (), ())
    assert heard.no_speech_prob is not None
    assert heard.no_speech_prob > 0.6


@pytest.mark.parametrize("name", ["zeros", "constant", "last bit", "quiet", "loud", "brown"])
def test_no_confidence_makes_a_text_of_nothing(name: str) -> None:
    assert drop_unspoken(said(-0.001), Chunk(noises()[name], 0), DEFAULT).text == ""


@pytest.mark.parametrize("gain", [1.0, 0.001])
def test_speech_keeps_its_text_however_short_and_quiet(gain: float) -> None:
    """Voice detection drops what is not longer than 250 ms."""
    utterances = sorted(read_manifest(MINI / "manifest.tsv").utterances, key=lambda u: u.duration)
    for utterance in utterances[:16]:
        chunk = Chunk(gain * load_audio(utterance.audio), 0)
        assert drop_unspoken(said(), chunk, DEFAULT).text == "a", utterance.text


@pytest.mark.slow
def test_all_of_the_corpus_keeps_its_text() -> None:
    """One of 956 utterances needs a model that is surer than not."""
    for utterance in read_manifest(MINI / "manifest.tsv").utterances:
        waveform = load_audio(utterance.audio)
        begin = round((utterance.offset or 0.0) * RATE)
        chunk = Chunk(waveform[begin : begin + round(utterance.duration * RATE)], 0)
        heard = drop_unspoken(said(-0.7 if utterance.text == "ар" else -2.0), chunk, DEFAULT)
        assert heard.text == "a", utterance.text


@pytest.mark.parametrize(
    ("peak", "avg_logprob", "is_kept"),
    [
        (0.41, -9.0, True),
        (0.39, -1.01, False),
        (0.39, -1.0, True),
        (0.39, None, False),
        (0.11, -0.5, True),
        (0.09, 0.0, False),
    ],
)
def test_the_rule(
    monkeypatch: pytest.MonkeyPatch, peak: float, avg_logprob: float | None, is_kept: bool
) -> None:
    monkeypatch.setattr("wavellama.pipeline.silence.speech_peak", lambda _: peak)
    heard = drop_unspoken(said(avg_logprob), SILENCE, DEFAULT)
    assert bool(heard.text) is is_kept
    assert heard.no_speech_prob == pytest.approx(1.0 - peak)


def test_nobody_looks_where_the_rule_is_off_or_speech_was_found() -> None:
    assert drop_unspoken(said(), SILENCE, TranscribeOptions(no_speech_threshold=1.0)) == said()
    regions = (SpeechRegion(0, RATE, 0.9),)
    assert drop_unspoken(said(), Chunk(torch.zeros(RATE), 0, regions, 0.9), DEFAULT) == said()


def test_the_peak_does_not_depend_on_the_level() -> None:
    (file, *_) = sorted(Path(MINI / "audio/ita_Latn").rglob("*.ogg"))
    waveform = load_audio(file)
    peaks = [
        speech_peak(gain * waveform + shift) for gain, shift in ((1, 0), (1e-3, 0), (0.1, 0.2))
    ]
    assert peaks == pytest.approx([peaks[0]] * 3, abs=1e-3)
    assert peaks[0] > 0.9
