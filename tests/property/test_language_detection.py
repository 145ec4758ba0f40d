"""Languages are scored as the model's forward pass scores them, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import EOS, Utterances, outputs_of
from tests.property.strategies import VOCAB_SIZE, Sizes, orders, sizes, utterances
from wavellama import Wav2Vec2LlamaModel
from wavellama.decoding import language
from wavellama.decoding.language import LanguageScores, detect_languages
from wavellama.text.languages import language_table

EXACT = 1e-9
ATOL = 1e-6
"""The engine turns queries and keys in float32, as its own tests allow for."""

candidates_of_test = st.lists(
    st.sampled_from(sorted(language_table())), min_size=1, max_size=6, unique=True
)


@st.composite
def texts_of(draw: st.DrawFn, rows: Utterances) -> list[list[int]]:
    """Draw a text for each row, also an empty one."""
    text = st.lists(st.integers(3, VOCAB_SIZE - 1), max_size=10)
    return draw(st.lists(text, min_size=len(rows.waveforms), max_size=len(rows.waveforms)))


@torch.no_grad()
def naive_scores(
    model: Wav2Vec2LlamaModel, rows: Utterances, row: int, tokens: Sequence[int], code: str
) -> list[float]:
    """Return the log-probability of each token after the prompt, from one row's forward pass."""
    batch = Utterances([rows.waveforms[row]], [list(tokens)], [code]).batch()
    outputs = outputs_of(model, batch)
    ((context_len,),) = outputs.decoder_context_seq_lens
    log_probs = outputs.logits[0, context_len - 1 :].log_softmax(-1)
    return [float(log_probs[i, token]) for i, token in enumerate(tokens)]


def naive_score(
    model: Wav2Vec2LlamaModel, rows: Utterances, row: int, text: Sequence[int], code: str
) -> float:
    """Return log P(text, EOS | audio, language)."""
    return sum(naive_scores(model, rows, row, [*text, EOS], code))


def create_model(shape: Sizes) -> Wav2Vec2LlamaModel:
    return replace(shape, lid=True).model().eval()


def detect(
    model: Wav2Vec2LlamaModel, rows: Utterances, codes: list[str], texts: list[list[int]]
) -> list[LanguageScores]:
    return detect_languages(model, rows.batch(), codes, texts=texts, margin=None)


def assert_same(actual: list[LanguageScores], expected: list[LanguageScores]) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert one.log_likelihoods == pytest.approx(dict(other.log_likelihoods), abs=ATOL)


def without_engine(wanted: bool) -> AbstractContextManager[object]:
    """Let the decoder's modules run, if wanted."""
    return (
        mock.patch.object(language, "find_engine", return_value=None) if wanted else nullcontext()
    )


@settings(max_examples=80, deadline=None)
@given(st.data(), sizes(), utterances(max_rows=3), candidates_of_test, st.booleans())
def test_scores_equal_those_of_the_forward_pass(
    data: st.DataObject, shape: Sizes, rows: Utterances, codes: list[str], by_modules: bool
) -> None:
    """Whether all candidates are read in one call or each in its own."""
    model, texts = create_model(shape), data.draw(texts_of(rows))
    max_positions = data.draw(st.integers(1, 60))
    with mock.patch.object(language, "MAX_POSITIONS", max_positions), without_engine(by_modules):
        results = detect(model, rows, codes, texts)
    for i, (result, text) in enumerate(zip(results, texts, strict=True)):
        expected = {code: naive_score(model, rows, i, text, code) for code in codes}
        atol = EXACT if by_modules else ATOL
        assert result.log_likelihoods == pytest.approx(expected, abs=atol, rel=0)


@settings(max_examples=40, deadline=None)
@given(sizes(), utterances(max_rows=3), candidates_of_test)
def test_probabilities_are_a_softmax_best_first(
    shape: Sizes, rows: Utterances, codes: list[str]
) -> None:
    for result in detect(create_model(shape), rows, codes, rows.targets):
        scores = list(result.log_likelihoods.values())
        assert scores == sorted(scores, reverse=True)
        softmax = torch.tensor(scores, dtype=torch.float64).softmax(0).tolist()
        assert list(result.probabilities.values()) == pytest.approx(softmax, abs=EXACT)
        assert list(result.probabilities) == list(result.log_likelihoods)


@settings(max_examples=40, deadline=None)
@given(st.data(), sizes(), utterances(), candidates_of_test)
def test_neither_other_rows_nor_the_order_of_candidates_matter(
    data: st.DataObject, shape: Sizes, rows: Utterances, codes: list[str]
) -> None:
    model, texts = create_model(shape), data.draw(texts_of(rows))
    expected = detect(model, rows, codes, texts)
    order, shuffled = data.draw(orders(rows)), data.draw(st.permutations(codes))
    some = Utterances(
        [rows.waveforms[i] for i in order],
        [rows.targets[i] for i in order],
        rows.langs and [rows.langs[i] for i in order],
    )
    results = detect(model, some, shuffled, [texts[i] for i in order])
    assert_same(results, [expected[i] for i in order])


@settings(max_examples=40, deadline=None)
@given(st.data(), sizes(), utterances(max_rows=2), candidates_of_test, st.floats(0.0, 3.0))
def test_pruning_drops_by_the_first_tokens_and_changes_no_score(
    data: st.DataObject, shape: Sizes, rows: Utterances, codes: list[str], margin: float
) -> None:
    model, texts = create_model(shape), data.draw(texts_of(rows))
    full = detect(model, rows, codes, texts)
    with mock.patch.multiple(language, MAX_POSITIONS=1, PILOT_TOKENS=2):
        results = detect_languages(model, rows.batch(), codes, texts=texts, margin=margin)
    for i, (result, expected) in enumerate(zip(results, full, strict=True)):
        start = [*texts[i], EOS][:2]
        first = {code: sum(naive_scores(model, rows, i, start, code)) for code in codes}
        least = max(first.values()) - margin
        kept = {code for code in codes if first[code] > least - ATOL}
        sure = {code for code in codes if first[code] > least + ATOL}
        assert sure <= result.log_likelihoods.keys() <= kept
        assert result.log_likelihoods == pytest.approx(
            {code: expected.log_likelihoods[code] for code in result.log_likelihoods}, abs=ATOL
        )
