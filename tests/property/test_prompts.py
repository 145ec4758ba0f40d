"""What the decoder reads, for every syntax, against a plain concatenation row by row.

The rows here are written from section 3 of the specification and know nothing of
``wavellama.prompt``: one clip at a time through ``embed_audio``, ids through ``embed_text``,
``torch.cat``, and a loss that is added up token by token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

import pytest
import torch
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.nn import BatchLayout
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tests.fakes import (
    EOS,
    arch_config,
    create_model,
    decoder_inputs_of,
    golden_tokenizer,
    loss_of,
    make_batch,
    make_waveforms,
    merge,
    outputs_of,
)
from tests.property.strategies import LANGS, SAMPLE_COUNTS, assert_rows_close, sizes
from wavellama import Wav2Vec2LlamaModel
from wavellama.model.loss import Objective, TrainingLoss
from wavellama.units import SAMPLE_RATE

BOS, PAD = 0, 1

VOCAB_SIZE = 32
"""That of the tokenizer of the golden cases, which encodes the words of segments."""

NUM_EXAMPLES = 2


@dataclass(frozen=True)
class Clip:
    """A waveform and the ids of its text."""

    waveform: Tensor = field(repr=False)
    text: list[int]


@dataclass(frozen=True)
class Row:
    """All that a row of a batch may hold; each syntax reads some of it."""

    own: Clip
    lang: str | None
    examples: list[Clip]
    words: list[str]
    durations: list[float]


class Reading:
    """What the decoder reads of one row, piece by piece, and what it has to predict."""

    def __init__(self, model: Wav2Vec2LlamaModel, special_token_base: int) -> None:
        self.model, self._base = model, special_token_base
        self._pieces: list[Tensor] = []
        self.contexts: list[Tensor] = []
        self.labels: list[tuple[int, int]] = []
        """Positions, and the tokens that the outputs there have to predict."""

    def give(self, *pieces: Tensor) -> None:
        """Append a context: all that stands before the next text."""
        self._pieces += pieces
        self.contexts.append(torch.cat(pieces))

    def predict(self, tokens: Sequence[int]) -> None:
        """Append tokens that the loss covers."""
        self.label(tokens)
        self._pieces.append(self.text(*tokens))

    def label(self, tokens: Sequence[int]) -> None:
        """Demand tokens, the first one from the last position so far."""
        last = len(self.seqs()) - 1
        self.labels += [(last + i, token) for i, token in enumerate(tokens)]

    def seqs(self) -> Tensor:
        """Return all that is read. (S, M)."""
        return torch.cat(self._pieces)

    def logits(self) -> Tensor:
        """Run the decoder over this row alone. (S, V)."""
        seqs = self.seqs()[None]
        hidden = self.model.llama_decoder(seqs, BatchLayout.of(seqs))
        logits: Tensor = self.model.final_proj(hidden)[0]
        return logits

    def nll(self) -> Tensor:
        """Add the loss up, token by token."""
        log_probs = torch.log_softmax(self.logits(), -1)
        return -torch.stack([log_probs[place, token] for place, token in self.labels]).sum()

    # The kinds of pieces. (S, M) each.

    def audio(self, waveform: Tensor) -> Tensor:
        return self.model.embed_audio(waveform[None], [len(waveform)])[0][0]

    def text(self, *ids: int) -> Tensor:
        return self.model.embed_text(torch.tensor([ids], dtype=torch.int64), torch.float64)[0]

    def special(self, number: int) -> Tensor:
        return self.text(self._base + number)

    def language(self, code: str | None) -> Tensor:
        assert self.model.lang_embeddings is not None
        row = 0 if code is None else self.model.lang_mapping[code]
        return self.model.lang_embeddings.weight[row][None]


# The table of section 3, line by line


def read_llm_asr(reading: Reading, row: Row) -> None:
    reading.give(reading.audio(row.own.waveform), reading.text(BOS))
    reading.predict([*row.own.text, EOS])


def read_llm_asr_lid(reading: Reading, row: Row) -> None:
    language = [reading.special(0), reading.language(row.lang)]
    reading.give(reading.audio(row.own.waveform), *language, reading.text(BOS))
    reading.predict([*row.own.text, EOS])


def read_zero_shot(reading: Reading, row: Row) -> None:
    """EOS stands before the text and BOS after it; what is predicted there is EOS."""
    _read_examples(reading, row, start=EOS)
    reading.predict(row.own.text)
    reading.label([EOS])
    reading.give(reading.text(BOS))


def read_zero_shot_plain(reading: Reading, row: Row) -> None:
    _read_examples(reading, row, start=BOS)
    reading.predict([*row.own.text, EOS])


def _read_examples(reading: Reading, row: Row, start: int) -> None:
    pieces = [reading.special(0)]
    for example in row.examples:
        pieces += [reading.special(2), reading.audio(example.waveform), reading.special(4)]
        pieces += [reading.text(*example.text), reading.special(5), reading.special(3)]
    own = reading.audio(row.own.waveform)
    reading.give(*pieces, reading.special(1), own, reading.text(start))


def read_zero_shot_text_only(reading: Reading, row: Row) -> None:
    pieces = [reading.special(0)]
    for example in row.examples:
        pieces += [reading.special(2), reading.text(*example.text), reading.special(3)]
    own = reading.audio(row.own.waveform)
    reading.give(*pieces, reading.special(1), own, reading.text(BOS))
    reading.predict([*row.own.text, EOS])


def read_streaming(reading: Reading, row: Row) -> None:
    clips = segments(reading.model, row)
    pieces = [reading.language(row.lang), reading.special(0)]
    for i, (clip, text) in enumerate(zip(clips, segment_texts(row, len(clips)), strict=True)):
        mark = reading.special(1 if i + 1 == len(clips) else 2)
        reading.give(*pieces, reading.audio(clip), mark, reading.text(BOS))
        reading.predict([*text, EOS])
        pieces = []


SEGMENT_SECS = 0.1


def segments(model: Wav2Vec2LlamaModel, row: Row) -> list[Tensor]:
    """Cut every segment; drop a tail that is not longer than ``min_audio_ms``."""
    clips = list(torch.split(row.own.waveform, round(SEGMENT_SECS * SAMPLE_RATE)))
    tail_ms = len(clips[-1]) * 1000 / SAMPLE_RATE
    is_short = tail_ms <= model.streaming_config.min_audio_ms
    return clips[:-1] if len(clips) > 1 and is_short else clips


def segment_texts(row: Row, num_segments: int) -> list[list[int]]:
    """Slice the ids of the whole text, one per character, by where the words end."""
    ids = golden_tokenizer().create_encoder()("".join(row.words)).tolist()
    texts: list[list[int]] = [[] for _ in range(num_segments)]
    for word, end in zip(row.words, accumulate(row.durations), strict=True):
        end = min(end, len(row.own.waveform) / SAMPLE_RATE)
        place = 0
        while place + 1 < num_segments and end > (place + 1) * SEGMENT_SECS + 1e-4:
            place += 1
        texts[place] += ids[: len(word)]
        ids = ids[len(word) :]
    assert not ids
    return texts


# Models and batches


class Variant(NamedTuple):
    """A line of the table: how it reads a row, and the configuration that selects it."""

    read: Callable[[Reading, Row], None]
    overrides: Mapping[str, Any]


ZERO_SHOT = {
    "model_type": "ZERO_SHOT",
    "n_special_tokens": 6,
    "n_context_examples": NUM_EXAMPLES,
}
STREAMING = Variant(
    read_streaming,
    {
        "model_type": "LLM_ASR_LID",
        "n_special_tokens": 3,
        "streaming_config": {"is_streaming": True, "segment_secs": SEGMENT_SECS},
    },
)
WHOLE_UTTERANCES = [
    Variant(read_llm_asr, {"model_type": "LLM_ASR", "n_special_tokens": 0}),
    Variant(read_llm_asr_lid, {"model_type": "LLM_ASR_LID", "n_special_tokens": 1}),
    Variant(read_zero_shot, ZERO_SHOT),
    Variant(read_zero_shot_plain, {**ZERO_SHOT, "zero_shot_swapped_bos_eos": False}),
    Variant(read_zero_shot_text_only, {**ZERO_SHOT, "context_text_only": True}),
]


class Case(NamedTuple):
    """What is drawn: a configuration, a seed, and the rows of a batch."""

    variant: Variant
    overrides: Mapping[str, Any]
    seed: int
    rows: list[Row]
    padding: float

    def model(self) -> Wav2Vec2LlamaModel:
        """Create the random model."""
        config = arch_config("tiny", self.overrides)
        model = create_model(config, seed=self.seed, sharpness=3.0)
        model.text_encoder = golden_tokenizer().create_encoder()
        return model

    def readings(self, model: Wav2Vec2LlamaModel) -> list[Reading]:
        """Return how each row is read."""
        base = self.overrides["special_token_base"]
        readings = [Reading(model, VOCAB_SIZE if base is None else base) for _ in self.rows]
        for reading, row in zip(readings, self.rows, strict=True):
            self.variant.read(reading, row)
        return readings

    def batch(self) -> Seq2SeqBatch:
        """Return the rows as one batch, with the metadata of all variants."""
        texts = [[torch.tensor(clip.text) for clip in row.examples] for row in self.rows]
        audio = [[clip.waveform for clip in row.examples] for row in self.rows]
        return make_batch(
            [row.own.waveform for row in self.rows],
            [row.own.text for row in self.rows],
            [row.lang for row in self.rows],
            more={
                "text_words_merged": [row.words for row in self.rows],
                "word_duration": [row.durations for row in self.rows],
                "context_text": [_pad(seqs, PAD) for seqs in texts],
                "context_audio": [_pad(seqs, self.padding) for seqs in audio],
            },
            padding=self.padding,
        )


def _pad(seqs: Sequence[Tensor], padding: float) -> dict[str, object]:
    padded = pad_sequence(list(seqs), batch_first=True, padding_value=padding)
    return {"seqs": padded, "seq_lens": [len(seq) for seq in seqs]}


@st.composite
def cases(draw: st.DrawFn, variant: Variant) -> Case:
    """Draw a model of one variant, and rows for it."""
    shape = draw(sizes())
    overrides = {
        "wav2vec2_asr_config": {"target_vocab_size": VOCAB_SIZE},
        "llama_config": {"vocab_size": VOCAB_SIZE},
        "special_token_base": draw(st.sampled_from([None, VOCAB_SIZE - 20])),
        "streaming_config": {
            "n_context_segments": draw(st.integers(0, 3)),
            "min_audio_ms": draw(st.sampled_from([25, 40])),
        },
    }
    overrides = merge(merge(shape.overrides(), overrides), variant.overrides)
    drawn = draw(st.lists(rows(), min_size=1, max_size=4))
    return Case(variant, overrides, shape.seed, drawn, draw(st.sampled_from([0.0, 7.0])))


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """Draw a clip, its language, its examples and its timed words."""
    lens = draw(st.lists(SAMPLE_COUNTS, min_size=1 + NUM_EXAMPLES, max_size=1 + NUM_EXAMPLES))
    waveforms = make_waveforms(lens, seed=draw(st.integers(0, 2**16)))
    texts = st.lists(st.integers(3, VOCAB_SIZE - 1), min_size=1, max_size=6)
    own, *examples = [Clip(waveform, draw(texts)) for waveform in waveforms]
    words = draw(st.lists(st.text("abenotw", min_size=1, max_size=3), max_size=6))
    durations = st.one_of(st.floats(0.0, 0.2), st.sampled_from([0.05, 0.1, 0.2]))
    return Row(
        own,
        draw(st.sampled_from(LANGS)),
        examples,
        [f" {word}" if i > 0 else word for i, word in enumerate(words)],
        [draw(durations) for _ in words],
    )


# The properties


def _name(variant: Variant) -> str:
    return variant.read.__name__.removeprefix("read_")


every_variant = pytest.mark.parametrize("variant", [*WHOLE_UTTERANCES, STREAMING], ids=_name)


@every_variant
@given(data=st.data())
@torch.no_grad()
def test_the_contexts_are_what_one_would_concatenate(variant: Variant, data: st.DataObject) -> None:
    case = data.draw(cases(variant))
    model = case.model()
    readings = case.readings(model)
    inputs = decoder_inputs_of(model, case.batch())
    num_contexts = max(len(reading.contexts) for reading in readings)
    assert len(inputs.decoder_context_inputs) == num_contexts
    columns = zip(inputs.decoder_context_inputs, inputs.decoder_context_seq_lens, strict=True)
    for place, (context, lens) in enumerate(columns):
        assert context.size(1) == max(lens)
        for seqs, length, reading in zip(context, lens, readings, strict=True):
            expected = [*reading.contexts, *[seqs[:0]] * num_contexts][place]
            assert length == len(expected)
            assert_rows_close(seqs[:length], expected)
            assert not seqs[length:].any()
    for seqs, reading, row in zip(inputs.audio_embeddings, readings, case.rows, strict=True):
        audio = reading.audio(row.own.waveform)
        assert_rows_close(seqs[: len(audio)], audio)


@every_variant
@given(data=st.data())
@torch.no_grad()
def test_the_loss_is_added_up_over_the_covered_tokens(
    variant: Variant, data: st.DataObject
) -> None:
    case = data.draw(cases(variant))
    model, batch = case.model(), case.batch()
    readings = case.readings(model)
    output = outputs_of(model, batch)
    lens = output.decoder_inputs_layout.seq_lens
    for logits, length, reading in zip(output.logits, lens, readings, strict=True):
        expected = reading.logits()
        assert length == len(expected)
        assert_rows_close(logits[:length], expected)
    total = torch.stack([reading.nll() for reading in readings]).sum()
    num_targets = sum(len(reading.labels) for reading in readings)
    assert_rows_close(output.loss, total / num_targets * len(case.rows))
    assert_rows_close(loss_of(model, batch), output.loss)
    sums = model(batch, objective=Objective())
    assert isinstance(sums, TrainingLoss)
    assert sums.num_targets == num_targets
    assert_rows_close(sums.total, total)


@pytest.mark.parametrize("variant", WHOLE_UTTERANCES, ids=_name)
@given(data=st.data())
@torch.no_grad()
def test_inference_reads_the_first_context(variant: Variant, data: st.DataObject) -> None:
    case = data.draw(cases(variant))
    model = case.model()
    prompt = model.embed_prompt(model.read_batch(case.batch()))
    triples = zip(prompt.seqs, prompt.layout.seq_lens, case.readings(model), strict=True)
    for seqs, length, reading in triples:
        assert length == len(reading.contexts[0])
        assert_rows_close(seqs[:length], reading.contexts[0])
