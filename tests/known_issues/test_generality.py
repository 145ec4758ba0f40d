"""What a declaration, a segment or a configuration promised, and what was silently left out."""

from __future__ import annotations

from bisect import bisect_left
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import torch
from fairseq2.models.asr import AsrModel
from fairseq2.utils.validation import ValidationError
from torch import Tensor
from torch.nn import Module
from torch.utils.hooks import RemovableHandle

from tests.fakes import (
    EOS,
    LID,
    SMALL,
    decoder_inputs_of,
    golden_case,
    golden_model,
    make_batch,
    make_waveforms,
    merge,
    small_model,
    tiny_model,
)
from wavellama import Wav2Vec2LlamaBeamSearchConfig, Wav2Vec2LlamaModel, generate
from wavellama.batch import AsrBatch, Example
from wavellama.decoding.examples import read_examples
from wavellama.decoding.streaming import StreamDecoder, join_hypotheses
from wavellama.errors import BatchError, ConfigError
from wavellama.model.frames import frame_grid
from wavellama.prompt.parts import Audio, Items, Language, Mark, Part, Repeat, Text, Token
from wavellama.prompt.syntax import Syntax
from wavellama.prompt.syntaxes import STREAMING, load_syntax

STREAMED: dict[str, Any] = {
    "model_type": "LLM_ASR_LID",
    "n_special_tokens": 3,
    "streaming_config": {"is_streaming": True, "segment_secs": 0.5},
}
GREEDY = Wav2Vec2LlamaBeamSearchConfig(nbest=1)

END: tuple[Part, ...] = (Text(), Token("eos", loss=True))
SHOWN = Repeat(Items.EXAMPLES, (Text(loss=False),))


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ((Audio(), Text()), "has to end with"),
        ((Audio(), Token("eos", loss=True), Text()), "has to end with"),
        ((*STREAMING.parts, Token("eos")), "has to end with"),
        ((Audio(), Token("eos", loss=True), *END), "nothing but the text"),
        ((Audio(), Text(loss=False), *END), "nothing but the text"),
        (END, "the audio stands there once"),
        ((Audio(), *STREAMING.parts), "the audio stands there once"),
        ((SHOWN, *STREAMING.parts), "cannot read examples"),
        ((Audio(), SHOWN, *END), "before the audio"),
        ((Repeat(Items.EXAMPLES, (Language(),)), Audio(), *END), "neither audio nor text"),
        ((SHOWN, SHOWN, Audio(), *END), "`Repeat`"),
        ((Audio(), Token("lid"), *END), "token lid"),
        ((Audio(), Mark("bos", "eos"), *END), "`Mark`"),
    ],
)
def test_what_cannot_be_trained_and_decoded_is_no_syntax(
    parts: tuple[Part, ...], reason: str
) -> None:
    special = () if reason == "token lid" else STREAMING.special_tokens
    with pytest.raises(ConfigError, match=f"The syntax mine cannot be used: .*{reason}"):
        Syntax("mine", parts, special)


@pytest.mark.parametrize("target", ["no_such_module:X", "math:pi", "wavellama.prompt.parts:NO"])
def test_a_syntax_that_is_not_there_is_named(target: str) -> None:
    with pytest.raises(ConfigError, match=target):
        load_syntax(target)
    with pytest.raises(ValidationError, match=target):
        tiny_model(merge(SMALL, {"syntax": target}))


def test_an_example_without_the_audio_that_is_read_is_an_error() -> None:
    """Another clip was read in its place."""
    overrides = {"model_type": "ZERO_SHOT", "n_special_tokens": 6, "n_context_examples": 1}
    model = tiny_model(merge(SMALL, overrides))
    (audio,) = make_waveforms([3000])
    batch = AsrBatch(audio[None], [3000], [], None, [[Example(None, [4])]])
    with pytest.raises(BatchError, match="no audio"):
        generate(model, batch, GREEDY)


@pytest.mark.parametrize("case", ["llm_asr", "llm_asr_lid", "zero_shot"])
@pytest.mark.parametrize("nbest", [1, 3])
def test_hypotheses_of_decoder_inputs_are_those_of_the_batch(case: str, nbest: int) -> None:
    """``return_decoder_inputs=True`` returned what nothing could read."""
    model, batch = golden_model(case), golden_case(case).utterances.batch()
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=nbest, max_new_tokens=20)
    with torch.no_grad():
        results = generate(model, decoder_inputs_of(model, batch), config)
    for row, expected in zip(results, generate(model, batch, config), strict=True):
        assert [one.tokens for one in row] == [one.tokens for one in expected]
        assert row[0].score == pytest.approx(expected[0].score, abs=1e-4)


def test_decoder_inputs_that_do_not_suffice_are_refused() -> None:
    streaming = golden_model("streaming")
    with pytest.raises(ConfigError, match="not streaming"):
        generate(
            streaming, decoder_inputs_of(streaming, golden_case("streaming").utterances.batch())
        )
    model = tiny_model(merge(SMALL, {"ctc_head": True}))
    inputs = decoder_inputs_of(model, make_batch(make_waveforms([3000])))
    for config in (replace(GREEDY, ctc_weight=0.5), replace(GREEDY, ctc_draft=True)):
        with pytest.raises(ConfigError, match="encoder's frames"):
            generate(model, inputs, config)
    model, batch = golden_model("zero_shot"), golden_case("zero_shot").utterances.batch()
    examples = model.read_batch(batch).examples
    assert examples is not None
    prefix = read_examples(model, examples[0])
    with pytest.raises(ConfigError, match="`prefix` is part of"):
        generate(model, decoder_inputs_of(model, batch), GREEDY, prefix=prefix)


def test_the_model_is_an_asr_model() -> None:
    assert isinstance(small_model(), AsrModel)


@pytest.mark.parametrize("rate", [0, 8_000, 48_000])
def test_another_sample_rate_is_an_error(rate: int) -> None:
    """It changed where segments end, but nothing was resampled."""
    with pytest.raises(ValidationError, match=f"16000.* {rate}"):
        tiny_model(merge(SMALL, {"streaming_config": {"sample_rate": rate}}))


@pytest.mark.parametrize("secs", [4.0, 0.5])
def test_contexts_that_cannot_fit_are_refused(secs: float) -> None:
    settings = {"segment_secs": secs, "n_context_segments": 1 if secs == 4.0 else 9}
    with pytest.raises(ValidationError, match=r"`n_context_segments`.*max_seq_len` is 256"):
        tiny_model(merge(merge(SMALL, STREAMED), {"streaming_config": settings}))


def test_a_context_that_only_just_fits_leaves_a_quarter_of_the_decoder_for_the_text() -> None:
    settings = {"segment_secs": 0.5, "n_context_segments": 2}
    streamed = merge(merge(SMALL, STREAMED), {"streaming_config": settings})

    def is_allowed(limit: int) -> bool:
        with suppress(ValidationError):
            return bool(tiny_model(merge(streamed, {"llama_config": {"max_seq_len": limit}})))
        return False

    model = tiny_model(streamed)
    num_frames = frame_grid(model.encoder_frontend.feature_extractor).num_frames(8_000)
    past, own = 2 * (num_frames + 3), num_frames + 4  # with all that is no audio and no text
    shortest = bisect_left(range(256), True, key=is_allowed)
    assert shortest - shortest // 4 == past + own + 2  # which no search fills


def _say_only(model: Wav2Vec2LlamaModel, token: int) -> RemovableHandle:
    def force(module: Module, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        return logits.index_fill(-1, torch.tensor([token]), 1e4)

    return model.final_proj.register_forward_hook(force)


def test_a_segment_that_ends_by_length_costs_the_next_one_its_context_alone() -> None:
    """The context of the next segment was longer than the decoder reads, and the clip was lost."""
    model = tiny_model(merge(merge(SMALL, LID), STREAMED))
    decoder = StreamDecoder(model, replace(GREEDY, repetition_guard=False))
    state = decoder.start()
    (audio,) = make_waveforms([4 * 8_000], dtype=torch.float32)
    endless = _say_only(model, 4)
    results = decoder.feed(state, audio[:8_500])
    endless.remove()
    _say_only(model, EOS)
    results += [*decoder.feed(state, audio[8_500:]), decoder.finish(state)]
    best = [row[0] for row in results]
    assert [one.stop_reason for one in best] == ["length", "context", "eos", "eos"]
    assert [one.finished for one in best] == [False, True, True, True]
    joined = join_hypotheses(best)
    assert (joined.finished, joined.stop_reason) == (False, "length")
    joined = join_hypotheses(best[1:])
    assert (joined.finished, joined.stop_reason) == (True, "context")


def test_a_clip_whose_segments_end_by_length_is_recognised() -> None:
    model = tiny_model(merge(merge(SMALL, LID), STREAMED))
    _say_only(model, 4)
    config = replace(GREEDY, repetition_guard=False)
    ((joined,),) = generate(model, make_batch(make_waveforms([3 * 8_000])), config)
    assert (joined.finished, joined.stop_reason) == (False, "length")
    assert set(joined.tokens) == {4}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Example(None, [5, 12]), "Example 1 of row 0 has a token outside the vocabulary of 12"),
        (Example(None, [-1]), "Example 1 of row 0 has a token outside"),
        (Example(torch.randn(300), [5]), "Example 1 of row 0 has 300 samples of audio"),
    ],
)
def test_examples_that_cannot_be_read_are_named(bad: Example, message: str) -> None:
    """An id beyond the vocabulary ended in an index error deep in torch."""
    shown = {"model_type": "ZERO_SHOT", "n_special_tokens": 6, "n_context_examples": 2}
    model = tiny_model(merge(SMALL, {**shown, "context_text_only": bad.audio is None}))
    good = Example(None if bad.audio is None else torch.randn(1_000), [5])
    batch = AsrBatch(torch.randn(1, 2_000), [2_000], [], [None], [[good, bad]])
    with pytest.raises(BatchError, match=message):
        model.embed_prompt(batch)
