"""The CTC head that is told the language."""

from __future__ import annotations

import pytest
import torch

from tests.fakes import LID, SMALL, make_batch, make_waveforms, merge, tiny_model
from wavellama import Wav2Vec2LlamaBeamSearchConfig, generate
from wavellama.decoding.ctc import ctc_head_generate
from wavellama.model.ctc_head import LanguageCtcHead
from wavellama.model.loss import Objective, TrainingLoss
from wavellama.model.model import Wav2Vec2LlamaModel

WAVEFORMS = make_waveforms([6000, 3000])
CTC_ALONE = Objective(ctc_weight=1.0)


@pytest.fixture(scope="module")
def model() -> Wav2Vec2LlamaModel:
    overrides = {**LID, "ctc_head": True, "ctc_head_layers": 2}
    model = tiny_model(merge(SMALL, overrides), sharpness=4.0)
    assert isinstance(model.ctc_head, LanguageCtcHead)
    with torch.no_grad():
        model.ctc_head.languages.weight.mul_(4.0)
        model.ctc_head.proj.weight.mul_(4.0)
    return model


def losses(model: Wav2Vec2LlamaModel, *langs: str | None) -> list[float]:
    """Return the CTC loss for each language of all rows."""
    found: list[float] = []
    for lang in langs:
        torch.manual_seed(0)  # of dropout
        with torch.no_grad():
            loss = model(make_batch(WAVEFORMS, None, [lang] * 2), objective=CTC_ALONE)
        assert isinstance(loss, TrainingLoss)
        found.append(float(loss.ctc))
    return found


def test_the_loss_depends_on_the_language(model: Wav2Vec2LlamaModel) -> None:
    english, german, none = losses(model, "eng_Latn", "deu_Latn", None)
    assert len({english, german, none}) == 3


def test_training_hides_the_language_as_it_does_from_the_decoder(
    model: Wav2Vec2LlamaModel,
) -> None:
    model.train()
    try:
        model.lang_embeddings_p = 0.0
        english, german = losses(model, "eng_Latn", "deu_Latn")
        model.lang_embeddings_p = 1.0
        told, other = losses(model, "eng_Latn", "deu_Latn")
    finally:
        model.lang_embeddings_p = 0.5
        model.eval()
    assert english == german
    assert told != other


def test_texts_depend_on_the_language_and_on_their_own_row_alone(
    model: Wav2Vec2LlamaModel,
) -> None:
    langs = ["eng_Latn", "deu_Latn", "ita_Latn", None]
    texts = {}
    for lang in langs:
        batch = model.read_batch(make_batch(WAVEFORMS, None, [lang] * 2))
        texts[lang] = ctc_head_generate(model, batch)
    assert len({str(text) for text in texts.values()}) > 1
    mixed = model.read_batch(make_batch(WAVEFORMS, None, ["ita_Latn", "eng_Latn"]))
    assert ctc_head_generate(model, mixed) == [texts["ita_Latn"][0], texts["eng_Latn"][1]]


@pytest.mark.parametrize("nbest", [1, 3])
def test_the_joint_search_is_told_the_language(model: Wav2Vec2LlamaModel, nbest: int) -> None:
    """At weight 1 the decoder, which reads the language too, has no say."""
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=nbest, ctc_weight=1.0, max_new_tokens=8)
    scores = []
    for lang in ("eng_Latn", "deu_Latn"):
        batch = make_batch(WAVEFORMS, None, [lang] * 2)
        scores.append([row[0].score for row in generate(model, batch, config)])
    assert scores[0] != scores[1]


def test_logits_do_not_depend_on_padding(model: Wav2Vec2LlamaModel) -> None:
    frames = torch.randn(2, 9, 16, dtype=torch.float64)
    with torch.no_grad():
        together = model.ctc_logits(frames, [9, 4], [1, 2])
        alone = model.ctc_logits(frames[1:, :4], [4], [2])
    torch.testing.assert_close(together[1, :4], alone[0])


def test_the_table_of_languages_is_that_of_the_model() -> None:
    overrides = {**LID, "ctc_head": True, "ctc_head_layers": 1, "languages": ["abc_Latn"]}
    model = tiny_model(merge(SMALL, overrides))
    assert model.state_dict()["ctc_head.languages.weight"].shape == (2, 16)
