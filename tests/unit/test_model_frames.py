"""Frames and seconds, compared with what the front ends really do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fairseq2.models.wav2vec2.feature_extractor import Wav2Vec2FbankFeatureExtractor
from fairseq2.nn import BatchLayout
from torch import Tensor

from tests.fakes import arch_config, create_model, tiny_model
from tests.tones import CONVOLUTIONS, FILTER_BANKS, LOG_MEL
from wavellama.errors import ConfigError
from wavellama.model.frames import FrameGrid, frame_grid
from wavellama.model.mel import FilterBankExtractor
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.units import MIN_SAMPLES


def model_of(front_end: dict[str, Any]) -> Wav2Vec2LlamaModel:
    return tiny_model(front_end, dtype=torch.float32)


def features(model: Wav2Vec2LlamaModel, waveform: Tensor) -> Tensor:
    """Return what the front end makes of a waveform. (S, C)."""
    extractor = model.encoder_frontend.feature_extractor
    assert extractor is not None
    with torch.inference_mode():
        seqs: Tensor = extractor(waveform[None], BatchLayout.of(waveform[None]))[0]
    return seqs[0]


@pytest.mark.parametrize(
    ("front_end", "grid"),
    [
        (CONVOLUTIONS, FrameGrid(320, 400, 400)),
        (FILTER_BANKS, FrameGrid(640, 880, 400)),
        (LOG_MEL, FrameGrid(320, 1040, 160, begin=-520)),
    ],
)
def test_the_grid_of_a_front_end(front_end: dict[str, Any], grid: FrameGrid) -> None:
    assert frame_grid(model_of(front_end).encoder_frontend.feature_extractor) == grid


def test_published_encoders_have_20_ms_frames() -> None:
    config = arch_config("300m").wav2vec2_asr_config.encoder_config
    small = arch_config("tiny").wav2vec2_asr_config.encoder_config
    kernels = [desc[1:] for desc in config.feature_extractor_layer_descs]
    assert kernels == [desc[1:] for desc in small.feature_extractor_layer_descs]


@pytest.mark.parametrize("front_end", [CONVOLUTIONS, FILTER_BANKS, LOG_MEL])
@pytest.mark.parametrize("multiple", [1, 2, 7])
def test_the_number_of_frames_is_the_front_ends_own(
    front_end: dict[str, Any], multiple: int
) -> None:
    model = model_of(front_end)
    grid = frame_grid(model.encoder_frontend.feature_extractor)
    for edge in (multiple * grid.stride, multiple * grid.stride + grid.shortest):
        for num_samples in range(max(edge - 2, MIN_SAMPLES), max(edge, MIN_SAMPLES) + 3):
            waveform = torch.randn(num_samples)
            assert grid.num_frames(num_samples) == len(features(model, waveform)), num_samples


@pytest.mark.parametrize("grid", [FrameGrid(320, 400, 400), FrameGrid(640, 880, 400)])
def test_too_short_audio_has_no_frame(grid: FrameGrid) -> None:
    assert [grid.num_frames(n) for n in (0, 1, 399, 400)] == [0, 0, 0, 1]


@pytest.mark.parametrize("front_end", [CONVOLUTIONS, FILTER_BANKS, LOG_MEL])
@pytest.mark.parametrize("frame", [0, 3, 5])
def test_a_frame_is_computed_from_its_samples_alone(front_end: dict[str, Any], frame: int) -> None:
    model = model_of(front_end)
    grid = frame_grid(model.encoder_frontend.feature_extractor)
    begin, end = grid.samples_of(frame, frame + 1)
    waveform = torch.randn(8 * grid.stride)
    before = features(model, waveform)[frame]
    outside = torch.randn_like(waveform)
    outside[begin:end] = waveform[begin:end]
    assert torch.equal(features(model, outside)[frame], before)
    for edge in (begin + 5, end - 6):  # (the window of the filter banks is zero at its very ends)
        inside = waveform.clone()
        inside[edge] += 100.0
        assert not torch.equal(features(model, inside)[frame], before), edge


@pytest.mark.parametrize("front_end", [CONVOLUTIONS, FILTER_BANKS, LOG_MEL])
def test_frames_lie_in_the_middle_of_their_samples(front_end: dict[str, Any]) -> None:
    grid = frame_grid(model_of(front_end).encoder_frontend.feature_extractor)
    for frame in (2, 3, 17):  # (the first ones may reach out of the audio)
        begin, end = grid.samples_of(frame, frame + 1)
        middle = (grid.seconds(frame) + grid.seconds(frame + 1)) / 2
        assert middle == pytest.approx((begin + end) / 2 / 16_000)
    assert grid.seconds(1) - grid.seconds(0) == pytest.approx(grid.stride / 16_000)


def test_another_stride_of_the_filter_banks() -> None:
    assert frame_grid(FilterBankExtractor(8, stride=2)) == FrameGrid(320, 560, 400)


def test_a_front_end_that_reads_no_waveforms_is_refused() -> None:
    extractor = Wav2Vec2FbankFeatureExtractor(num_fbank_channels=8, stride=2)
    with pytest.raises(ConfigError, match="reads waveforms"):
        frame_grid(extractor)


def test_the_group_norm_of_base_models_does_not_change_the_grid() -> None:
    overrides = {
        "wav2vec2_asr_config": {"encoder_config": {"feature_extractor_layer_norm_convs": False}}
    }
    model = create_model(arch_config("tiny", overrides), dtype=torch.float32)
    assert frame_grid(model.encoder_frontend.feature_extractor) == FrameGrid(320, 400, 400)
