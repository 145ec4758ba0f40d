"""Alignments are in order, complete and within the clip, whatever the model says."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from fairseq2.data.tokenizers import load_tokenizer
from fairseq2.nn import BatchLayout
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import tiny_model
from tests.tones import CONVOLUTIONS, FILTER_BANKS, TOKENIZER
from wavellama.alignment import emissions
from wavellama.alignment.aligner import Aligner
from wavellama.alignment.emissions import CtcEmitter, cut_windows
from wavellama.data.words import merged_texts, word_durations
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.text.words import split_words
from wavellama.units import samples_to_seconds

SCRIPTS = "ab cdz' .,“¿!\u0301 é ñ 1½ дж ىب नि 한ㅎ 漢字 かなーﾞ ทเกั ລເ ខ្ម ကျ བོ་ \u2581 \u00a0"

MODELS = {
    name: tiny_model(overrides, dtype=torch.float32)
    for name, overrides in (("convolutions", CONVOLUTIONS), ("filter banks", FILTER_BANKS))
}

ALIGNERS = {name: Aligner(model, load_tokenizer(TOKENIZER)) for name, model in MODELS.items()}


@given(text=st.text())
def test_the_words_are_the_text(text: str) -> None:
    words = split_words(text)
    assert "".join(word.text for word in words) == "".join(text.split())
    assert all(word.text for word in words)


@given(
    name=st.sampled_from(sorted(MODELS)),
    text=st.text(SCRIPTS, max_size=30),
    seed=st.integers(0, 2**16),
    extra=st.integers(0, 5_000),
    sharpness=st.sampled_from([0.0, 1.0, 30.0]),
)
def test_random_posteriors(name: str, text: str, seed: int, extra: int, sharpness: float) -> None:
    """Every script, any posteriors: in order, within the clip, and what was given."""
    draws = torch.Generator().manual_seed(seed)
    waveform = torch.randn(70 * 640 + extra, generator=draws)
    text = f"a{text}"

    def draw_logits(model: Wav2Vec2LlamaModel, audio: torch.Tensor) -> torch.Tensor:
        num_frames = CtcEmitter(model).grid.num_frames(audio.size(1))
        return sharpness * torch.randn(num_frames, 32, generator=draws)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emissions, "compute_logits", draw_logits)
        words = ALIGNERS[name].align(waveform, text)
    assert "".join(word.text for word in words) == "".join(text.split())
    assert words[0].start >= 0.0
    assert words[-1].end <= samples_to_seconds(len(waveform))
    assert all(word.start <= word.end for word in words)
    assert all(one.end <= two.start for one, two in pairwise(words))
    assert all(word.score is not None and 0.0 <= word.score <= 1.0 for word in words)
    assert "".join(merged_texts(text, words)).split() == text.split()
    assert sum(word_durations(words)) == pytest.approx(words[-1].end)


@given(
    num_frames=st.integers(1, 300),
    margin=st.integers(0, 10),
    kept=st.integers(1, 30),
)
def test_windows_cover_every_frame_once(num_frames: int, margin: int, kept: int) -> None:
    window = kept + 2 * margin
    windows = list(cut_windows(num_frames, window, margin))
    assert [i for w in windows for i in range(w.keep_begin, w.keep_end)] == list(range(num_frames))
    for w in windows:
        assert 0 <= w.begin <= w.keep_begin < w.keep_end <= w.end <= num_frames
        assert w.end - w.begin <= window
        assert w.begin == 0 or w.keep_begin - w.begin == margin
        assert w.end == num_frames or w.end - w.keep_end == margin
    if num_frames <= window:
        assert len(windows) == 1


@given(
    name=st.sampled_from(sorted(MODELS)),
    num_samples=st.integers(400, 40_000),
    window_secs=st.sampled_from([0.25, 0.4, 1.0]),
    margin_secs=st.sampled_from([0.0, 0.04, 0.08]),
)
def test_windows_join_to_the_frames_of_the_whole(
    name: str, num_samples: int, window_secs: float, margin_secs: float
) -> None:
    """The same number of frames, and what a model without context says of each is the same."""
    model = MODELS[name]
    waveform = torch.randn(num_samples, generator=torch.Generator().manual_seed(num_samples))
    extractor = model.encoder_frontend.feature_extractor
    assert extractor is not None

    def local(model: Wav2Vec2LlamaModel, audio: torch.Tensor) -> torch.Tensor:
        layout = BatchLayout.of(audio)
        features: torch.Tensor = extractor(audio, layout)[0][0]
        return features

    in_windows = CtcEmitter(model, window_secs=window_secs, margin_secs=margin_secs)
    tokens = [0, 3, 7]
    heard, heard_at_once = (e.compute(waveform, tokens) for e in (in_windows, CtcEmitter(model)))
    assert [part.shape for part in heard] == [part.shape for part in heard_at_once]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emissions, "compute_logits", local)
        joined, whole = (e.compute(waveform, tokens) for e in (in_windows, CtcEmitter(model)))
    torch.testing.assert_close(joined, whole, rtol=1e-4, atol=1e-4)
