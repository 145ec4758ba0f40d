"""Inefficiencies of the published implementation that can be counted, one test each."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fairseq2.assets import AssetCard
from fairseq2.nn import IncrementalStateBag
from torch import Tensor
from torch.nn import Module

from tests.fakes import (
    EOS,
    SMALL,
    TableDecoder,
    loss_of,
    make_batch,
    make_waveforms,
    merge,
    scripted_row,
    small_model,
    tiny_model,
)
from wavellama import Wav2Vec2LlamaBeamSearchConfig, generate, load_model
from wavellama.search.beam import BeamSearch, SearchOptions

WAVEFORMS = make_waveforms([6000, 800, 3000])


def test_b27_the_prompt_is_read_once_per_row_and_whole() -> None:
    """It was read once per hypothesis, and only as far as the shortest prompt."""
    model = tiny_model(SMALL)
    shapes: list[tuple[int, int]] = []

    def record(module: Module, inputs: tuple[Tensor, ...]) -> None:
        shapes.append((inputs[0].size(0), inputs[0].size(1)))

    model.llama_decoder.register_forward_pre_hook(record)
    generate(model, make_batch(WAVEFORMS), Wav2Vec2LlamaBeamSearchConfig(nbest=4, max_new_tokens=3))
    prompts = [shape for shape in shapes if shape[1] > 1]
    assert sum(rows for rows, _ in prompts) == 3
    assert all(width == 1 for _, width in shapes[len(prompts) :])


def test_b28_greedy_search_moves_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """All keys and values were copied at each step, even for one hypothesis."""

    def fail(*_: object) -> None:
        raise AssertionError("the cache was reordered")

    monkeypatch.setattr(IncrementalStateBag, "reorder", fail)
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=8)
    assert len(generate(small_model(), make_batch(WAVEFORMS), config)) == 3


def test_b30_finished_hypotheses_are_decoded_no_further() -> None:
    """Finished rows and hypotheses stayed in the batch until all had ended."""
    rows = [scripted_row([*range(3, 3 + n), EOS], p=0.9999) for n in (1, 8)]
    decoder = TableDecoder(rows)
    BeamSearch(SearchOptions(1, EOS)).run(decoder, [20, 20])
    assert decoder.widths == [2] + [1] * 7


@torch.no_grad()
def test_b34_the_loss_needs_logits_of_covered_positions_alone() -> None:
    """Logits were computed for every audio and prompt position."""
    model = tiny_model(SMALL)
    seen: list[int] = []

    def record(module: Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].flatten(0, -2).size(0))

    model.final_proj.register_forward_pre_hook(record)
    loss_of(model, make_batch(WAVEFORMS, [[4, 5], [6], [7, 8, 9]]))
    assert seen == [3 + 2 + 4]


def test_b43_scores_alternatives_and_reasons_are_returned() -> None:
    """Only the best tokens were."""
    config = {"beam_search_config": {"nbest": 3, "max_new_tokens": 4}}
    ((best, *others),) = generate(
        tiny_model(merge(SMALL, config)), make_batch(make_waveforms([900]))
    )
    assert len(others) == 2
    assert best.score == pytest.approx(sum(best.token_logprobs))
    assert best.stop_reason in ("eos", "length")


def test_a_wrong_card_downloads_nothing(tmp_path: Path) -> None:
    """The checkpoint was fetched before the architecture's name was looked at."""
    fields = {
        "model_family": "wav2vec2_llama",
        "model_arch": "zzz",
        "checkpoint": (tmp_path / "missing.pt").as_uri(),
    }
    with pytest.raises(Exception, match="zzz"):
        load_model(AssetCard("wrong", fields))
