"""Feature masking: each row by itself, in training only."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from fairseq2.nn import BatchLayout
from fairseq2.runtime.dependency import get_dependency_resolver
from torch.nn import Module

from tests.fakes import SMALL, loss_of, make_batch, make_waveforms, merge, tiny_model
from wavellama import Wav2Vec2LlamaModel
from wavellama.model.masking import (
    NoMaskerConfig,
    StandardMaskerConfig,
    create_standard_masker,
    mask_rows,
    no_masker_factory,
    standard_masker_factory,
)

MASKING = {
    "wav2vec2_asr_config": {
        "use_masking": True,
        "temporal_mask_span_len": 3,
        "max_temporal_mask_prob": 0.6,
        "max_spatial_mask_prob": 0.0,
    }
}


def test_short_rows_are_left_alone_and_long_ones_masked() -> None:
    lens = torch.tensor([50, 3, 4, 12])
    mask = mask_rows((4, 50), 4, 0.65, lens, min_num_spans=2)
    assert mask.shape == (4, 50)
    assert mask.dtype == torch.bool
    assert mask[0].any()
    assert not mask[1].any()
    assert not mask[2].any()


def test_padding_is_never_masked() -> None:
    for _ in range(20):
        mask = mask_rows((2, 60), 5, 0.9, torch.tensor([60, 25]), min_num_spans=1)
        assert not mask[1, 25:].any()


def test_a_row_too_short_for_its_least_number_of_spans_is_left_alone() -> None:
    assert not mask_rows((1, 20), 10, 0.65, None, min_num_spans=2).any()
    assert mask_rows((1, 50), 10, 0.65, None, min_num_spans=2).any()


def test_a_short_neighbour_does_not_thin_out_a_long_row() -> None:
    """fairseq2 gives every row of a batch as few spans as the shortest row has."""
    torch.manual_seed(1)
    beside_short = [mask_rows((2, 200), 5, 0.6, torch.tensor([200, 12]))[0] for _ in range(20)]
    torch.manual_seed(1)
    alone = [mask_rows((1, 200), 5, 0.6, torch.tensor([200]))[0] for _ in range(20)]
    shares = [torch.stack(masks).float().mean().item() for masks in (beside_short, alone)]
    assert shares[0] == pytest.approx(shares[1], abs=0.05)
    assert shares[1] > 0.3


def test_without_lengths_rows_fill_the_width() -> None:
    assert mask_rows((3, 40), 4, 0.6).any(1).all()


def test_the_masker_replaces_frames_by_its_embedding() -> None:
    masker = create_standard_masker(
        8, StandardMaskerConfig(temporal_mask_span_len=3, max_temporal_mask_prob=0.6)
    )
    seqs = torch.randn(2, 40, 8)
    masked, mask = masker(seqs.clone(), BatchLayout.of(seqs, [40, 4]))
    embedding = dict(masker.named_parameters())["temporal_mask_embed"]
    assert mask[0].any()
    assert torch.equal(masked[mask], embedding.expand(int(mask.sum()), -1))
    assert torch.equal(masked[~mask], seqs[~mask])


@pytest.fixture
def masked_model() -> Wav2Vec2LlamaModel:
    return tiny_model(merge(SMALL, MASKING))


@torch.no_grad()
def test_the_masker_acts_in_training_only(masked_model: Wav2Vec2LlamaModel) -> None:
    plain = tiny_model(SMALL)
    state_dict = masked_model.state_dict()
    assert "masker.temporal_mask_embed" in state_dict
    del state_dict["masker.temporal_mask_embed"]
    plain.load_state_dict(state_dict)
    batch = make_batch(make_waveforms([20_000, 15_000]))
    expected, _ = plain.embed_audio(batch.source_seqs, batch.source_seq_lens)
    in_eval, _ = masked_model.embed_audio(batch.source_seqs, batch.source_seq_lens)
    assert torch.equal(in_eval, expected)
    masked_model.train()
    in_training, _ = masked_model.embed_audio(batch.source_seqs, batch.source_seq_lens)
    assert not torch.allclose(in_training, expected)


def test_a_batch_with_a_short_row_trains(masked_model: Wav2Vec2LlamaModel) -> None:
    """fairseq2's own mask factory raises for the whole batch."""
    masked_model.train()
    loss = loss_of(masked_model, make_batch(make_waveforms([20_000, 400, 900])))
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)


@pytest.mark.parametrize("prob", [0.0, -0.1, 1.1])
def test_a_probability_out_of_range_is_an_error(prob: float) -> None:
    assert StandardMaskerConfig(max_temporal_mask_prob=prob).validate().has_error()
    assert not StandardMaskerConfig().validate().has_error()


@pytest.mark.parametrize(("span", "length", "min_spans"), [(11, 111, 1), (11, 221, 2)])
def test_rounding_at_the_limit_is_no_error(span: int, length: int, min_spans: int) -> None:
    """float64 finds one span more than fairseq2's float32 does."""
    mask = mask_rows((1, length), span, 0.1, None, min_spans)
    assert mask.shape == (1, length)


def test_components_are_made_for_a_width() -> None:
    """Two models of one process once shared what a masker was made for."""
    resolver = get_dependency_resolver()
    create = standard_masker_factory(resolver, StandardMaskerConfig(temporal_mask_span_len=3))
    widths = [dict(cast("Module", create(width)).named_parameters()) for width in (8, 12)]
    assert [masker["temporal_mask_embed"].numel() for masker in widths] == [8, 12]
    assert no_masker_factory(resolver, NoMaskerConfig())(8) is None
