"""The network against naive constructions of the same thing, row by row."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.nn import BatchLayout
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.fakes import EOS, Utterances, decoder_inputs_of, loss_of, outputs_of
from tests.property.strategies import (
    Sizes,
    assert_rows_close,
    sizes,
    utterances,
)
from wavellama import Wav2Vec2LlamaBeamSearchConfig, Wav2Vec2LlamaModel, generate
from wavellama.decoding.prompt_search import create_search
from wavellama.search.beam import BeamSearch, SearchOptions
from wavellama.search.greedy import GreedySearch

BOS = 0


def _context(model: Wav2Vec2LlamaModel, rows: Utterances, row: int) -> Tensor:
    """Embed what stands before the text of one row. (S, M)."""
    waveform = rows.waveforms[row]
    audio, _ = model.embed_audio(waveform[None], [len(waveform)])
    pieces = [audio[0]]
    if model.lang_embeddings is not None:
        lang = None if rows.langs is None else rows.langs[row]
        language = 0 if lang is None else model.lang_mapping[lang]
        pieces.append(model.text_frontend.weight[model.target_vocab_info.size][None])
        pieces.append(model.lang_embeddings.weight[language][None])
    pieces.append(model.text_frontend.weight[BOS][None])
    return torch.cat(pieces)


def _row_nll(model: Wav2Vec2LlamaModel, rows: Utterances, row: int) -> Tensor:
    """Return the summed loss of one row, token by token."""
    context, target = _context(model, rows, row), [*rows.targets[row], EOS]
    seqs = torch.cat([context, model.text_frontend.weight[target]])[None]
    logits = model.final_proj(model.llama_decoder(seqs, BatchLayout.of(seqs)))[0]
    log_probs = torch.log_softmax(logits, -1)
    begin = len(context) - 1
    return -torch.stack([log_probs[begin + i, token] for i, token in enumerate(target)]).sum()


@given(sizes(), utterances())
@torch.no_grad()
def test_the_loss_is_the_mean_per_token_times_the_rows(shape: Sizes, rows: Utterances) -> None:
    model = shape.model()
    count = len(rows.targets)
    nll = torch.stack([_row_nll(model, rows, row) for row in range(count)]).sum()
    expected = nll / sum(len(target) + 1 for target in rows.targets) * count
    assert_rows_close(loss_of(model, rows.batch()), expected)
    assert_rows_close(outputs_of(model, rows.batch()).loss, expected)


@given(sizes(), utterances())
@torch.no_grad()
def test_the_prompt_is_what_one_would_concatenate(shape: Sizes, rows: Utterances) -> None:
    model = shape.model()
    inputs = decoder_inputs_of(model, rows.batch())
    (context,), (lens,) = inputs.decoder_context_inputs, inputs.decoder_context_seq_lens
    assert context.size(1) == max(lens)
    for row, length in enumerate(lens):
        expected = _context(model, rows, row)
        assert length == len(expected)
        assert_rows_close(context[row, :length], expected)
        assert not context[row, length:].any()
    output = outputs_of(model, rows.batch())
    assert output.decoder_context_seq_lens == [lens]
    assert_rows_close(output.decoder_context_inputs[0], context)


def _snapshot(batch: Seq2SeqBatch) -> tuple[object, ...]:
    return (
        batch.source_seqs.clone(),
        list(batch.source_seq_lens),
        batch.target_seqs.clone(),
        list(batch.target_seq_lens),
        deepcopy(batch.example),
    )


def _assert_same(actual: tuple[object, ...], expected: tuple[object, ...]) -> None:
    for ours, theirs in zip(actual, expected, strict=True):
        if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
            assert torch.equal(ours, theirs)
        else:
            assert ours == theirs


@settings(max_examples=60)
@given(sizes(), utterances(), st.booleans())
def test_nothing_changes_the_batch(shape: Sizes, rows: Utterances, training: bool) -> None:
    model, batch = shape.model(), rows.batch()
    if training and shape.lid and rows.langs is None:
        return
    before = _snapshot(batch)
    model.train(training)
    loss_of(model, batch)
    outputs_of(model, batch)
    decoder_inputs_of(model, batch)
    generate(model, batch, Wav2Vec2LlamaBeamSearchConfig(nbest=2, max_new_tokens=3))
    assert model.training == training
    _assert_same(_snapshot(batch), before)


@settings(max_examples=60)
@given(sizes(), utterances())
@torch.no_grad()
def test_twice_the_same_in_eval_mode(shape: Sizes, rows: Utterances) -> None:
    model, batch = shape.model(), rows.batch()
    assert torch.equal(loss_of(model, batch), loss_of(model, batch))
    assert torch.equal(outputs_of(model, batch).logits, outputs_of(model, batch).logits)
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=3, max_new_tokens=4)
    assert generate(model, batch, config) == generate(model, batch, config)


@settings(max_examples=60)
@given(sizes(), utterances(), st.booleans())
def test_a_beam_of_one_equals_greedy_search(
    shape: Sizes, rows: Utterances, length_norm: bool
) -> None:
    """An observer makes ``generate`` use the beam search even for one beam."""
    model = shape.model()
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=1, length_norm=length_norm, max_new_tokens=8)
    assert isinstance(create_search(config, model), GreedySearch)
    assert isinstance(create_search(config, model, lambda rows: None), BeamSearch)
    greedy = generate(model, rows.batch(), config)
    beam = generate(model, rows.batch(), config, observer=lambda rows: None)
    for (ours,), (theirs,) in zip(greedy, beam, strict=True):
        assert ours.tokens == theirs.tokens
        assert ours.stop_reason == theirs.stop_reason
        assert ours.score == pytest.approx(theirs.score, abs=1e-9)


@settings(max_examples=60)
@given(sizes(), utterances(max_rows=3), st.integers(1, 4))
@torch.no_grad()
def test_scores_are_those_of_the_whole_sequence(shape: Sizes, rows: Utterances, nbest: int) -> None:
    """The key/value cache, step by step, against one pass over everything."""
    model = shape.model()
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=nbest, max_new_tokens=6)
    for row, hypotheses in enumerate(generate(model, rows.batch(), config)):
        context = _context(model, rows, row)
        for h in hypotheses:
            emitted = [*h.tokens, EOS] if h.finished else h.tokens
            if len(emitted) != len(h.token_logprobs):
                continue  # a control token was emitted and taken out
            seqs = torch.cat([context, model.text_frontend.weight[emitted]])[None]
            logits = model.final_proj(model.llama_decoder(seqs, BatchLayout.of(seqs)))[0]
            log_probs = torch.log_softmax(logits[len(context) - 1 : -1], -1)
            expected = log_probs.gather(1, torch.tensor(emitted)[:, None])[:, 0].tolist()
            assert h.token_logprobs == pytest.approx(expected, abs=1e-6)


def test_options_translate_one_to_one() -> None:
    config = Wav2Vec2LlamaBeamSearchConfig(
        nbest=3, length_norm=True, compression_window=7, compression_threshold=2.5
    )
    search = create_search(config, Sizes().model())
    assert isinstance(search, BeamSearch)
    options = search.options
    assert isinstance(options, SearchOptions)
    assert (options.beam_size, options.eos_idx, options.length_norm) == (3, EOS, True)
    assert options.guard is not None
    assert (options.guard.window, options.guard.threshold) == (7, 2.5)
