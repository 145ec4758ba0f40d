"""What the published implementation computes with small trained models, to the letter."""

from __future__ import annotations

from itertools import permutations, zip_longest
from typing import Any

import pytest
import torch

from tests.fakes import (
    decoder_inputs_of,
    golden_case,
    golden_model,
    loss_of,
    outputs_of,
)
from wavellama import Wav2Vec2LlamaBeamSearchConfig, generate

CASES = ["llm_asr", "gqa", "llm_asr_lid", "zero_shot", "streaming"]
SEARCHES = {f"nbest{n}_ln{ln}": (n, bool(ln)) for n in (1, 5) for ln in (0, 1)}
ORDERS = list(permutations(range(3)))
ROWS = [(row,) for row in range(3)]
ALONE_AND_BATCHED = [*ROWS, *ORDERS]


def _search(name: str) -> Wav2Vec2LlamaBeamSearchConfig:
    nbest, length_norm = SEARCHES[name]
    return Wav2Vec2LlamaBeamSearchConfig(nbest=nbest, length_norm=length_norm)


def _facts(case: str) -> Any:
    return golden_case(case).facts


@pytest.mark.parametrize("case", CASES)
def test_golden_files_are_complete(case: str) -> None:
    golden = golden_case(case)
    assert golden.tensors["source_seqs"].size(0) == 3
    assert set(golden.facts["hypotheses"]) == set(SEARCHES)
    assert {key: list(value.shape) for key, value in golden.state_dict.items()} == golden.facts[
        "state_dict_shapes"
    ]


@pytest.mark.parametrize("case", CASES)
def test_state_dict_has_the_published_names_and_shapes(case: str) -> None:
    state_dict = golden_model(case).state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in state_dict.items()}
    assert shapes == _facts(case)["state_dict_shapes"]


@pytest.mark.parametrize("order", ALONE_AND_BATCHED, ids=str)
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits(case: str, order: tuple[int, ...]) -> None:
    golden = golden_case(case)
    output = outputs_of(golden_model(case), golden.utterances.batch(order))
    assert output.logits.size(0) == len(order)
    for place, row in enumerate(order):
        expected = golden.tensors[f"logits_{row}"]
        logits = output.logits[place, : output.decoder_inputs_layout.seq_lens[place]]
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_loss_of_a_row_is_its_mean_nll(case: str, row: int) -> None:
    loss = loss_of(golden_model(case), golden_case(case).utterances.batch([row]))
    assert loss.shape == ()
    assert loss.item() == pytest.approx(_facts(case)["mean_nll"][row], abs=1e-5)


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_loss_of_a_batch_is_the_mean_per_token_times_its_rows(
    case: str, order: tuple[int, ...]
) -> None:
    facts, model = _facts(case), golden_model(case)
    batch = golden_case(case).utterances.batch(order)
    pairs = zip(facts["mean_nll"], facts["n_target_tokens"], strict=True)
    expected = sum(nll * n for nll, n in pairs) / sum(facts["n_target_tokens"]) * 3
    assert loss_of(model, batch).item() == pytest.approx(expected, abs=1e-5)
    assert outputs_of(model, batch).loss.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("order", ALONE_AND_BATCHED, ids=str)
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_context_lens(case: str, order: tuple[int, ...]) -> None:
    batch = golden_case(case).utterances.batch(order)
    rows = [_facts(case)["context_lens"][row] for row in order]
    expected = [list(column) for column in zip_longest(*rows, fillvalue=0)]
    model = golden_model(case)
    inputs, output = decoder_inputs_of(model, batch), outputs_of(model, batch)
    assert inputs.decoder_context_seq_lens == expected
    assert output.decoder_context_seq_lens == expected
    contexts = zip(inputs.decoder_context_inputs, output.decoder_context_inputs, strict=True)
    for (context, same), lens in zip(contexts, expected, strict=True):
        assert context.shape == (len(order), max(lens), model.model_dim)
        torch.testing.assert_close(context, same, atol=1e-6, rtol=0)


@pytest.mark.parametrize("order", ALONE_AND_BATCHED, ids=str)
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_audio_embeddings(case: str, order: tuple[int, ...]) -> None:
    golden = golden_case(case)
    batch = golden.utterances.batch(order)
    embedded, lens = golden_model(case).embed_audio(batch.source_seqs, batch.source_seq_lens)
    for place, row in enumerate(order):
        expected = golden.tensors[f"audio_embeddings_{row}"]
        assert lens[place] == len(expected)
        torch.testing.assert_close(embedded[place, : lens[place]], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_text_embeddings(case: str) -> None:
    tensors = golden_case(case).tensors
    embedded = golden_model(case).embed_text(tensors["target_seqs"], torch.float32)
    torch.testing.assert_close(embedded, tensors["text_embeddings"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("order", ALONE_AND_BATCHED, ids=str)
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("case", CASES)
def test_hypotheses(case: str, search: str, order: tuple[int, ...]) -> None:
    batch = golden_case(case).utterances.batch(order)
    results = generate(golden_model(case), batch, _search(search))
    expected = [_facts(case)["hypotheses"][search][row] for row in order]
    assert [row[0].tokens for row in results] == expected


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("case", CASES)
def test_scores_do_not_depend_on_the_batch(case: str, search: str) -> None:
    utterances, model = golden_case(case).utterances, golden_model(case)
    alone = [generate(model, utterances.batch([row]), _search(search))[0] for row in range(3)]
    together = generate(model, utterances.batch(), _search(search))
    for expected, actual in zip(alone, together, strict=True):
        assert [h.tokens for h in actual] == [h.tokens for h in expected]
        assert [h.score for h in actual] == pytest.approx([h.score for h in expected], abs=1e-4)
