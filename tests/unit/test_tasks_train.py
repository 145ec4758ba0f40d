"""The parts of training: objective, token noise, freezing, augmentation, plans, bad audio."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import cast

import pytest
import torch
from fairseq2.data.tokenizers import load_tokenizer
from fairseq2.device import CPU
from fairseq2.gang import create_fake_gangs
from torch import Tensor

from tests.fakes import make_batch, make_waveforms, tiny_model
from wavellama.audio.load import change_speed
from wavellama.data.dataset import AsrDataset
from wavellama.data.plan import Planner, ReaderOptions
from wavellama.data.toy import ToyTones, ToyTonesConfig
from wavellama.data.utterance import Utterance
from wavellama.errors import AudioError, BatchError, ConfigError, DataError
from wavellama.model.draws import replace_tokens
from wavellama.model.loss import Objective, TrainingLoss, ctc_sum
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.spectral import SpectralAugment
from wavellama.tasks.adapters import adapt
from wavellama.tasks.config import FreezeSection
from wavellama.tasks.setup import Freezer, set_spectral_augment

CTC = {"ctc_head": True}


BATCH = make_batch(make_waveforms([9000, 6400], seed=1, dtype=torch.float64), [[5, 6, 7], [8, 9]])


def objective_loss(model: Wav2Vec2LlamaModel, objective: Objective) -> TrainingLoss:
    return cast("TrainingLoss", model(BATCH, objective=objective))


def test_the_objective_weighs_both_losses() -> None:
    model = tiny_model(CTC)
    decoder = objective_loss(model, Objective())
    head = objective_loss(model, Objective(ctc_weight=1.0))
    both = objective_loss(model, Objective(ctc_weight=0.25))
    assert float(decoder.ctc) == 0.0
    assert float(head.nll) == 0.0
    assert float(both.total) == pytest.approx(0.75 * float(decoder.nll) + 0.25 * float(head.ctc))


def test_the_plain_objective_is_the_models_own_loss() -> None:
    model = tiny_model()
    num_targets, num_rows = 7, 2
    expected = float(cast("Tensor", model(BATCH))) * num_targets / num_rows
    assert float(objective_loss(model, Objective()).total) == pytest.approx(expected)


def test_the_ctc_loss_is_a_sum_over_paths() -> None:
    """One token over two frames: the paths are (t, t), (t, blank) and (blank, t)."""
    logits = torch.randn(1, 2, 4, generator=torch.Generator().manual_seed(0))
    p = logits.softmax(-1)[0]
    expected = p[0, 3] * p[1, 3] + p[0, 3] * p[1, 0] + p[0, 0] * p[1, 3]
    assert float(ctc_sum(logits, [2], [[3]])) == pytest.approx(-float(expected.log()), abs=1e-5)
    assert float(ctc_sum(logits, [2], [[3, 2, 1]])) == 0.0, "more tokens than frames"


def test_a_ctc_weight_without_a_head_is_an_error() -> None:
    with pytest.raises(BatchError, match="ctc_head: true"):
        objective_loss(tiny_model(), Objective(ctc_weight=0.5))


def test_label_smoothing_changes_the_loss_of_training() -> None:
    model, smooth = tiny_model(sharpness=8.0), Objective(label_smoothing=0.3)
    plain = float(objective_loss(model, Objective()).nll)
    assert float(objective_loss(model, smooth).nll) == plain, "not in eval mode"
    model.train()
    assert float(objective_loss(model, smooth).nll) != plain


def test_token_noise_acts_in_training_only_and_repeats_itself() -> None:
    model = tiny_model(sharpness=8.0)
    noisy = Objective(token_noise_p=0.9)
    assert float(objective_loss(model, noisy).nll) == float(objective_loss(model, Objective()).nll)
    model.train()
    losses = []
    for step in (1, 1, 2):
        adapt(model).start_step(step, rank=0)
        losses.append(float(objective_loss(model, noisy).nll))
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_noise_replaces_the_given_share_of_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = [-1] * 4000
    replaced = sum(token != -1 for token in replace_tokens(tokens, 32, 0.2, generator))
    assert 0.17 < replaced / 4000 < 0.23


@pytest.mark.parametrize(
    ("section", "step_nr", "encoder", "decoder"),
    [
        (FreezeSection(), 1, True, True),
        (FreezeSection(encoder_steps=2), 2, False, True),
        (FreezeSection(encoder_steps=2), 3, True, True),
        (FreezeSection(encoder_steps=-1), 10_000, False, True),
        (FreezeSection(decoder_steps=-1), 1, True, False),
    ],
)
def test_freezing(section: FreezeSection, step_nr: int, encoder: bool, decoder: bool) -> None:
    model = tiny_model({**CTC, "n_special_tokens": 1}, arch="tiny_lid")
    Freezer(model, section).start_step(step_nr)
    trainable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    for name, value in trainable.items():
        of_encoder = name.startswith(("encoder.", "encoder_frontend.", "ctc_head."))
        assert value == (encoder if of_encoder else decoder), name


def test_what_was_frozen_before_stays_frozen() -> None:
    model = tiny_model()
    model.encoder_proj.requires_grad_(False)
    freezer = Freezer(model, FreezeSection(encoder_steps=1))
    for step_nr in (1, 2):
        freezer.start_step(step_nr)
        assert not model.encoder_proj.weight.requires_grad
        assert model.final_proj.weight.requires_grad


def test_lower_layers_stay_frozen_when_the_encoder_thaws() -> None:
    model = tiny_model({**CTC, "n_special_tokens": 1}, arch="tiny_lid")
    freezer = Freezer(model, FreezeSection(encoder_steps=2, encoder_layers=1))
    for step_nr in (1, 3):
        freezer.start_step(step_nr)
        for name, parameter in model.named_parameters():
            lower = name.startswith(("encoder_frontend.", "encoder.layers.0."))
            of_encoder = name.startswith(("encoder", "ctc_head.")) and "encoder_proj" not in name
            assert parameter.requires_grad == (not (lower or (of_encoder and step_nr == 1))), name


def test_more_layers_than_the_encoder_has_cannot_be_frozen() -> None:
    with pytest.raises(ConfigError, match=r"`freeze.encoder_layers` is 99, but the encoder has"):
        Freezer(tiny_model(), FreezeSection(encoder_layers=99))


def test_speed_changes_the_length_and_the_pitch() -> None:
    wave = torch.sin(torch.arange(16_000) * 2 * torch.pi * 400 / 16_000)
    fast = change_speed(wave, 1.25)
    assert len(fast) == pytest.approx(12_800, abs=2)
    peak = int(torch.fft.rfft(fast[:12_800]).abs().argmax()) * 16_000 / 12_800
    assert peak == pytest.approx(500, abs=3)
    assert torch.equal(change_speed(wave, 1.0), wave)


def spectra() -> Tensor:
    return torch.rand(3, 60, 257, generator=torch.Generator().manual_seed(0)) + 1.0


def test_warping_moves_peaks_by_at_most_its_factor() -> None:
    power = torch.zeros(20, 1, 257)
    power[:, :, 100] = 1.0
    warped = SpectralAugment(max_warp=0.1).warp(power, torch.Generator().manual_seed(0))
    peaks = warped[:, 0].argmax(-1)
    assert peaks.min() >= 90
    assert peaks.max() <= 112
    assert len(set(peaks.tolist())) > 5
    assert torch.equal(SpectralAugment().warp(power, torch.Generator()), power)


def test_masks_stay_within_their_row_and_their_widths() -> None:
    log_mel = spectra()[:, :, :80]
    augment = SpectralAugment(num_time_masks=1, time_mask_width=5)
    masked = augment.mask(log_mel, [60, 40, 20], torch.Generator().manual_seed(3))
    changed = (masked != log_mel).any(-1)
    assert not changed[1, 40:].any()
    assert not changed[2, 20:].any()
    assert changed.sum(-1).max() <= 5
    assert changed.any()
    channels = SpectralAugment(num_freq_masks=2, freq_mask_width=7)
    masked = channels.mask(log_mel, [60, 40, 20], torch.Generator().manual_seed(3))
    assert 0 < (masked != log_mel).any(1).sum(-1).max() <= 14


def test_spectral_changes_need_filter_banks() -> None:
    with pytest.raises(ConfigError, match="raw waveforms"):
        set_spectral_augment(tiny_model(), SpectralAugment(max_warp=0.1))


def test_plans_are_functions_of_their_draw() -> None:
    utterances = ToyTones(ToyTonesConfig(num_train=20)).utterances("train")
    options = ReaderOptions(speeds=(0.9, 1.0, 1.1), concat_p=0.5, max_audio_secs=5.0)
    planner = Planner(utterances, options)
    plans, again, other = (
        [planner.plan(i, random.Random(f"{seed}:{i}")) for i in range(20)] for seed in (1, 1, 2)
    )
    assert plans == again
    assert plans != other
    assert {len(plan.indices) for plan in plans} == {1, 2}
    assert {plan.speed for plan in plans} == {0.9, 1.0, 1.1}
    for plan in plans:
        assert len({utterances[i].lang for i in plan.indices}) == 1
        assert plan.num_samples <= 5.0 * 16_000


class Broken(AsrDataset):
    """The toy tones, but for some utterances without audio."""

    def __init__(self, bad: set[int]) -> None:
        self._tones, self._bad = ToyTones(ToyTonesConfig(num_train=20)), bad

    def utterances(self, split: str) -> list[Utterance]:
        return list(self._tones.utterances(split))

    def read_audio(self, utterance: Utterance) -> Tensor:
        if int(utterance.audio.name.split("-")[1]) in self._bad:
            raise AudioError(str(utterance.audio), "it is broken.")
        return self._tones.read_audio(utterance)


def read_all(dataset: AsrDataset, options: ReaderOptions) -> set[str]:
    tokenizer = load_tokenizer("toy_tokenizer")
    reader = dataset.create_reader("train", tokenizer, create_fake_gangs(CPU), options)
    names: set[str] = set()
    for batches in reader:
        for batch in batches:
            assert isinstance(batch.example, dict)
            names.update(batch.example["audio"])
    return names


def test_bad_audio_is_skipped_and_listed(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    options = ReaderOptions(
        batch_audio_secs=2.0, max_audio_secs=2.0, failures_path=path, max_bad_share=0.1
    )
    names = read_all(Broken({3, 7}), options)
    assert names == {f"train-{i}" for i in range(20) if i not in (3, 7)}
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(record["audio"] for record in records) == ["train-3", "train-7"]
    assert {record["reason"] for record in records} == {"it is broken."}


def test_too_much_bad_audio_stops_the_run() -> None:
    options = ReaderOptions(batch_audio_secs=2.0, max_audio_secs=2.0, max_bad_share=0.05)
    with pytest.raises(DataError, match="2 of 20 utterances are unusable"):
        read_all(Broken({3, 7}), options)


def test_another_seed_draws_other_noise() -> None:
    model = tiny_model(sharpness=8.0).train()
    losses = []
    for seed in (1, 1, 2):
        adapt(model).reseed(seed)
        adapt(model).start_step(1, rank=0)
        losses.append(float(objective_loss(model, Objective(token_noise_p=0.9)).nll))
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
