"""Faults that were put into the code on purpose and that no test saw, one test each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from fairseq2.device import CPU
from fairseq2.metrics import Mean, MetricBag

from tests.fakes import SMALL, make_batch, make_waveforms, merge, tiny_model
from tests.unit.test_pipeline_chunked import results
from tests.unit.test_pipeline_inference import RATE, create_pipeline, noise
from tests.unit.test_tasks_train import objective_loss
from wavellama import ContextExample, Hypothesis, TranscribeOptions
from wavellama.batch import AsrBatch, Example
from wavellama.decoding.examples import read_examples
from wavellama.decoding.streaming import join_hypotheses
from wavellama.errors import BatchError
from wavellama.model.loss import Objective, ctc_sum
from wavellama.model.spectral import SpectralAugment
from wavellama.search.types import StopReason
from wavellama.tasks.adapters import adapt
from wavellama.tasks.setup import set_spectral_augment
from wavellama.tasks.transcriber import Transcriber
from wavellama.tasks.units import ValidationUnit

FILTER_BANKS = {
    "wav2vec2_asr_config": {
        "encoder_config": {
            "use_fbank": True,
            "num_fbank_channels": 8,
            "fbank_stride": 2,
            "feature_dim": 16,
        }
    }
}

ZERO_SHOT = {"model_type": "ZERO_SHOT", "n_special_tokens": 6, "n_context_examples": 2}


def test_zero_shot_results_come_in_the_order_of_the_inputs() -> None:
    """Inputs with equal examples are recognised together, whatever stands between them."""
    pipeline = create_pipeline("zero_shot")
    rows = [[ContextExample({"waveform": noise(0.4, i), "sample_rate": RATE}, t)] for i, t in [
        (7, "ab"), (8, "cd")
    ]]  # fmt: skip
    examples = [rows[0], rows[1], rows[1], rows[0]]
    clips = [{"waveform": noise(0.6, i), "sample_rate": RATE} for i in range(4)]
    alone = [
        pipeline.transcribe_with_context(clip, row)[0]
        for clip, row in zip(clips, examples, strict=True)
    ]
    assert alone[0] != alone[1], "the examples have an effect"
    assert pipeline.transcribe_with_context(clips, examples, batch_size=4) == alone


def test_a_language_that_was_given_is_not_detected_anew() -> None:
    pipeline = create_pipeline()
    clips: list[Any] = [{"waveform": noise(0.6, i), "sample_rate": RATE} for i in range(3)]
    chosen = TranscribeOptions(languages=("eng_Latn", "fra_Latn"), no_speech_threshold=1.0)
    given = ["deu_Latn", None, "ita_Latn"]
    found = list(pipeline.stream_results(clips, chosen, lang=given))
    assert [found[0].language, found[2].language] == ["deu_Latn", "ita_Latn"]
    assert found[1].language in chosen.languages
    assert [one.language_probability is None for one in found] == [True, False, True]
    (told,) = results(pipeline, [clips[2]], lang="ita_Latn", search=None)
    assert found[2].text == told.text


def test_clips_that_begin_alike_are_not_taken_for_equal() -> None:
    model = tiny_model(SMALL)
    long = make_waveforms([4_000, 4_000])
    long[1][:3_000] = long[0][:3_000]
    batch = AsrBatch(torch.stack(long), [4_000, 4_000], [], [None, None])
    together = model.embed_prompt(batch).seqs
    apart = [
        model.embed_prompt(AsrBatch(clip[None], [4_000], [], [None])).seqs[0]
        for clip in batch.audio
    ]
    assert not torch.allclose(apart[0], apart[1])
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other)


class _Pairs:
    """Transcribes a batch as told: a reference and a text for each row."""

    systems = ("",)

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = pairs

    def transcribe(self, batch: object) -> list[Any]:
        return [
            SimpleNamespace(reference=reference, text=text, ctc_text=None, lang="eng_Latn")
            for reference, text in self._pairs
        ]


def test_validation_counts_edits_over_all_utterances() -> None:
    """Rates averaged by the utterance give a short one the weight of a long one."""
    model = tiny_model(SMALL)
    pairs = [("a", "b"), ("one two three four", "one two three four"), ("", "")]
    batch = make_batch(make_waveforms([2_000, 2_000]))
    transcriber = cast("Transcriber", _Pairs(pairs))
    unit = ValidationUnit(model, adapt(model), Objective(), transcriber)
    bag = MetricBag(device=CPU)
    unit.prepare_metric_bag(bag)
    unit.process_batch(batch, bag)
    rates = [float(bag.get(name, Mean).compute()) for name in ("cer", "wer")]
    # an empty reference counts as one
    assert rates == pytest.approx([100 * 1 / (1 + 18 + 1), 100 * 1 / (1 + 4 + 1)])


def test_a_row_that_no_path_can_spell_costs_no_gradient() -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = ctc_sum(logits, [3, 3], [[1, 2, 3, 4], [2]])
    (gradient,) = torch.autograd.grad(loss, logits)
    assert math.isfinite(loss.item())
    assert not gradient[0].any()
    assert gradient[1].any()
    assert bool(torch.isfinite(gradient).all())


def test_another_seed_changes_the_filter_banks_in_another_way() -> None:
    model = tiny_model(merge(SMALL, FILTER_BANKS)).train()
    set_spectral_augment(model, SpectralAugment(num_freq_masks=2, freq_mask_width=4))
    losses = []
    for seed in (1, 1, 2):
        adapt(model).reseed(seed)
        adapt(model).start_step(1, rank=0)
        losses.append(float(objective_loss(model, Objective()).nll))
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_of_several_reasons_the_first_is_told() -> None:
    reasons: list[StopReason] = ["eos", "repetition", "context", "length", "eos"]
    ends = [
        Hypothesis([7], -1.0, [-1.0], reason in ("eos", "context"), reason) for reason in reasons
    ]
    assert join_hypotheses(ends).stop_reason == "repetition"
    assert join_hypotheses([ends[2], ends[3], ends[1]]).stop_reason == "length"


@pytest.mark.parametrize("count", [1, 3])
def test_examples_are_as_many_as_the_model_reads(count: int) -> None:
    model = tiny_model(merge(SMALL, ZERO_SHOT))
    examples = [Example(clip, [5]) for clip in make_waveforms([1_000] * count)]
    with pytest.raises(BatchError, match=rf"{count} context examples, .* exactly 2"):
        read_examples(model, examples)
    batch = AsrBatch(torch.stack(make_waveforms([2_000])), [2_000], [], [None], [examples])
    with pytest.raises(BatchError, match=rf"{count} context examples, .* exactly 2"):
        model.embed_prompt(batch)
