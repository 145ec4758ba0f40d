"""Detecting the language: what is asked of the decoder, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.fakes import LID, SMALL, Utterances, make_waveforms, merge, small_model, tiny_model
from wavellama import Wav2Vec2LlamaBeamSearchConfig, Wav2Vec2LlamaModel, generate
from wavellama.decoding import language
from wavellama.decoding.language import detect_languages, split_at_language
from wavellama.engine import Engine
from wavellama.errors import (
    BatchError,
    ConfigError,
    ContextTooLongError,
    DecodingError,
    UnknownLanguageError,
)
from wavellama.prompt.parts import Audio, Language, Token
from wavellama.prompt.syntaxes import LLM_ASR_LID

CODES = ["eng_Latn", "deu_Latn", "spa_Latn"]
ROWS = Utterances(make_waveforms([5000, 3000]), [[4], [5, 6]], ["eng_Latn", None])
TEXTS = [[4, 5, 6], [7]]
GREEDY = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=12)
STREAMING = {"n_special_tokens": 3, "streaming_config": {"is_streaming": True, "segment_secs": 0.5}}


class CountingEngine:
    """Counts the calls of an engine's methods."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.prefilled: list[int] = []
        self.read: list[int] = []
        prefill, extend = Engine.prefill, Engine.extend_embedded

        def count_prefill(engine: Engine, prompts: list[Tensor]) -> object:
            self.prefilled += [len(prompt) for prompt in prompts]
            return prefill(engine, prompts)

        def count_extend(engine: Engine, cache: object, seqs: Tensor, *rest: Tensor) -> Tensor:
            self.read.append(seqs.size(1))
            return extend(engine, cache, seqs, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(Engine, "prefill", count_prefill)
        monkeypatch.setattr(Engine, "extend_embedded", count_extend)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> CountingEngine:
    return CountingEngine(monkeypatch)


def test_a_prompt_is_read_once_whatever_the_number_of_candidates(engine: CountingEngine) -> None:
    model = small_model(lid=True)
    frames = model.embed_prompt(model.read_batch(ROWS.batch())).layout.seq_lens
    detect_languages(model, ROWS.batch(), texts=TEXTS, margin=None)
    assert engine.prefilled == [length - 2 for length in frames]  # without language and BOS
    # Language, BOS and all of the text are read, but not EOS, behind which nothing is scored.
    num_languages = len(model.lang_mapping)
    assert sum(engine.read) == num_languages * (2 + 3) + num_languages * (2 + 1)
    assert max(engine.read) <= language.MAX_POSITIONS


def test_few_candidates_are_read_in_one_call(engine: CountingEngine) -> None:
    detect_languages(small_model(lid=True), ROWS.batch(), CODES, texts=TEXTS)
    assert engine.read == [3 * (2 + 3), 3 * (2 + 1)]


def test_a_pilot_saves_reading(engine: CountingEngine) -> None:
    model, texts = small_model(lid=True), [[4, 5, 6, 7] * 10, [8, 9] * 20]
    (full, _) = detect_languages(model, ROWS.batch(), texts=texts, margin=None)
    num_read = sum(engine.read)
    engine.read.clear()
    (pruned, _) = detect_languages(model, ROWS.batch(), texts=texts, margin=0.5)
    assert sum(engine.read) < 0.7 * num_read
    assert 1 <= len(pruned.log_likelihoods) < len(full.log_likelihoods)


def test_the_text_is_what_the_model_writes_without_a_language() -> None:
    model = tiny_model(merge(SMALL, LID), sharpness=8.0, seed=6)
    assert model.lang_embeddings is not None
    with torch.no_grad():
        model.lang_embeddings.weight.mul_(3.0)  # so that a language changes the text
    bare = Utterances(ROWS.waveforms, ROWS.targets)
    texts = [row[0].tokens for row in generate(model, bare.batch(), GREEDY)]
    assert texts[0] != generate(model, ROWS.batch(), GREEDY)[0][0].tokens
    expected = detect_languages(model, ROWS.batch(), CODES, texts=texts)
    assert detect_languages(model, ROWS.batch(), CODES, config=GREEDY) == expected


def test_the_language_changes_the_score() -> None:
    (scores, _) = detect_languages(small_model(lid=True), ROWS.batch(), CODES, texts=TEXTS)
    assert len(set(scores.log_likelihoods.values())) == len(CODES)
    assert scores.best == max(CODES, key=lambda code: scores.probabilities[code])


def test_one_candidate_is_certain() -> None:
    results = detect_languages(small_model(lid=True), ROWS.batch(), ["deu_Latn"], texts=TEXTS)
    assert [result.probabilities for result in results] == [{"deu_Latn": 1.0}] * 2


def test_codes_are_understood_and_counted_once() -> None:
    candidates = ["de", "DEU_latn", "eng"]
    results = detect_languages(small_model(lid=True), ROWS.batch(), candidates, texts=TEXTS)
    assert set(results[0].probabilities) == {"deu_Latn", "eng_Latn"}
    assert sum(results[0].probabilities.values()) == pytest.approx(1.0)


def test_the_mode_of_the_model_stays() -> None:
    model = tiny_model(merge(SMALL, LID)).train()
    first = detect_languages(model, ROWS.batch(), CODES, texts=TEXTS)
    assert model.training
    assert detect_languages(model.eval(), ROWS.batch(), CODES, texts=TEXTS) == first


def test_other_decoders_run_through_their_modules(engine: CountingEngine) -> None:
    model = tiny_model(merge(SMALL, LID))
    expected = detect_languages(model, ROWS.batch(), CODES, texts=TEXTS)
    engine.read.clear()
    model.llama_decoder.register_forward_hook(lambda *_: None)
    results = detect_languages(model, ROWS.batch(), CODES, texts=TEXTS)
    assert not engine.read
    for one, other in zip(results, expected, strict=True):
        assert one.log_likelihoods == pytest.approx(dict(other.log_likelihoods), abs=1e-6)


def test_int8_weights_are_used(engine: CountingEngine) -> None:
    model = tiny_model(merge(SMALL, LID), dtype=torch.float32)
    int8 = Wav2Vec2LlamaBeamSearchConfig(weights="int8")
    exact = detect_languages(model, ROWS.batch(), CODES, texts=TEXTS)[0].log_likelihoods
    rounded = detect_languages(model, ROWS.batch(), CODES, texts=TEXTS, config=int8)
    assert rounded[0].log_likelihoods != exact
    assert rounded[0].log_likelihoods == pytest.approx(dict(exact), abs=0.3)
    model.llama_decoder.register_forward_hook(lambda *_: None)
    with pytest.raises(ConfigError, match="set them to native"):
        detect_languages(model, ROWS.batch(), CODES, texts=TEXTS, config=int8)


def test_what_is_shared_comes_from_the_syntax() -> None:
    shared, own = split_at_language(LLM_ASR_LID)
    assert shared == (Audio(), Token("lid"))
    assert own[:2] == (Language(), Token("bos"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (small_model(), "LLM_ASR takes no language.* use one of the type LLM_ASR_LID"),
        (tiny_model(merge(merge(SMALL, LID), STREAMING)), "reads the language before the audio"),
    ],
)
def test_models_that_cannot_tell(model: Wav2Vec2LlamaModel, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        detect_languages(model, ROWS.batch(), CODES, texts=TEXTS)


def test_unknown_candidates_are_named_with_near_ones() -> None:
    with pytest.raises(UnknownLanguageError, match=r"'german' .* deu_Latn"):
        detect_languages(small_model(lid=True), ROWS.batch(), ["german"], texts=TEXTS)


def test_no_candidates() -> None:
    with pytest.raises(ConfigError, match="name at least one"):
        detect_languages(small_model(lid=True), ROWS.batch(), [], texts=TEXTS)


@pytest.mark.parametrize(
    ("texts", "message"),
    [([[4]], "1 entries, but the batch has 2"), ([[4], [12]], "row 1 .* vocabulary of 12")],
)
def test_texts_must_fit(texts: list[list[int]], message: str) -> None:
    with pytest.raises(BatchError, match=message):
        detect_languages(small_model(lid=True), ROWS.batch(), CODES, texts=texts)


def test_texts_longer_than_the_decoder_reads() -> None:
    model = small_model(lid=True)
    frames = model.embed_prompt(model.read_batch(ROWS.batch())).layout.seq_lens[0]
    longest = [4] * (model.max_generation_length - frames)
    detect_languages(model, ROWS.batch(), CODES, texts=[longest, [4]])
    with pytest.raises(ContextTooLongError):
        detect_languages(model, ROWS.batch(), CODES, texts=[[*longest, 4], [4]])


def test_nan_is_an_error() -> None:
    model = tiny_model(merge(SMALL, LID))
    with torch.no_grad():
        model.final_proj.weight[3] = torch.nan
    with pytest.raises(DecodingError, match="NaN"):
        detect_languages(model, ROWS.batch(), CODES, texts=TEXTS)
