"""Any combination of the declared parts: layout, labels, loss and prompts, against a naive reading.

The naive reading walks over the parts of a row and puts embeddings one after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.fakes import decoder_inputs_of, loss_of, merge, outputs_of
from tests.property.strategies import Sizes, assert_rows_close
from tests.property.test_prompts import (
    BOS,
    NUM_EXAMPLES,
    SEGMENT_SECS,
    VOCAB_SIZE,
    Case,
    Clip,
    Reading,
    Row,
    Variant,
    rows,
    segment_texts,
    segments,
)
from tests.property.test_segments import record_prompts
from wavellama import Wav2Vec2LlamaBeamSearchConfig, Wav2Vec2LlamaModel, generate
from wavellama.decoding.streaming import StreamDecoder
from wavellama.model.loss import Objective, TrainingLoss
from wavellama.prompt.parts import Audio, Items, Language, Mark, Part, Repeat, Simple, Text, Token
from wavellama.prompt.syntax import Syntax

SPECIAL = ("a", "b", "c", "d")
IDS = {"bos": BOS, "eos": 2, **{name: VOCAB_SIZE + i for i, name in enumerate(SPECIAL)}}

DRAWN: Syntax
"""What the configurations here name."""


# The naive reading


@dataclass
class NaiveRow:
    """What is read of a row, and which ids are to be predicted where."""

    reading: Reading
    lang: str | None
    pieces: list[Tensor] = field(default_factory=list)

    def add(self, part: Simple, clip: Clip, is_last: bool) -> None:
        covered, read = naive_ids(part, clip, is_last)
        if isinstance(part, Audio):
            self.pieces.append(self.reading.audio(clip.waveform))
        elif isinstance(part, Language):
            self.pieces.append(self.reading.language(self.lang))
        else:
            begin = sum(map(len, self.pieces))
            self.reading.labels += [(begin + i - 1, token) for i, token in enumerate(covered)]
            self.pieces.append(self.reading.text(*read))


def naive_ids(part: Simple, clip: Clip, is_last: bool) -> tuple[Sequence[int], Sequence[int]]:
    """Return what is to be predicted, and what is read."""
    if isinstance(part, Text):
        return (clip.text if part.loss else []), clip.text
    if isinstance(part, Mark):
        return [], [IDS[part.last if is_last else part.regular]]
    if isinstance(part, Token):
        return ([IDS[part.name]] if part.loss else []), [IDS[part.reads or part.name]]
    return [], []


def own_clips(model: Wav2Vec2LlamaModel, row: Row) -> list[Clip]:
    waveforms = segments(model, row)
    return list(map(Clip, waveforms, segment_texts(row, len(waveforms))))


def read_naively(reading: Reading, row: Row, syntax: Syntax) -> None:
    naive = NaiveRow(reading, row.lang)
    for part in syntax.parts:
        if not isinstance(part, Repeat):
            naive.add(part, row.own, True)
            continue
        is_own = part.items is Items.SEGMENTS
        clips = own_clips(reading.model, row) if is_own else row.examples
        for i, clip in enumerate(clips):
            for inner in part.parts:
                naive.add(inner, clip, i + 1 == len(clips))
    reading.give(*naive.pieces)


def naive_prompt(
    reading: Reading, lang: str | None, syntax: Syntax, past: Sequence[Clip], own: Clip, last: bool
) -> Tensor:
    """Return what streaming inference reads before the text of a segment."""
    naive = NaiveRow(reading, lang)
    for part in syntax.parts:
        if not isinstance(part, Repeat):
            naive.add(part, own, True)
            continue
        for clip in past:
            for inner in part.parts:
                naive.add(inner, clip, False)
        for inner in part.parts[:-2]:
            naive.add(inner, own, last)
    return torch.cat(naive.pieces)


# What is drawn


def tokens() -> st.SearchStrategy[list[Part]]:
    return st.lists(st.sampled_from([*map(Token, SPECIAL), Token("bos")]), max_size=2)


@st.composite
def syntaxes(draw: st.DrawFn) -> Syntax:
    """Draw a syntax: languages and tokens anywhere, examples of any kind, or segments."""
    kind = draw(st.sampled_from(["plain", "examples", "segments"]))

    def noise() -> list[Any]:
        languages: list[list[Part]] = [[], [], [Language()]]
        return [*draw(tokens()), *draw(st.sampled_from(languages)), *draw(tokens())]

    end = [Text(), draw(st.sampled_from([Token("eos", True), Token("eos", True, "bos")]))]
    marks = [Mark("a", "b")] if kind == "segments" and draw(st.booleans()) else []
    own = [*noise(), Audio(), *noise(), *marks, Token("bos"), *end]
    if kind == "segments":
        return Syntax("drawn", (*noise(), Repeat(Items.SEGMENTS, tuple(own))), SPECIAL)
    kinds: list[list[Part]] = [[Audio()], [Text(False)], [Audio(), Text(False)]]
    shown: list[Any] = draw(st.sampled_from(kinds))
    examples: list[Part] = [Repeat(Items.EXAMPLES, (*noise(), *shown, *noise()))]
    context = examples if kind == "examples" else []
    return Syntax("drawn", (*noise(), *context, *own), SPECIAL)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    syntax = draw(syntaxes())
    global DRAWN
    DRAWN = syntax
    more = {
        "model_type": "ZERO_SHOT",
        "n_special_tokens": len(SPECIAL),
        "n_context_examples": NUM_EXAMPLES,
        "wav2vec2_asr_config": {"target_vocab_size": VOCAB_SIZE},
        "llama_config": {"vocab_size": VOCAB_SIZE, "max_seq_len": 4096},
        "special_token_base": None,
        "streaming_config": {
            "segment_secs": SEGMENT_SECS,
            "n_context_segments": draw(st.integers(0, 2)),
        },
        "syntax": f"{__name__}:DRAWN",
    }
    shape = Sizes(stacking=draw(st.integers(1, 2)), seed=draw(st.integers(0, 99)))
    variant = Variant(partial(read_naively, syntax=syntax), {})
    drawn = draw(st.lists(rows(), min_size=1, max_size=3))
    return Case(variant, merge(shape.overrides(), more), shape.seed, drawn, 7.0)


# The properties


@given(case=cases())
@torch.no_grad()
def test_training_reads_what_is_declared(case: Case) -> None:
    model, batch = case.model(), case.batch()
    readings = case.readings(model)
    output = outputs_of(model, batch)
    lens = output.decoder_inputs_layout.seq_lens
    for logits, length, reading in zip(output.logits, lens, readings, strict=True):
        assert length == len(reading.seqs())
        assert_rows_close(logits[:length], reading.logits())
    total = torch.stack([reading.nll() for reading in readings]).sum()
    num_targets = sum(len(reading.labels) for reading in readings)
    assert_rows_close(loss_of(model, batch), total / num_targets * len(readings))
    sums = model(batch, objective=Objective())
    assert isinstance(sums, TrainingLoss)
    assert sums.num_targets == num_targets
    assert_rows_close(sums.total, total)


@given(case=cases())
@torch.no_grad()
def test_inference_reads_what_training_reads_before_the_text(case: Case) -> None:
    model = case.model()
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=2, max_new_tokens=3)
    if model.syntax.is_streaming:
        for found, expected in streamed_prompts(model, case.rows[0]):
            assert_rows_close(found, expected)
        return
    prompt = model.embed_prompt(model.read_batch(case.batch()))
    triples = zip(prompt.seqs, prompt.layout.seq_lens, case.readings(model), strict=True)
    for seqs, length, reading in triples:
        assert length == reading.labels[0][0] + 1
        assert_rows_close(seqs[:length], reading.seqs()[:length])
    from_batch = generate(model, case.batch(), config)
    from_inputs = generate(model, decoder_inputs_of(model, case.batch()), config)
    for row, other in zip(from_batch, from_inputs, strict=True):
        assert [one.tokens for one in row] == [one.tokens for one in other]
        assert [one.score for one in row] == pytest.approx([one.score for one in other])


def streamed_prompts(model: Wav2Vec2LlamaModel, row: Row) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the prompts of a row's segments: what the decoder is given, and the naive ones."""
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=3)
    decoder = StreamDecoder(model, config, normalization="clip")
    state = decoder.start(row.lang if model.syntax.needs_language else None)
    waveform = row.own.waveform.float()
    with record_prompts(model) as seen:
        results = [*decoder.feed(state, waveform), decoder.finish(state)]
    waveforms = segments(model, row)
    clips = [
        Clip(audio.float().double(), best[0].tokens)
        for audio, best in zip(waveforms, results, strict=True)
    ]
    num_past = model.streaming_config.n_context_segments
    for i, (clip, found) in enumerate(zip(clips, seen, strict=True)):
        past, last = clips[max(0, i - num_past) : i], i + 1 == len(clips)
        reading = Reading(model, VOCAB_SIZE)
        yield found, naive_prompt(reading, row.lang, model.syntax, past, clip, last)
