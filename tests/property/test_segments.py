"""Off-by-one sweeps: where segments and stacks end, in training, in inference, in a live stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from fairseq2.datasets import Seq2SeqBatch
from torch import Tensor
from torch.nn import Module

from tests.fakes import (
    EOS,
    SMALL,
    arch_config,
    create_model,
    decoder_inputs_of,
    golden_tokenizer,
    make_batch,
    make_waveforms,
    merge,
    tiny_model,
)
from tests.property.strategies import assert_rows_close
from wavellama import Wav2Vec2LlamaBeamSearchConfig, Wav2Vec2LlamaModel, generate
from wavellama.decoding.streaming import Normalization, StreamDecoder, join_hypotheses
from wavellama.prompt.segments import SegmentCutter, segment_texts
from wavellama.search.types import Hypothesis
from wavellama.units import MIN_SAMPLES

SEGMENT = 1600
"""Samples per segment (0.1 s)."""


def _lengths(min_len: int) -> list[int]:
    """Return lengths next to the ends of segments, and next to the longest tail that is dropped.

    :param min_len: the longest tail that is dropped.
    """
    ends = {k * SEGMENT + off for k in (1, 2, 3) for off in range(-2, 3)}
    tails = {k * SEGMENT + off for k in (1, 2) for off in (200, 399, 400, 401)}
    longest = {k * SEGMENT + min_len + off for k in (0, 1, 2) for off in range(-2, 3)}
    return sorted(length for length in ends | tails | longest if length >= MIN_SAMPLES)


# Cutting


def _segment_lens(length: int, segment_len: int, min_len: int) -> list[int]:
    """Take a segment after the other, as long as what is left is one; the first always is."""
    lens = [min(length, segment_len)]
    while (left := length - sum(lens)) > min_len:
        lens.append(min(left, segment_len))
    return lens


@pytest.mark.parametrize("min_len", [400, 401, 640])
@pytest.mark.parametrize("segment_len", [642, SEGMENT, 1601])
def test_segments_of_every_length(segment_len: int, min_len: int) -> None:
    for length in range(MIN_SAMPLES, 4 * segment_len + min_len + 3):
        places = SegmentCutter(segment_len, min_len).places(length)
        lens = [place.stop - place.start for place in places]
        assert lens == _segment_lens(length, segment_len, min_len)
        assert [place.start for place in places] == [segment_len * i for i in range(len(lens))]


@pytest.mark.parametrize("secs", [0.1, 0.25, 1.0, 15.0])
@pytest.mark.parametrize(
    ("off", "is_later"),
    [(-1e-2, 0), (-1e-4, 0), (-1e-9, 0), (0.0, 0), (1e-9, 0), (0.99e-4, 0), (1.01e-4, 1)],
)
def test_word_ends_on_boundaries(secs: float, off: float, is_later: int) -> None:
    """Within 1e-4 s the word belongs to the earlier segment."""
    for k in range(1, 241):
        texts = segment_texts(["word"], [k * secs + off], secs, 250)
        assert texts.index("word") == k - 1 + is_later


def test_word_ends_at_the_limit_itself_belong_to_the_earlier_segment() -> None:
    for k in range(1, 241):
        assert segment_texts(["word"], [k * 15.0 + 1e-4], 15.0, 250).index("word") == k - 1


@pytest.mark.parametrize("num_words", [3, 10, 30, 150])
def test_rounding_of_running_sums_moves_no_word(num_words: int) -> None:
    """Ten times 0.1 is not 1.0 in floating point; the last word of each second stays in it."""
    words = [f" {i}" for i in range(4 * num_words)]
    texts = segment_texts(words, [1.0 / num_words] * len(words), 1.0, 4)
    assert [len(text.split()) for text in texts] == [num_words] * 4


def test_words_that_end_after_the_audio_belong_to_its_last_segment() -> None:
    """Also those in a tail that is dropped."""
    assert segment_texts(["a", " b"], [0.25, 9.0], 0.1, 2) == ["", "a b"]


# Training, inference and streams


@cache
def _model(n_context_segments: int = 1, min_audio_ms: int = 25) -> Wav2Vec2LlamaModel:
    """Return a model with segments of ``SEGMENT`` samples; do not change it."""
    overrides: dict[str, Any] = {
        "model_type": "LLM_ASR_LID",
        "n_special_tokens": 3,
        "encoder_stacking": 2,
        "wav2vec2_asr_config": {"target_vocab_size": 32},
        "llama_config": {"vocab_size": 32},
        "streaming_config": {
            "is_streaming": True,
            "segment_secs": 0.1,
            "n_context_segments": n_context_segments,
            "min_audio_ms": min_audio_ms,
        },
    }
    model = create_model(arch_config("tiny", merge(SMALL, overrides)), sharpness=4.0)
    model.text_encoder = golden_tokenizer().create_encoder()
    return model


GREEDY = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=3)


@contextmanager
def record_prompts(model: Wav2Vec2LlamaModel) -> Iterator[list[Tensor]]:
    """Collect what the decoder reads in one piece. (S, M) each."""
    seen: list[Tensor] = []

    def record(module: Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].size(1) > 1:  # not a single token
            seen.extend(inputs[0])

    hook = model.llama_decoder.register_forward_pre_hook(record)
    yield seen
    hook.remove()


def _stream(
    model: Wav2Vec2LlamaModel, chunks: Iterable[Tensor], normalization: Normalization
) -> list[Hypothesis]:
    """Return the best hypothesis of each segment of a stream."""
    decoder = StreamDecoder(model, GREEDY, normalization=normalization)
    state = decoder.start("eng_Latn")
    results = [result for chunk in chunks for result in decoder.feed(state, chunk)]
    return [result[0] for result in [*results, decoder.finish(state)]]


def _prompts_by_training(
    model: Wav2Vec2LlamaModel, batch: Seq2SeqBatch, decoded: Sequence[Hypothesis]
) -> Iterator[Tensor]:
    """Put the prompts of inference together from what training reads of the same audio."""
    inputs = decoder_inputs_of(model, batch)
    lens = [column[0] for column in inputs.decoder_context_seq_lens]
    contexts = [c[0, :n] for c, n in zip(inputs.decoder_context_inputs, lens, strict=True)]
    head, contexts[0] = contexts[0][:2], contexts[0][2:]  # language, lid
    texts = [torch.tensor([[*hypothesis.tokens, EOS]]) for hypothesis in decoded]
    read = [
        torch.cat([context, model.embed_text(text, torch.float64)[0]])
        for context, text in zip(contexts, texts, strict=True)
    ]
    num_past = model.streaming_config.n_context_segments
    for i, context in enumerate(contexts):
        yield torch.cat([head, *read[max(i - num_past, 0) : i], context])


@pytest.mark.parametrize(("num_past", "min_audio_ms"), [(0, 25), (1, 25), (2, 25), (1, 40)])
@torch.no_grad()
def test_inference_reads_what_training_reads(num_past: int, min_audio_ms: int) -> None:
    """Segment by segment, in a batch and live, for lengths around the ends of segments."""
    model = _model(num_past, min_audio_ms)
    min_len = min_audio_ms * 16
    for length in _lengths(min_len):
        waveform = _waveform(length)
        words: dict[str, list[Any]] = {"text_words_merged": [["a"]], "word_duration": [[0.01]]}
        batch = make_batch([waveform], None, ["eng_Latn"], more=words)
        with record_prompts(model) as live:
            decoded = _stream(model, [waveform], "clip")
        with record_prompts(model) as in_batch:
            ((joined,),) = generate(model, batch, GREEDY)
        expected = list(_prompts_by_training(model, batch, decoded))
        assert len(expected) == len(_segment_lens(length, SEGMENT, min_len))
        for ours, theirs, prompt in zip(in_batch, live, expected, strict=True):
            assert_rows_close(ours, prompt)
            assert_rows_close(theirs, prompt)
        assert joined == join_hypotheses(decoded)


@pytest.mark.parametrize("chunk_len", [1, 160, 399, SEGMENT - 1, SEGMENT, SEGMENT + 1])
def test_chunks_of_any_size_give_what_one_feed_gives(chunk_len: int) -> None:
    model = _model()
    for length in _lengths(400)[:: 7 if chunk_len == 1 else 1]:
        waveform = _waveform(length)
        expected = _stream(model, [waveform], "causal")
        assert len(expected) == len(_segment_lens(length, SEGMENT, 400))
        assert _stream(model, torch.split(waveform, chunk_len), "causal") == expected


def _waveform(length: int) -> Tensor:
    """Return noise that is the same in float32, in which streams keep it."""
    (waveform,) = make_waveforms([length], seed=length, dtype=torch.float32)
    return waveform.double()


# Stacking


def _samples(num_frames: int) -> list[int]:
    """Return the least and the most samples that give so many encoder frames."""
    return [400 + 320 * (num_frames - 1), 400 + 320 * num_frames - 1]


def _stacked_by_hand(model: Wav2Vec2LlamaModel, waveform: Tensor) -> Tensor:
    """Embed one clip, stack by stack; the last one is filled up with zeros."""
    frames = model.encode_audio(waveform[None], [len(waveform)])[0][0]
    stacks = []
    for stack in torch.split(frames, model.encoder_stacking):
        zeros = stack.new_zeros(model.encoder_stacking - len(stack), stack.size(1))
        stacks.append(model.encoder_proj(torch.cat([stack, zeros]).flatten()))
    return torch.stack(stacks)


@pytest.mark.parametrize("stacking", [1, 2, 3, 5])
@torch.no_grad()
def test_stacks_around_multiples_of_their_size(stacking: int) -> None:
    """Alone, next to longer rows and to shorter ones, in training and in inference."""
    model = tiny_model(merge(SMALL, {"encoder_stacking": stacking}))
    counts = {k * stacking + off for k in (1, 2, 3) for off in range(-2, 3)} - {-1, 0}
    lens = [length for count in sorted(counts) for length in _samples(count)]
    waveforms = make_waveforms(lens)
    batch = make_batch(waveforms, padding=5.0)
    (trained,) = decoder_inputs_of(model, batch).decoder_context_inputs
    prompt = model.embed_prompt(model.read_batch(batch))
    for row, waveform in enumerate(waveforms):
        expected = _stacked_by_hand(model, waveform)
        num_frames = (len(waveform) - 400) // 320 + 1
        assert len(expected) == -(-num_frames // stacking)
        assert prompt.layout.seq_lens[row] == len(expected) + 1  # BOS
        for seqs in (trained[row], prompt.seqs[row]):
            assert_rows_close(seqs[: len(expected)], expected)
        alone, lens_alone = model.embed_audio(waveform[None], [len(waveform)])
        assert lens_alone == [len(expected)]
        assert_rows_close(alone[0], expected)
