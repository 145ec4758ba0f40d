"""Inefficiencies of the published implementation that can be counted, one test each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from fairseq2.assets import AssetCard
from fairseq2.data.tokenizers import load_tokenizer
from fairseq2.nn import IncrementalStateBag
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import silu

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
from wavellama.engine import Engine, EngineStepDecoder, KeyValueCache, Prefix, decoder
from wavellama.errors import ConfigError
from wavellama.pipeline.options import TranscribeOptions
from wavellama.pipeline.recogniser import create_recogniser
from wavellama.search.beam import BeamSearch, SearchOptions

WAVEFORMS = make_waveforms([6000, 800, 3000])


def test_b27_the_prompt_is_read_once_per_row_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was read once per hypothesis, and only as far as the shortest prompt."""
    prefill, activate = Engine.prefill, silu
    prompt_lens: list[int] = []
    widths: list[int] = []

    def record_prompts(
        engine: Engine, prompts: Sequence[Tensor], prefix: Prefix | None = None
    ) -> tuple[KeyValueCache, Tensor]:
        prompt_lens.extend(map(len, prompts))
        return prefill(engine, prompts, prefix)

    def record_positions(seqs: Tensor) -> Tensor:
        widths.append(len(seqs))
        return activate(seqs)

    monkeypatch.setattr(Engine, "prefill", record_prompts)
    monkeypatch.setattr(decoder, "silu", record_positions)  # once per layer
    model = small_model()
    num_layers = SMALL["llama_config"]["num_layers"]
    generate(model, make_batch(WAVEFORMS), Wav2Vec2LlamaBeamSearchConfig(nbest=4, max_new_tokens=3))
    assert len(prompt_lens) == len(set(prompt_lens)) == 3
    assert widths[:num_layers] == [*[sum(prompt_lens)] * (num_layers - 1), 3], "at last the ends"
    assert max(widths[num_layers:]) <= 3 * 4


def test_b27_modules_read_the_prompt_once_per_row_and_whole() -> None:
    """So does the path of decoders that the engine does not know."""
    model = tiny_model(SMALL)
    shapes: list[tuple[int, int]] = []

    def record(module: Module, inputs: tuple[Tensor, ...]) -> None:
        shapes.append((inputs[0].size(0), inputs[0].size(1)))

    model.llama_decoder.register_forward_pre_hook(record)
    generate(model, make_batch(WAVEFORMS), Wav2Vec2LlamaBeamSearchConfig(nbest=4, max_new_tokens=3))
    prompts = [shape for shape in shapes if shape[1] > 1]
    assert sum(rows for rows, _ in prompts) == 3
    assert all(width == 1 for _, width in shapes[len(prompts) :])


@pytest.mark.parametrize("nbest", [1, 5])
def test_b28_no_search_moves_the_cache(monkeypatch: pytest.MonkeyPatch, nbest: int) -> None:
    """All keys and values were copied at each step, even for one hypothesis."""
    reorder = EngineStepDecoder.reorder
    places: list[list[int]] = []

    def record(decoder: EngineStepDecoder, parents: list[int]) -> None:
        cache = decoder.cache
        places.append([part.data_ptr() for part in (*cache.keys, *cache.values)])
        reorder(decoder, parents)

    monkeypatch.setattr(EngineStepDecoder, "reorder", record)
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=nbest, max_new_tokens=8)
    generate(small_model(), make_batch(WAVEFORMS[:1]), config)
    assert len(places) > 3
    assert all(place == places[0] for place in places)


def test_b28_greedy_search_over_modules_moves_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the cache was reordered")

    def watch(*_: object) -> None:
        calls.append(1)

    calls: list[int] = []
    model = tiny_model(SMALL)
    model.llama_decoder.register_forward_pre_hook(watch)  # with a hook it is no plain decoder
    monkeypatch.setattr(IncrementalStateBag, "reorder", fail)
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=8)
    assert len(generate(model, make_batch(WAVEFORMS), config)) == 3
    assert len(calls) > 3


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


def test_a_draft_model_of_a_wrong_kind_downloads_nothing() -> None:
    """It was fetched, and refused then."""
    options = TranscribeOptions(draft_model="omniASR_LLM_300M")
    with pytest.raises(ConfigError, match=r"300M is a Wav2Vec2LlamaModel, not a Wav2Vec2AsrModel"):
        create_recogniser(tiny_model(), load_tokenizer("toy_tokenizer"), options)
