"""The output that hears which language is spoken, and what the pipeline makes of it."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch
from fairseq2.data.tokenizers import load_tokenizer

from tests.fakes import LID, SMALL, Utterances, make_waveforms, merge, tiny_model
from tests.unit.test_pipeline_inference import noise
from wavellama import ASRInferencePipeline, TranscribeOptions, Wav2Vec2LlamaModel
from wavellama.audio.load import AudioInput
from wavellama.batch import AsrBatch
from wavellama.decoding.language import LanguageScores, detect_languages
from wavellama.errors import ConfigError, DecodingError
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.pipeline import languages
from wavellama.units import SAMPLE_RATE

TWO_LAYERS = {"wav2vec2_asr_config": {"encoder_config": {"num_encoder_layers": 2}}}
CODES = ["eng_Latn", "deu_Latn", "spa_Latn"]
WAVEFORMS = make_waveforms([6000, 3000])
ROWS = Utterances(WAVEFORMS, [[4], [5]], [None, None])


def head_model(depth: int = 1, **overrides: Any) -> Wav2Vec2LlamaModel:
    changes = {**LID, "languages": CODES, "language_head_layer": depth, **overrides}
    model = tiny_model(merge(merge(SMALL, TWO_LAYERS), changes), dtype=torch.float64)
    assert model.language_head is not None
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.language_head.parameters():
            parameter.normal_(0.0, 0.5)
    return model


@pytest.fixture(scope="module")
def model() -> Wav2Vec2LlamaModel:
    return head_model()


def test_languages_are_heard_and_their_probabilities_add_up(model: Wav2Vec2LlamaModel) -> None:
    for row in detect_languages(model, ROWS.batch()):
        assert set(row.log_likelihoods) == set(CODES)
        assert sum(row.probabilities.values()) == pytest.approx(1.0)
        assert row.best == max(row.probabilities, key=row.probabilities.__getitem__)
    other = Utterances(make_waveforms([6000, 3000], seed=7), [[4], [5]], [None, None])
    assert detect_languages(model, ROWS.batch()) != detect_languages(model, other.batch())


def test_a_row_does_not_depend_on_its_padding(model: Wav2Vec2LlamaModel) -> None:
    together = detect_languages(model, ROWS.batch())[1]
    (alone,) = detect_languages(model, Utterances(WAVEFORMS[1:], [[5]], [None]).batch())
    assert dict(alone.log_likelihoods) == pytest.approx(dict(together.log_likelihoods), abs=1e-9)


def test_candidates_share_what_the_others_had(model: Wav2Vec2LlamaModel) -> None:
    everything = detect_languages(model, ROWS.batch())[0].probabilities
    pair = detect_languages(model, ROWS.batch(), ["de", "es"])[0].probabilities
    odds = [row["deu_Latn"] / row["spa_Latn"] for row in (everything, pair)]
    assert odds[0] == pytest.approx(odds[1])
    assert set(pair) == {"deu_Latn", "spa_Latn"}


def test_texts_that_are_given_are_scored_by_the_decoder(model: Wav2Vec2LlamaModel) -> None:
    scored = detect_languages(model, ROWS.batch(), texts=[[4, 5], [6]])
    assert scored != detect_languages(model, ROWS.batch(), texts=[[7, 8], [9]])
    assert scored != detect_languages(model, ROWS.batch())


def test_layers_above_have_no_say(model: Wav2Vec2LlamaModel) -> None:
    heard, other = detect_languages(model, ROWS.batch()), head_model()
    with torch.no_grad():
        for parameter in other.encoder.layers[1].parameters():
            parameter.mul_(-3.0)
    assert detect_languages(other, ROWS.batch()) == heard
    with torch.no_grad():
        for parameter in other.encoder.layers[0].parameters():
            parameter.mul_(-3.0)
    assert detect_languages(other, ROWS.batch()) != heard


def test_training_leaves_the_head_as_it_is() -> None:
    model = head_model()
    assert model.language_head is not None
    assert not any(parameter.requires_grad for parameter in model.language_head.parameters())
    assert all(parameter.requires_grad for parameter in model.encoder.parameters())


def test_pieces_of_one_input_are_taken_together_and_doubt_is_no_language(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hear(model: object, batch: AsrBatch, *_: object, **__: object) -> list[LanguageScores]:
        numbers.append(batch.num_rows)
        return [LanguageScores({"deu_Latn": log(4), "eng_Latn": log(3), "spa_Latn": log(2)})] * (
            batch.num_rows
        )

    numbers: list[int] = []
    monkeypatch.setattr(languages, "detect_languages", hear)
    model = tiny_model({**LID, "languages": CODES, "language_head_layer": 1})
    tokenizer = load_tokenizer("toy_tokenizer")
    pipeline = ASRInferencePipeline(None, model=model, tokenizer=tokenizer, dtype=torch.float32)
    inputs: list[AudioInput] = [
        {"waveform": noise(secs), "sample_rate": SAMPLE_RATE} for secs in (1.8, 0.9)
    ]
    search = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=5)
    options = TranscribeOptions(chunk_secs=1.0, vad=False, no_speech_threshold=1.0, search=search)
    long, short = pipeline.stream_results(inputs, options)
    assert {segment.language for segment in short.segments} == {None}
    assert {segment.language for segment in long.segments} == {"deu_Latn"}
    num_pieces = 3  # of a second, which overlap
    surer = 4**num_pieces / (4**num_pieces + 3**num_pieces + 2**num_pieces)
    for segment in long.segments:
        assert segment.language_probability == pytest.approx(surer)
    told = pipeline.stream_results(inputs[:1], options, lang="deu_Latn")
    assert [result.text for result in told] == [long.text]
    assert numbers == [num_pieces + 1]
    monkeypatch.setattr(languages, "EVIDENCE_SAMPLES", 3 * SAMPLE_RATE // 2)  # two pieces
    (heard_less,) = pipeline.stream_results(inputs[:1], options)
    assert numbers == [num_pieces + 1, 2]
    assert heard_less.text == long.text


def test_a_model_has_the_head_only_where_it_is_asked_for() -> None:
    plain = tiny_model(merge(SMALL, {**LID, "languages": CODES}))
    assert not [name for name in plain.state_dict() if name.startswith("language_head.")]


@pytest.mark.parametrize(
    "overrides",
    [
        {**LID, "language_head_layer": 9},
        {**LID, "language_head_layer": -1},
        {"language_head_layer": 1},
    ],
)
def test_a_head_without_languages_or_layers_is_refused(overrides: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="language_head_layer"):
        tiny_model(merge(SMALL, overrides))


def test_nan_is_an_error() -> None:
    broken = head_model()
    assert broken.language_head is not None
    with torch.no_grad():
        broken.language_head.query.fill_(torch.nan)
    with pytest.raises(DecodingError):
        detect_languages(broken, ROWS.batch())
