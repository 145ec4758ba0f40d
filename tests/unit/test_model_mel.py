"""Filter banks inside the model."""

from __future__ import annotations

import math

import pytest
import torch
from fairseq2.nn import BatchLayout

from tests.fakes import make_batch, make_waveforms, tiny_model
from tests.tones import LOG_MEL
from wavellama.errors import BatchError
from wavellama.model.mel import (
    HOP,
    NUM_FFT,
    WINDOW,
    FilterBankExtractor,
    LogMelExtractor,
    MelExtractor,
)
from wavellama.model.spectral import SpectralAugment
from wavellama.units import SAMPLE_RATE


def _extract(
    extractor: MelExtractor, lens: list[int], padding: float = 0.0
) -> tuple[torch.Tensor, list[int]]:
    seqs = make_batch(make_waveforms(lens, dtype=torch.float32), padding=padding).source_seqs
    frames, layout = extractor(seqs, BatchLayout.of(seqs, lens))
    return frames, list(layout.seq_lens)


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(400, 1), (559, 1), (560, 1), (1039, 1), (1040, 2), (1679, 2), (1680, 3)],
)
def test_frames_of_four_windows_cover_the_audio(samples: int, frames: int) -> None:
    extracted, lens = _extract(FilterBankExtractor(8, 4), [samples])
    assert lens == [frames]
    assert extracted.shape == (1, frames, 32)


def test_a_window_that_overlaps_the_padding_does_not_count() -> None:
    extractor = FilterBankExtractor(8, 2)
    together, lens = _extract(extractor, [3000, 1500], padding=50.0)
    for row, length in enumerate([3000, 1500]):
        alone, (n,) = extractor_alone(extractor, length, row)
        assert lens[row] == n
        torch.testing.assert_close(together[row, :n], alone[0], atol=1e-4, rtol=0)


def extractor_alone(
    extractor: MelExtractor, length: int, row: int
) -> tuple[torch.Tensor, list[int]]:
    waveform = make_waveforms([3000, 1500], dtype=torch.float32)[row][None, :length]
    frames, layout = extractor(waveform, BatchLayout.of(waveform))
    return frames, list(layout.seq_lens)


def test_a_short_last_frame_ends_in_zeros() -> None:
    frames, _ = _extract(FilterBankExtractor(8, 4), [WINDOW + HOP])
    assert frames[0, 0, :16].all()
    assert not frames[0, 0, 16:].any()


def test_a_tone_lights_up_its_own_channel() -> None:
    extractor = FilterBankExtractor(40, 1)
    peaks = []
    for hertz in (300.0, 1000.0, 3000.0):
        tone = torch.sin(torch.arange(8000) * 2 * math.pi * hertz / SAMPLE_RATE)[None]
        frames, _ = extractor(tone, BatchLayout.of(tone))
        peak = int(frames[0].mean(0).argmax())
        bin_hertz = extractor.mel[:, peak].argmax() * SAMPLE_RATE / NUM_FFT
        assert abs(bin_hertz - hertz) < 120
        peaks.append(peak)
    assert peaks == sorted(set(peaks))


def test_silence_is_finite() -> None:
    silence = torch.zeros(1, 4000)
    frames, _ = FilterBankExtractor(40, 2)(silence, BatchLayout.of(silence))
    assert torch.isfinite(frames).all()


def test_the_tables_are_not_part_of_a_checkpoint_and_can_be_computed_again() -> None:
    extractor = FilterBankExtractor(8, 4)
    assert extractor.state_dict() == {}
    window, mel = extractor.window.clone(), extractor.mel.clone()
    extractor.window.fill_(7.0)
    extractor.mel.fill_(7.0)
    extractor.reset_non_persistent_buffers()
    assert torch.equal(extractor.window, window)
    assert torch.equal(extractor.mel, mel)


def test_it_can_be_built_on_the_meta_device() -> None:
    with torch.device("meta"):
        extractor = FilterBankExtractor(8, 4)
    extractor.to_empty(device="cpu")
    extractor.reset_non_persistent_buffers()
    assert torch.equal(extractor.mel, FilterBankExtractor(8, 4).mel)


def test_whispers_front_end_hears_a_row_as_if_silence_followed() -> None:
    extractor = LogMelExtractor(8, 16, gain=0.1)
    together, lens = _extract(extractor, [3000, 1500], padding=50.0)
    assert lens == [9, 5]
    for row, length in enumerate([3000, 1500]):
        alone, (n,) = extractor_alone(extractor, length, row)
        torch.testing.assert_close(together[row, :n], alone[0], atol=1e-6, rtol=0)


def test_whispers_front_end_is_warped_and_masked_in_training_alone() -> None:
    extractor, waveform = LogMelExtractor(8, 16, gain=0.1), torch.randn(1, 16_000)
    layout = BatchLayout.of(waveform)
    extractor.augment = SpectralAugment(max_warp=0.2, num_freq_masks=2, freq_mask_width=4)
    plain = extractor.eval()(waveform, layout)[0]
    assert torch.equal(plain, extractor(waveform, layout)[0])
    extractor.train()
    first, second = (extractor(waveform, layout)[0] for _ in range(2))
    assert not torch.equal(first, plain)
    assert not torch.equal(first, second)


def test_the_gain_is_that_of_the_waveform() -> None:
    """Weights that were trained on quiet waveforms hear a loud one with a small gain alike."""
    waveform = torch.randn(1, 8000)
    loud, quiet = LogMelExtractor(8, 16, gain=0.05), LogMelExtractor(8, 16, gain=1.0)
    quiet.load_state_dict(loud.state_dict())
    layout = BatchLayout.of(waveform)
    torch.testing.assert_close(loud(waveform, layout)[0], quiet(waveform * 0.05, layout)[0])


def test_silence_is_finite_in_whispers_front_end() -> None:
    silence = torch.zeros(1, 4000)
    frames, _ = LogMelExtractor(8, 16, gain=1.0)(silence, BatchLayout.of(silence))
    assert torch.isfinite(frames).all()


def test_audio_beyond_the_last_position_is_refused() -> None:
    encoder = {**LOG_MEL["wav2vec2_asr_config"]["encoder_config"], "max_seq_len": 10}
    model = tiny_model({"wav2vec2_asr_config": {"encoder_config": encoder}}, dtype=torch.float32)
    model.encode_audio(torch.randn(1, 3200), [3200])
    with pytest.raises(BatchError, match=r"A row has 11 frames, but the positions .* end at 10"):
        model.encode_audio(torch.randn(1, 3520), [3520])
