"""Joint CTC/decoder decoding and constraints, from a batch to hypotheses."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.nn import Linear
from torch import Tensor

from tests.fakes import (
    EOS,
    LID,
    SMALL,
    Utterances,
    golden_case,
    golden_tokenizer,
    make_waveforms,
    merge,
    small_model,
    tiny_model,
)
from wavellama import (
    ASRInferencePipeline,
    Hypothesis,
    Wav2Vec2LlamaBeamSearchConfig,
    Wav2Vec2LlamaModel,
    generate,
)
from wavellama.batch import to_asr_batch
from wavellama.decoding import ctc
from wavellama.decoding.component import Wav2Vec2LlamaGenerator
from wavellama.decoding.ctc import ctc_log_probs, ctc_scorers
from wavellama.decoding.prompt_search import create_search
from wavellama.decoding.streaming import StreamDecoder, join_hypotheses
from wavellama.errors import ConfigError
from wavellama.search.beam import BeamSearch
from wavellama.search.constraints import AllowedTokens, ForcedPrefix
from wavellama.search.greedy import GreedySearch

LENS = [5000, 3000, 900]

ROWS = Utterances(make_waveforms(LENS), [[4]] * 3, ["eng_Latn", None, "deu_Latn"])

ZERO_SHOT: Mapping[str, Any] = {
    "model_type": "ZERO_SHOT",
    "n_special_tokens": 6,
    "n_context_examples": 2,
}

STREAMING: Mapping[str, Any] = {
    "model_type": "LLM_ASR_LID",
    "n_special_tokens": 3,
    "lang_embeddings_p": 1.0,
    "streaming_config": {"is_streaming": True, "segment_secs": 0.1},
}


def _config(weight: float, nbest: int = 3) -> Wav2Vec2LlamaBeamSearchConfig:
    return Wav2Vec2LlamaBeamSearchConfig(nbest=nbest, ctc_weight=weight, max_new_tokens=8)


def _model(overrides: Mapping[str, Any] = LID, **kwargs: Any) -> Wav2Vec2LlamaModel:
    """Return a random model with a CTC head that has a say."""
    model = tiny_model(merge(SMALL, {**overrides, "ctc_head": True}), sharpness=4.0, **kwargs)
    assert isinstance(model.ctc_head, Linear)
    with torch.no_grad():
        model.ctc_head.weight.mul_(4.0)
    return model


@pytest.fixture(scope="module")
def model() -> Wav2Vec2LlamaModel:
    return _model()


def _summary(results: Sequence[Sequence[Hypothesis]]) -> list[list[tuple[list[int], str]]]:
    return [[(h.tokens, h.stop_reason) for h in row] for row in results]


def _best(results: Sequence[Sequence[Hypothesis]]) -> list[list[int]]:
    return [row[0].tokens for row in results]


# The weight


def test_the_score_is_the_weighted_sum_of_both(model: Wav2Vec2LlamaModel) -> None:
    """CTC's share, taken out of the score, is torch's CTC loss of the text."""
    frames, layout = model.encode_audio(*_audio(ROWS.batch()))
    log_probs = torch.log_softmax(model.ctc_logits(frames), -1)
    checked = 0
    for row, hypotheses in enumerate(generate(model, ROWS.batch(), _config(0.3, nbest=8))):
        for h in hypotheses:
            if not h.finished or len(h.token_logprobs) != len(h.tokens) + 1:
                continue  # a control token was emitted and taken out
            loss = torch.nn.functional.ctc_loss(
                log_probs[row, : layout.seq_lens[row], None],
                torch.tensor([h.tokens], dtype=torch.int64),
                torch.tensor([layout.seq_lens[row]]),
                torch.tensor([len(h.tokens)]),
                reduction="sum",
            )
            expected = 0.7 * sum(h.token_logprobs) - 0.3 * loss.item()
            assert h.score == pytest.approx(expected, abs=1e-6)
            checked += 1
    assert checked > 3


def _audio(batch: Seq2SeqBatch) -> tuple[Tensor, list[int]]:
    return batch.source_seqs, list(batch.source_seq_lens)


def test_the_weight_makes_a_difference(model: Wav2Vec2LlamaModel) -> None:
    texts = [_best(generate(model, ROWS.batch(), _config(weight))) for weight in (0.0, 0.5, 1.0)]
    assert texts[0] != texts[1] != texts[2] != texts[0]


def test_at_weight_zero_the_head_is_not_asked(
    model: Wav2Vec2LlamaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    headless = small_model(lid=True)
    expected = generate(headless, ROWS.batch(), _config(0.0))
    with_head = _model()
    with_head.load_state_dict({**with_head.state_dict(), **headless.state_dict()})
    monkeypatch.setattr(ctc, "ctc_log_probs", None)
    assert generate(with_head, ROWS.batch(), _config(0.0)) == expected


@pytest.fixture
def _not_yet_said() -> Iterator[None]:
    ctc.say_that_there_is_no_head.cache_clear()
    yield
    ctc.say_that_there_is_no_head.cache_clear()


@pytest.mark.usefixtures("_not_yet_said")
def test_without_a_head_the_weight_changes_nothing_which_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    headless = small_model(lid=True)
    with caplog.at_level(logging.WARNING):
        for nbest in (1, 3):
            expected = generate(headless, ROWS.batch(), _config(0.0, nbest))
            assert not caplog.records or nbest == 3
            assert generate(headless, ROWS.batch(), _config(0.5, nbest)) == expected
    (record,) = caplog.records
    assert "no CTC head" in record.message


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_a_weight_out_of_range_is_an_error(weight: float) -> None:
    with pytest.raises(Exception, match="`ctc_weight` must lie between"):
        generate(small_model(), ROWS.batch(), _config(weight))


def test_greedy_over_the_joint_score_is_a_beam_of_one(model: Wav2Vec2LlamaModel) -> None:
    prompt = model.embed_prompt(to_asr_batch(ROWS.batch()), model.syntax.prompt)
    scorers = ctc_scorers(model, prompt, 0.5)
    assert isinstance(create_search(_config(0.5, 1), model, scorers=scorers), BeamSearch)
    assert isinstance(create_search(_config(0.5, 1), model), GreedySearch)
    (greedy, wide) = (generate(model, ROWS.batch(), _config(0.5, nbest)) for nbest in (1, 8))
    assert [len(row) for row in greedy] == [1, 1, 1]
    for mine, best in zip(greedy, wide, strict=True):
        assert mine[0].score <= best[0].score + 1e-9


@pytest.mark.parametrize("nbest", [1, 4])
def test_a_row_does_not_know_of_other_rows(model: Wav2Vec2LlamaModel, nbest: int) -> None:
    together = generate(model, ROWS.batch(), _config(0.5, nbest))
    for order in ([0], [1], [2], [2, 0, 1], [1, 1, 0]):
        results = generate(model, ROWS.batch(order), _config(0.5, nbest))
        expected = [together[i] for i in order]
        assert _summary(results) == _summary(expected)
        for mine, theirs in zip(results, expected, strict=True):
            assert [h.score for h in mine] == pytest.approx([h.score for h in theirs], abs=1e-9)


def test_the_encoder_runs_once(model: Wav2Vec2LlamaModel) -> None:
    calls: list[int] = []
    hook = model.encoder.register_forward_hook(lambda *args: calls.append(1))
    generate(model, ROWS.batch(), _config(0.5))
    hook.remove()
    assert len(calls) == 1


def test_bfloat16_models_score_in_float32() -> None:
    model = _model(dtype=torch.bfloat16)
    frames = torch.randn(4, 16, dtype=torch.bfloat16)
    with torch.no_grad():
        log_probs = ctc_log_probs(model, frames)
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(4), atol=1e-5, rtol=0)


# Variants


def test_the_frames_are_those_of_the_own_clip() -> None:
    """Zero-shot: not of the examples."""
    model = _model(ZERO_SHOT)
    clips = make_waveforms([2000, 2500], seed=3)
    context = {"seqs": torch.nn.utils.rnn.pad_sequence(clips, True), "seq_lens": [2000, 2500]}
    texts = {"seqs": torch.tensor([[4, 5], [6, 1]]), "seq_lens": [2, 1]}
    more = {"context_audio": [context] * 3, "context_text": [texts] * 3}
    batch = Utterances(ROWS.waveforms, ROWS.targets, columns=more).batch()
    with torch.no_grad():
        prompt = model.embed_prompt(model.read_batch(batch))
        assert len(prompt.frames) == 3
        for row, frames in zip(ROWS.waveforms, prompt.frames, strict=True):
            expected, _ = model.encode_audio(row[None], [len(row)])
            torch.testing.assert_close(frames, expected[0])
    assert _best(generate(model, batch, _config(0.9))) != _best(generate(model, batch, _config(0)))


@pytest.mark.parametrize("stacking", [2, 3])
def test_ctc_reads_frames_before_they_are_stacked(stacking: int) -> None:
    model = _model({**LID, "encoder_stacking": stacking})
    with torch.no_grad():
        prompt = model.embed_prompt(model.read_batch(ROWS.batch()))
        _, layout = model.encode_audio(*_audio(ROWS.batch()))
    assert [len(frames) for frames in prompt.frames] == list(layout.seq_lens)
    assert generate(model, ROWS.batch(), _config(0.5))


def test_streams_join_the_ctc_of_each_segment() -> None:
    model = _model(STREAMING)
    batch = ROWS.batch()
    results = generate(model, batch, _config(0.5))
    assert _summary(results) != _summary(generate(model, batch, _config(0.0)))
    decoder = StreamDecoder(model, _config(0.5), normalization="clip")
    for row, waveform in enumerate(ROWS.waveforms):
        assert ROWS.langs is not None
        state = decoder.start(ROWS.langs[row])
        state.waiting = state.waiting.double()
        parts = [*decoder.feed(state, waveform), decoder.finish(state)]
        joined = join_hypotheses([part[0] for part in parts])
        assert joined.tokens == results[row][0].tokens
        assert joined.score == pytest.approx(results[row][0].score, abs=1e-9)


def test_the_last_segment_alone_decides_about_its_own_frames() -> None:
    """At weight 1, a segment's text is CTC's of its own audio, whatever was before."""
    model = _model(STREAMING)
    (waveform,) = make_waveforms([3200], seed=4)
    ((whole,),) = generate(model, Utterances([waveform], [[4]]).batch(), _config(1.0))
    parts = [
        generate(model, Utterances([part], [[4]]).batch(), _config(1.0))[0][0]
        for part in (waveform[:1600], waveform[1600:])
    ]
    assert whole.tokens == [token for part in parts for token in part.tokens]


# Components


def test_the_generator_component_joins_too(model: Wav2Vec2LlamaModel) -> None:
    expected = generate(model, ROWS.batch(), _config(0.5))
    assert Wav2Vec2LlamaGenerator(model, _config(0.5)).generate_batch(ROWS.batch()) == expected
    hooked = Wav2Vec2LlamaGenerator(model, _config(0.5))
    hooked.register_step_hook(lambda prompt_indices, seqs, step_scores, prefill: None)
    assert hooked.generate_batch(ROWS.batch()) == expected


def test_the_pipeline_joins_too() -> None:
    overrides = {**golden_case("llm_asr").facts["config"], "ctc_head": True}
    model = tiny_model(overrides, dtype=torch.float32, sharpness=4.0)
    clips: Any = [{"waveform": clip.float(), "sample_rate": 16000} for clip in ROWS.waveforms]
    texts = [
        ASRInferencePipeline(
            None,
            model=model,
            tokenizer=golden_tokenizer(),
            dtype=torch.float32,
            beam_search_config=_config(weight),
        ).transcribe(clips)
        for weight in (0.0, 1.0)
    ]
    assert texts[0] != texts[1]


def test_the_models_own_search_may_be_joint(model: Wav2Vec2LlamaModel) -> None:
    own = _model()
    own.beam_search_config = _config(0.5)
    assert generate(own, ROWS.batch()) == generate(own, ROWS.batch(), _config(0.5))


# Constraints


@pytest.mark.parametrize("nbest", [1, 3])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_constraints_hold_in_generate(model: Wav2Vec2LlamaModel, nbest: int, weight: float) -> None:
    results = generate(
        *(model, ROWS.batch(), _config(weight, nbest)),
        constraints=[AllowedTokens([5, 6, 7], EOS), ForcedPrefix([6])],
    )
    for row in results:
        for h in row:
            assert h.tokens[0] == 6
            assert set(h.tokens) <= {5, 6, 7}


@pytest.mark.parametrize("nbest", [1, 3])
def test_constraints_hold_in_each_segment(nbest: int) -> None:
    model = _model(STREAMING)
    constraints = [AllowedTokens([5, 6, 7], EOS)]
    batch = ROWS.batch([0])
    ((joined,),) = generate(model, batch, _config(0.0, nbest), constraints=constraints)
    assert joined.tokens
    assert set(joined.tokens) <= {5, 6, 7}
    free = generate(model, batch, _config(0.0, nbest))[0][0]
    assert not set(free.tokens) <= {5, 6, 7}
    decoder = StreamDecoder(
        model, _config(0.0, nbest), normalization="clip", constraints=constraints
    )
    state = decoder.start("eng_Latn")
    state.waiting = state.waiting.double()
    parts = [*decoder.feed(state, ROWS.waveforms[0]), decoder.finish(state)]
    assert join_hypotheses([part[0] for part in parts]).tokens == joined.tokens


def test_a_dead_end_is_an_error_of_generate(model: Wav2Vec2LlamaModel) -> None:
    with pytest.raises(ConfigError, match="constraints leave no token"):
        generate(
            *(model, ROWS.batch(), _config(0.0)),
            constraints=[AllowedTokens([5], EOS), ForcedPrefix([6])],
        )
