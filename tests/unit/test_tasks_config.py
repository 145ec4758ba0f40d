"""Values of the training configuration that are refused before anything is loaded."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fairseq2.recipe.config import GangSection, ModelSection, RegimeSection, TokenizerSection
from fairseq2.utils.validation import StandardObjectValidator, ValidationError

from wavellama.data.mixing import Betas
from wavellama.model.loss import Objective
from wavellama.model.spectral import SpectralAugment
from wavellama.tasks.config import AsrDatasetSection, AugmentSection, FreezeSection, TrainConfig
from wavellama.tasks.stopping import EarlyStoppingSection

REGIME = RegimeSection(num_steps=5, score_metric="cer", validate_every_n_steps=1)
CTC_REGIME = RegimeSection(num_steps=5, score_metric="ctc_cer", validate_every_n_steps=1)


def toy_config(**sections: Any) -> TrainConfig:
    """Return a configuration whose model, data set and tokenizer are toys."""
    return TrainConfig(
        model=ModelSection(family="wav2vec2_llama", arch="tiny_lid"),
        dataset=AsrDatasetSection(name="toy_tones"),
        tokenizer=TokenizerSection(name="toy_tokenizer"),
        **sections,
    )


def complaint(config: TrainConfig) -> str:
    """Return what validation says, empty if nothing."""
    try:
        StandardObjectValidator().validate(config)
    except ValidationError as ex:
        return str(ex)
    return ""


@pytest.mark.parametrize(
    "config",
    [
        toy_config(),
        toy_config(objective=Objective(ctc_weight=1.0), regime=CTC_REGIME),
        toy_config(objective=Objective(ctc_weight=0.5, label_smoothing=0.1, token_noise_p=1.0)),
        toy_config(freeze=FreezeSection(encoder_steps=-1)),
        toy_config(freeze=FreezeSection(decoder_steps=100)),
        toy_config(augment=AugmentSection(spectral=SpectralAugment(max_warp=0.1))),
        toy_config(early_stopping=EarlyStoppingSection(patience=1), regime=REGIME),
    ],
)
def test_good_configurations(config: TrainConfig) -> None:
    assert complaint(config) == ""


def test_models_are_not_split_over_processes() -> None:
    message = complaint(toy_config(gang=GangSection(tensor_parallel_size=2)))
    assert "`gang.tensor_parallel_size` must be 1" in message


@pytest.mark.parametrize(
    ("objective", "part"),
    [
        (Objective(ctc_weight=1.5), "`ctc_weight` must lie in [0, 1]: 1.5"),
        (Objective(ctc_weight=-0.1), "`ctc_weight` must lie in [0, 1]: -0.1"),
        (Objective(ctc_weight=math.nan), "`ctc_weight` must lie in [0, 1]: nan"),
        (Objective(label_smoothing=1.0), "`label_smoothing` must lie in [0, 1): 1"),
        (Objective(token_noise_p=1.1), "`token_noise_p` must lie in [0, 1]: 1.1"),
    ],
)
def test_the_ranges_of_the_objective(objective: Objective, part: str) -> None:
    message = complaint(toy_config(objective=objective))
    assert message.startswith("`objective` is not valid: ")
    assert part in message


@pytest.mark.parametrize(
    ("spectral", "part"),
    [
        (SpectralAugment(max_warp=1.0), "`max_warp` must lie in [0, 1): 1"),
        (SpectralAugment(max_warp=-0.1), "`max_warp` must lie in [0, 1): -0.1"),
        (SpectralAugment(num_freq_masks=-1), "`num_freq_masks` must be at least 0: -1"),
        (SpectralAugment(num_time_masks=-1), "`num_time_masks` must be at least 0: -1"),
        (SpectralAugment(windows_per_time_mask=-5), "`windows_per_time_mask` must be at least 0"),
        (SpectralAugment(freq_mask_width=0), "`freq_mask_width` must be at least 1: 0"),
        (SpectralAugment(time_mask_width=-2), "`time_mask_width` must be at least 1: -2"),
    ],
)
def test_the_ranges_of_spectral_augmentation(spectral: SpectralAugment, part: str) -> None:
    message = complaint(toy_config(augment=AugmentSection(spectral=spectral)))
    assert message.startswith("`augment.spectral` is not valid: ")
    assert part in message


@pytest.mark.parametrize(
    ("freeze", "part"),
    [
        (FreezeSection(encoder_steps=-2), "`encoder_steps` must be a number of steps, or -1: -2"),
        (FreezeSection(decoder_steps=-9), "`decoder_steps` must be a number of steps, or -1: -9"),
        (FreezeSection(encoder_layers=-1), "`encoder_layers` must be at least 0: -1"),
        (FreezeSection(encoder_steps=-1, decoder_steps=3), "the first step trains nothing"),
    ],
)
def test_the_ranges_of_freezing(freeze: FreezeSection, part: str) -> None:
    message = complaint(toy_config(freeze=freeze))
    assert message.startswith("`freeze` is not valid: ")
    assert part in message


@pytest.mark.parametrize(
    ("section", "part"),
    [
        (EarlyStoppingSection(patience=0), "`patience` must be at least 1: 0"),
        (EarlyStoppingSection(min_delta=-0.5), "`min_delta` must be at least 0: -0.5"),
        (EarlyStoppingSection(min_delta=math.inf), "`min_delta` must be at least 0: inf"),
    ],
)
def test_the_ranges_of_early_stopping(section: EarlyStoppingSection, part: str) -> None:
    message = complaint(toy_config(early_stopping=section, regime=REGIME))
    assert message == f"`early_stopping` is not valid: {part}."


def test_early_stopping_needs_scores() -> None:
    regime = RegimeSection(num_steps=5)
    message = complaint(toy_config(early_stopping=EarlyStoppingSection(), regime=regime))
    assert "`regime.score_metric`" in message
    assert "`regime.validate_every_n_steps`" in message


@pytest.mark.parametrize(
    ("metric", "instead"), [("cer", "ctc_cer"), ("wer", "ctc_wer"), ("nll_loss", "ctc_loss")]
)
def test_a_score_of_a_decoder_that_is_not_run(metric: str, instead: str) -> None:
    regime = RegimeSection(num_steps=5, score_metric=metric)
    message = complaint(toy_config(objective=Objective(ctc_weight=1.0), regime=regime))
    assert f"`regime.score_metric` is {metric}, " in message
    assert message.endswith(f"choose {instead}.")


def test_a_frozen_encoder_leaves_the_ctc_head_nothing_to_train() -> None:
    config = toy_config(
        objective=Objective(ctc_weight=1.0),
        regime=CTC_REGIME,
        freeze=FreezeSection(encoder_steps=2),
    )
    assert "`freeze.encoder_steps` must be 0: 2" in complaint(config)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["beta_corpus", "beta_language"])
def test_the_ranges_of_mixing(name: str, value: float) -> None:
    config = toy_config()
    setattr(config.dataset, name, value)
    assert f"`{name}` must be at least 0: {value:g}" in complaint(config)


def test_data_are_mixed_where_an_exponent_is_given() -> None:
    assert AsrDatasetSection().betas is None
    assert AsrDatasetSection(beta_language=0.0).betas == Betas(language=0.0)
    assert AsrDatasetSection(beta_corpus=0.5).betas == Betas(corpus=0.5)
