"""Wrong results of the published implementation, one test each (docs: parity)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.fakes import (
    LID,
    SMALL,
    TableDecoder,
    decoder_inputs_of,
    loss_of,
    make_batch,
    make_waveforms,
    merge,
    outputs_of,
    scripted_row,
    small_model,
    tiny_model,
)
from wavellama import ModelType, Wav2Vec2LlamaBeamSearchConfig, generate
from wavellama.audio.load import load_audio
from wavellama.decoding.step_decoder import ModuleStepDecoder
from wavellama.errors import SyntaxNotAvailableError, UnknownLanguageError
from wavellama.prompt.syntaxes import select_syntax
from wavellama.search.beam import BeamSearch, SearchOptions
from wavellama.search.stopping import RepetitionGuard

WAVEFORMS = make_waveforms([6000, 800, 3000])
BATCH = make_batch(WAVEFORMS, None, ["eng_Latn", "deu_Latn", None])


def test_b2_every_row_gets_the_beam_it_asked_for() -> None:
    """With unequal contexts, all rows but the shortest were decoded greedily."""
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=4, max_new_tokens=6)
    for row, hypotheses in enumerate(generate(small_model(lid=True), BATCH, config)):
        (alone,) = generate(
            small_model(lid=True),
            make_batch(WAVEFORMS[row : row + 1], None, [["eng_Latn", "deu_Latn", None][row]]),
            config,
        )
        assert len(hypotheses) == 4
        assert [h.tokens for h in hypotheses] == [h.tokens for h in alone]


def test_b3_length_normalisation_looks_at_every_row() -> None:
    """It looked at row 0 alone, so that the order of the rows changed results."""
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=3, length_norm=True, max_new_tokens=6)
    model = small_model()
    forwards = generate(model, make_batch(WAVEFORMS), config)
    backwards = generate(model, make_batch(WAVEFORMS[::-1]), config)[::-1]
    for ours, theirs in zip(forwards, backwards, strict=True):
        assert [h.tokens for h in ours] == [h.tokens for h in theirs]
        assert [h.score for h in ours] == pytest.approx([h.score for h in theirs])
        for h in ours:
            assert h.score == pytest.approx(sum(h.token_logprobs) / len(h.token_logprobs))


@torch.no_grad()
@pytest.mark.parametrize("stacking", [2, 3])
def test_b4_stacking_mixes_no_padding_into_the_last_frame(stacking: int) -> None:
    """A shorter row's last stacked frame held its neighbour's padding."""
    model = tiny_model(merge(SMALL, {"encoder_stacking": stacking}))
    batch = make_batch(WAVEFORMS)
    together, lens = model.embed_audio(batch.source_seqs, batch.source_seq_lens)
    for row, waveform in enumerate(WAVEFORMS):
        alone, (length,) = model.embed_audio(waveform[None], [len(waveform)])
        assert lens[row] == length
        torch.testing.assert_close(together[row, :length], alone[0], atol=1e-9, rtol=0)


def test_b5_both_channel_orders_average_the_channels() -> None:
    """(channels, time) was averaged over time."""
    audio = np.random.default_rng(0).standard_normal((2, 4000)).astype("f4")
    for array in (audio, audio.T):
        waveform = load_audio({"waveform": array, "sample_rate": 16000})
        np.testing.assert_allclose(waveform.numpy(), audio.mean(0), atol=1e-6)


def test_b6_the_length_of_stereo_audio_is_its_time() -> None:
    """The length check counted the channels of (channels, time)."""
    for shape in ((2, 4000), (4000, 2)):
        audio = np.ones(shape, "f4")
        assert len(load_audio({"waveform": audio, "sample_rate": 16000})) == 4000


def test_b7_a_language_may_be_none() -> None:
    """The documented `lang=["eng_Latn", None]` crashed."""
    assert torch.isfinite(loss_of(small_model(lid=True), BATCH))
    assert len(generate(small_model(lid=True), BATCH)) == 3


def test_b8_an_unknown_language_is_an_error() -> None:
    """It was logged and became "no language"."""
    with pytest.raises(UnknownLanguageError, match="eng_Latn"):
        loss_of(small_model(lid=True), make_batch(WAVEFORMS[:1], None, ["eng_Lat"]))


@torch.no_grad()
def test_b10_the_loss_is_a_mean_over_tokens_times_the_rows() -> None:
    """The streaming loss divided by one length and multiplied by another."""
    model, targets = small_model(), [[4, 5, 6, 7], [8], [9, 4]]
    losses = [
        loss_of(model, make_batch(WAVEFORMS[i : i + 1], targets[i : i + 1])) for i in range(3)
    ]
    tokens = [len(target) + 1 for target in targets]
    total = sum(loss * n for loss, n in zip(losses, tokens, strict=True))
    expected = total / sum(tokens) * 3
    torch.testing.assert_close(
        loss_of(model, make_batch(WAVEFORMS, targets)), torch.as_tensor(expected)
    )


@pytest.mark.parametrize("begin", [0, 10, 90])
def test_b11_a_loop_stops_as_soon_as_it_fills_the_window(begin: int) -> None:
    """Loops were looked for at every 250th step alone, and kept in the text."""
    prefix = [(i * i * 31 + 7 * i) % 800 + 10 for i in range(begin)]
    decoder = TableDecoder([scripted_row([*prefix, *[3, 4, 5] * 400], 900, p=0.999)])
    options = SearchOptions(1, 2, guard=RepetitionGuard(100, 4.0))
    ((best,),) = BeamSearch(options).run(decoder, [1000])
    assert best.stop_reason == "repetition"
    assert decoder.num_steps <= begin + 100
    assert best.tokens == [*prefix, 3, 4, 5]


@torch.no_grad()
def test_b12_log_probabilities_of_a_bf16_model_are_float32() -> None:
    """log_softmax ran in bf16: coarse scores, with ties."""
    model = small_model(dtype=torch.bfloat16)
    context = torch.randn(6, model.model_dim).to(torch.bfloat16)
    log_probs = ModuleStepDecoder(model, [context]).prefill()
    assert log_probs.dtype == torch.float32
    assert not torch.equal(log_probs, log_probs.to(torch.bfloat16).float())
    assert log_probs.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_b14_the_language_column_has_a_configurable_name() -> None:
    """Streaming wrote to "lang" whatever the configuration said."""
    model = tiny_model(merge(merge(SMALL, LID), {"language_column_name": "language"}))
    with pytest.raises(UnknownLanguageError):
        loss_of(model, make_batch(WAVEFORMS[:1], None, ["xxx"], column="language"))
    assert torch.isfinite(loss_of(model, make_batch(WAVEFORMS[:1], None, ["xxx"], column="lang")))


def test_b15_the_callers_batch_is_not_changed() -> None:
    """`forward` changed the batch and its lengths, and failed the second time."""
    model = small_model(lid=True)
    before = BATCH.source_seqs.clone(), list(BATCH.source_seq_lens), repr(BATCH.example)
    first = loss_of(model, BATCH)
    outputs_of(model, BATCH)
    decoder_inputs_of(model, BATCH)
    generate(model, BATCH)
    assert torch.equal(BATCH.source_seqs, before[0])
    assert (list(BATCH.source_seq_lens), repr(BATCH.example)) == before[1:]
    assert torch.equal(loss_of(model, BATCH), first)


@pytest.mark.parametrize("model_type", [ModelType.LLM_ASR, ModelType.ZERO_SHOT])
def test_b20_a_pair_without_a_syntax_is_a_typed_error(model_type: ModelType) -> None:
    """(LLM_ASR, streaming) and (ZERO_SHOT, streaming) ended in an unbound variable."""
    with pytest.raises(SyntaxNotAvailableError, match=model_type.name):
        select_syntax(model_type, streaming=True)


@torch.no_grad()
@pytest.mark.parametrize("model_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("audio_dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_b42_audio_of_another_precision_is_cast(
    model_dtype: torch.dtype, audio_dtype: torch.dtype
) -> None:
    """bf16 audio in a float32 model was a dtype error."""
    model = small_model(lid=True, dtype=model_dtype)
    batch = make_batch([waveform.to(audio_dtype) for waveform in WAVEFORMS])
    assert torch.isfinite(loss_of(model, batch))
    assert len(generate(model, batch)) == 3
