"""Confidence: what it is made of, how it is calibrated, judged and stored."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from fairseq2.assets import AssetCard
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrConfig, create_wav2vec2_asr_model
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import arch_config, golden_model, golden_tokenizer, tiny_model
from tests.fakes_checkpoints import write_run
from wavellama import Wav2Vec2LlamaBeamSearchConfig
from wavellama.checkpoints.hub import find_model
from wavellama.errors import ConfigError, DataError, UnknownNameError
from wavellama.metrics.confidence import right_words, score_confidences
from wavellama.search.types import Hypothesis
from wavellama.tasks.calibrate import (
    Outcome,
    SplitReader,
    calibrate,
    check_decoder,
    compare,
    fit_confidence,
    recognise_words,
    save_confidence,
    score_words,
)
from wavellama.tasks.plots import draw_reliability
from wavellama.transcript.calibration import Confidence, read_confidence, to_json

LOGPROBS = st.floats(-50.0, 0.0)

SMALLEST = 1e-6

RATE = 16_000


def logit(p: float) -> float:
    return math.log(p / (1.0 - p))


def sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))


# Confidence


def test_without_calibration_it_is_the_geometric_mean() -> None:
    assert Confidence().of_word([math.log(0.9), math.log(0.4)]) == pytest.approx(0.6)
    assert Confidence().of_word([math.log(0.25)]) == pytest.approx(0.25)


def test_temperature_and_bias_move_the_logit() -> None:
    found = Confidence(2.0, -0.5).of_word([math.log(0.8)])
    assert logit(found) == pytest.approx(logit(0.8) / 2.0 - 0.5)


@given(
    logprobs=st.lists(LOGPROBS, min_size=1, max_size=20),
    temperature=st.floats(0.05, 20.0),
    bias=st.floats(-20.0, 20.0),
)
def test_it_is_a_probability_that_grows_with_each_token(
    logprobs: list[float], temperature: float, bias: float
) -> None:
    confidence = Confidence(temperature, bias)
    before = confidence.of_word(logprobs)
    assert 0.0 <= before <= 1.0
    assert confidence.of_word([logprobs[0] / 2, *logprobs[1:]]) >= before


@pytest.mark.parametrize("logprobs", [[0.0], [-math.inf, -0.1], [-1e9], [-0.0, 0.0]])
def test_certain_and_impossible_tokens(logprobs: list[float]) -> None:
    found = Confidence().of_word(logprobs)
    assert found == pytest.approx(SMALLEST if sum(logprobs) < -1 else 1.0 - SMALLEST, rel=1e-3)


def test_nothing_speaks_for_a_word_without_tokens() -> None:
    assert Confidence(1.0, 5.0).of_word([]) == 0.0


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_temperatures_are_above_0(temperature: float) -> None:
    with pytest.raises(ConfigError, match="`temperature` must be above 0"):
        Confidence(temperature)


# Calibration


def draw_words(count: int, temperature: float, bias: float, seed: int = 0) -> list[Outcome]:
    """Return words that are right as often as a calibration says."""
    draws = random.Random(seed)
    truth = Confidence(temperature, bias)
    words = []
    for _ in range(count):
        logprobs = [math.log(draws.uniform(0.02, 0.98)) for _ in range(draws.randint(1, 4))]
        words.append(Outcome(logprobs, draws.random() < truth.of_word(logprobs)))
    return words


@pytest.mark.parametrize(("temperature", "bias"), [(0.5, -1.0), (1.0, 0.0), (2.5, 0.7)])
def test_a_fit_finds_the_calibration(temperature: float, bias: float) -> None:
    words = draw_words(6000, temperature, bias)
    found = fit_confidence([w.token_logprobs for w in words], [w.is_right for w in words])
    assert found.temperature == pytest.approx(temperature, rel=0.15)
    assert found.bias == pytest.approx(bias, abs=0.15)


@pytest.mark.parametrize("sign", [1, -1])
def test_words_that_are_told_apart_at_once_or_never_have_a_finite_fit(sign: int) -> None:
    words = [[math.log(p)] for p in (0.1, 0.2, 0.8, 0.9)]
    are_right = [False, False, True, True][::sign]
    found = fit_confidence(words, are_right)
    confidences = [found.of_word(word) for word in words]
    assert confidences == sorted(confidences)
    assert (confidences[-1] > 0.99) == (sign > 0)


def test_calibration_lowers_the_error_on_words_that_it_has_not_seen() -> None:
    words = draw_words(3000, 0.4, -1.5)
    found = calibrate([words[i : i + 5] for i in range(0, 3000, 5)], "dev")
    assert found.num_words == 3000
    assert found.accuracy == pytest.approx(sum(w.is_right for w in words) / 3000)
    assert found.before.ece > 0.1 > 0.04 > found.after.ece
    assert found.after.brier < found.before.brier
    unseen = draw_words(3000, 0.4, -1.5, seed=1)
    assert score_words(found.confidence, unseen).ece < 0.04
    assert found.after.auc == pytest.approx(found.before.auc, abs=0.01)


@pytest.mark.parametrize(("is_right", "said"), [(True, "every one is"), (False, "none is")])
def test_words_of_one_kind_cannot_calibrate(is_right: bool, said: str) -> None:
    with pytest.raises(DataError, match=f"2 words recognised in the split dev, {said} right"):
        calibrate([[Outcome([-0.1], is_right)], [Outcome([-0.2], is_right)]], "dev")


def test_no_words_cannot_calibrate() -> None:
    with pytest.raises(DataError, match="Of the 0 words recognised in the split dev, none"):
        calibrate([[], []], "dev")


def test_one_utterance_is_enough() -> None:
    """One half is then without words; its fit is that of no calibration."""
    found = calibrate([[Outcome([-0.1], True), Outcome([-2.0], False)]], "dev")
    assert found.after == found.before


# Which words are right, and scores


@pytest.mark.parametrize(
    ("said", "heard", "expected"),
    [
        ("a b c", "a x c", [True, False, True]),
        ("a b c", "a c", [True, True]),
        ("a c", "a b c", [True, False, True]),
        ("The cat, sat.", "the Cat sat", [True, True, True]),
        ("a", "", []),
        ("", "a b", [False, False]),
        ("— …", "a ! b", [False, True, False]),
        ("it's so", "it’s , so", [True, True, True]),
        ("à la", "a\u0300 lá", [True, False]),
    ],
)
def test_right_words(said: str, heard: str, expected: list[bool]) -> None:
    assert right_words(said.split(), heard.split()) == expected


@given(
    rows=st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=1, max_size=40),
)
def test_scores_are_what_their_definitions_say(rows: list[tuple[float, bool]]) -> None:
    confidences, are_right = [row[0] for row in rows], [row[1] for row in rows]
    scores = score_confidences(confidences, are_right)
    assert scores.brier == pytest.approx(sum((p - y) ** 2 for p, y in rows) / len(rows))
    pairs = [(p, q) for p, y in rows if y for q, z in rows if not z]
    if pairs:
        above = sum((p > q) + 0.5 * (p == q) for p, q in pairs)
        assert scores.auc == pytest.approx(above / len(pairs))
    else:
        assert math.isnan(scores.auc)
    error = 0.0
    for place in range(10):
        members = [(p, y) for p, y in rows if min(int(p * 10), 9) == place]
        error += abs(sum(p for p, _ in members) - sum(y for _, y in members)) / len(rows)
    assert scores.ece == pytest.approx(error)
    assert sum(row.num_words for row in scores.bins) == len(rows)


def test_a_perfect_and_a_useless_confidence() -> None:
    right = [True, False] * 10
    perfect = score_confidences([float(value) for value in right], right)
    assert (perfect.ece, perfect.brier, perfect.auc) == (0.0, 0.0, 1.0)
    useless = score_confidences([0.5] * 20, right)
    assert (useless.ece, useless.brier, useless.auc) == (0.0, 0.25, 0.5)


def test_the_picture_shows_each_bin() -> None:
    scores = score_confidences([0.05, 0.55, 0.59, 1.0], [False, True, False, True])
    figure = draw_reliability({"before": scores, "after": scores}, "a run: 4 words of dev")
    above, below = figure.axes
    lines = [np.asarray(line.get_xydata()).tolist() for line in above.lines]
    assert lines[1] == lines[2] == [[0.05, 0.0], [pytest.approx(0.57), 0.5], [1.0, 1.0]]
    heights = [[bar.get_height() for bar in bars] for bars in below.containers]
    assert heights == [[1, 0, 0, 0, 0, 2, 0, 0, 0, 1]] * 2
    label = above.get_legend_handles_labels()[1][1]
    assert label == f"before: ECE {scores.ece:.3f}, Brier {scores.brier:.3f}"


# From hypotheses to words


def hypothesis_of(text: str, logprobs: Sequence[float], finished: bool = True) -> Hypothesis:
    tokens = golden_tokenizer().create_encoder()(text).tolist()
    assert len(logprobs) == len(tokens) + finished
    return Hypothesis(tokens, 0.0, list(logprobs), finished, "eos" if finished else "length")


def test_words_have_the_log_probabilities_of_their_tokens() -> None:
    decode = golden_tokenizer().create_decoder()
    hypothesis = hypothesis_of("no it", [-1.0, -2.0, -9.0, -3.0, -4.0, -8.0])
    outcomes = compare(hypothesis, decode, "so it", "eng_Latn")
    assert outcomes == [([-1.0, -2.0], False), ([-3.0, -4.0], True)]
    unfinished = hypothesis_of("no it", [-1.0, -2.0, -9.0, -3.0, -4.0], finished=False)
    assert compare(unfinished, decode, "so it", "eng_Latn") == outcomes


def test_log_probabilities_of_other_tokens_are_not_mistaken_for_theirs() -> None:
    decode = golden_tokenizer().create_decoder()
    joined = Hypothesis([5, 6], 0.0, [-1.0, -5.0, -2.0, -5.0], True, "eos")
    assert compare(joined, decode, "x", None) == []
    assert compare(Hypothesis([], 0.0, [-1.0], True, "eos"), decode, "x", None) == []


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A data set of five clips of noise in two languages."""
    draws = np.random.default_rng(0)
    lines = ["audio\tduration\ttext\tlang\tsplit"]
    for i in range(5):
        soundfile.write(tmp_path / f"{i}.wav", draws.standard_normal(RATE // 4) / 10, RATE)
        lang = "eng_Latn" if i < 3 else "ita_Latn"
        lines.append(f"{i}.wav\t0.25\tno one knows\t{lang}\tdev")
    (tmp_path / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize("name", ["llm_asr", "llm_asr_lid", "zero_shot", "streaming"])
@pytest.mark.parametrize(("languages", "count"), [((), 5), (("ita_Latn",), 2)])
def test_every_variant_recognises_a_split(
    corpus: Path, name: str, languages: tuple[str, ...], count: int
) -> None:
    search = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=6)
    totals: list[int] = []

    def track(outcomes: Any, total: int) -> Any:
        totals.append(total)
        return outcomes

    source = SplitReader(path=corpus, languages=languages)
    found = recognise_words(golden_model(name), golden_tokenizer(), source, search, track)
    assert (len(found), totals) == (count, [count])
    assert any(found)
    assert all(word.token_logprobs for words in found for word in words)


def test_what_cannot_be_read_is_an_error(corpus: Path) -> None:
    model, tokenizer = golden_model("llm_asr"), golden_tokenizer()
    search = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=6)
    with pytest.raises(UnknownNameError, match="test is not a known split"):
        recognise_words(model, tokenizer, SplitReader(path=corpus, split="test"), search)
    with pytest.raises(UnknownNameError, match="fra_Latn is not a known language of the split"):
        recognise_words(model, tokenizer, SplitReader(path=corpus, languages=("fra_Latn",)), search)
    with pytest.raises(DataError, match=r"no utterance of 0.1 to 0.2 seconds"):
        recognise_words(model, tokenizer, SplitReader(path=corpus, max_audio_secs=0.2), search)


def test_model_and_tokenizer_must_fit(corpus: Path) -> None:
    vocab = {"wav2vec2_asr_config": {"target_vocab_size": 40}, "llama_config": {"vocab_size": 40}}
    search = Wav2Vec2LlamaBeamSearchConfig(nbest=1)
    with pytest.raises(ConfigError, match="vocabulary of 40 tokens, but the tokenizer has 32"):
        recognise_words(tiny_model(vocab), golden_tokenizer(), SplitReader(path=corpus), search)


def test_a_ctc_model_has_no_decoder_to_calibrate() -> None:
    encoder = arch_config("tiny").wav2vec2_asr_config.encoder_config
    model = create_wav2vec2_asr_model(
        Wav2Vec2AsrConfig(encoder_config=encoder, target_vocab_size=8)
    )
    with pytest.raises(ConfigError, match="it has no decoder"):
        check_decoder(model)


# Storage


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    confidence = Confidence(0.123456789, -2.5)
    path = save_confidence(tmp_path, confidence)
    assert path == tmp_path / "confidence.json"
    assert read_confidence(path) == confidence
    assert json.loads(path.read_text()) == {"temperature": 0.123456789, "bias": -2.5}
    assert [file.name for file in tmp_path.iterdir()] == ["confidence.json"]


def test_without_a_file_there_is_no_calibration(tmp_path: Path) -> None:
    assert read_confidence(tmp_path / "confidence.json") == Confidence()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", r"`confidence` must have keys and values, but is \[1\]"),
        ('{"temprature": 1}', "has an unknown key `temprature`. Did you mean temperature"),
        ('{"temperature": "1"}', "`confidence.temperature` must be float, but is '1'"),
        ('{"bias": true}', "`confidence.bias` must be float, but is True"),
        ('{"temperature": 0}', "cannot be used: `temperature` must be above 0"),
        ('{"bias": NaN}', "cannot be used: `bias` must be a finite number"),
    ],
)
def test_broken_files_are_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "confidence.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_confidence(path)
    assert str(path) in str(caught.value)


def test_a_run_and_a_card_have_their_own(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert read_stored(str(tmp_path)) == Confidence()
    (tmp_path / "confidence.json").write_text(to_json(Confidence(3.0, 1.0)))
    assert read_stored(str(tmp_path)) == Confidence(3.0, 1.0)
    base = AssetCard("base", {"model_family": "x", "confidence": {"temperature": 2, "bias": -1}})
    assert read_stored(AssetCard("derived", {}, base)) == Confidence(2.0, -1.0)
    assert read_stored(AssetCard("plain", {})) == Confidence()
    with pytest.raises(ConfigError, match=r"in the card broken cannot be used: .* is 1\.5"):
        read_stored(AssetCard("broken", {"confidence": 1.5}))


def test_published_cards_have_no_calibration() -> None:
    assert read_stored("omniASR_LLM_300M") == Confidence()
    assert torch.get_default_dtype() == torch.float32


def read_stored(name: AssetCard | str) -> Confidence:
    return find_model(name).read_confidence()
