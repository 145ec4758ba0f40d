"""What a generator is given: metadata where it takes a batch, else audio alone, or nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
import torch
from fairseq2.data.tokenizers import load_tokenizer
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.generation import GenerationCounters, SequenceGeneratorOutput
from fairseq2.generation import Hypothesis as Fairseq2Hypothesis
from fairseq2.nn import BatchLayout
from fairseq2.recipe import RecipeContext
from torch import Tensor

from tests.fakes import make_batch, make_waveforms, tiny_model
from wavellama import Hypothesis
from wavellama.data.utterance import Utterance
from wavellama.errors import BatchError, ConfigError
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.tasks.output import to_record
from wavellama.tasks.transcriber import Transcription, create_transcriber

HYPOTHESIS: Final = Hypothesis([7], -1.0, [-1.0], True, "eos")


@dataclass
class FourTensors:
    """fairseq2's call alone; notes what it is given, and returns two hypotheses per row."""

    given: list[tuple[Tensor, list[int], Tensor]] = field(default_factory=list)

    def __call__(
        self, seqs: Tensor, layout: BatchLayout, prompts: Tensor, prompt_layout: BatchLayout
    ) -> SequenceGeneratorOutput:
        self.given.append((seqs, list(layout.seq_lens), prompts))
        ended = Fairseq2Hypothesis(torch.tensor([0, 7, 8, 2, 1]), torch.tensor(-2.0), torch.ones(5))
        cut = Fairseq2Hypothesis(torch.tensor([7]), None, None)
        rows = [[ended, cut] if i == 0 else [cut, ended] for i in range(len(seqs))]
        return SequenceGeneratorOutput(rows, GenerationCounters())


@dataclass
class FakeContext:
    """What a transcriber asks of a recipe's context, which is its own data set, too."""

    model: Wav2Vec2LlamaModel
    generator: object
    langs: tuple[str | None, ...] = ("ita_Latn", None)

    def get_model(self) -> Wav2Vec2LlamaModel:
        return self.model

    def get_tokenizer(self) -> Any:
        return load_tokenizer("toy_tokenizer")

    def get_seq2seq_generator(self) -> Any:
        return self.generator

    def get_dataset_as(self, kls: type[object]) -> Any:
        return self

    def utterances(self, split: str) -> list[Utterance]:
        assert split == "dev"
        return [Utterance(Path("a.wav"), "a", 1.0, lang) for lang in self.langs]


def transcribe(context: FakeContext) -> list[Transcription]:
    columns: dict[str, list[Any]] = {"audio": ["a", "b"], "lang": [None, None], "text": ["a", "b"]}
    columns |= {"offset": [None, None], "duration": [1.0, 1.0]}
    batch = make_batch(make_waveforms([9000, 6400]), more=columns)
    return create_transcriber(cast("RecipeContext", context), "dev").transcribe(batch)


@pytest.mark.parametrize(
    ("arch", "langs"), [("tiny", ("ita_Latn", None)), ("tiny_lid", (None, None))]
)
def test_four_tensors_are_audio_and_one_bos(arch: str, langs: tuple[str | None, ...]) -> None:
    generator = FourTensors()
    first, second = transcribe(FakeContext(tiny_model(arch=arch), generator, langs))
    ((seqs, lens, prompts),) = generator.given
    assert (tuple(seqs.shape), lens) == ((2, 9000), [9000, 6400])
    assert prompts.tolist() == [[0], [0]]
    assert first.hypothesis is not None
    assert second.hypothesis is not None
    assert (first.hypothesis.tokens, first.hypothesis.stop_reason) == ([7, 8], "eos")
    assert (second.hypothesis.tokens, second.hypothesis.stop_reason) == ([7], "length")
    assert math.isnan(second.hypothesis.score)
    assert [to_record(row)["score"] for row in (first, second)] == [-2.0, None]


@pytest.mark.parametrize(
    ("arch", "langs", "unheard"),
    [
        ("tiny_lid", ("ita_Latn", None), "languages"),
        ("tiny_zero_shot", (None, None), "context examples"),
        ("tiny_streaming", (None, None), "segments"),
        ("tiny_streaming", ("ita_Latn", None), "segments and languages"),
    ],
)
def test_what_four_tensors_cannot_carry_is_named(
    arch: str, langs: tuple[str | None, ...], unheard: str
) -> None:
    context = FakeContext(tiny_model(arch=arch), FourTensors(), langs)
    with pytest.raises(ConfigError, match=f"FourTensors has no .* the model reads {unheard}, too"):
        create_transcriber(cast("RecipeContext", context), "dev")


@pytest.mark.parametrize("rows", [[], [[], []], [[HYPOTHESIS], []], [[HYPOTHESIS]] * 3])
def test_a_row_without_hypotheses_is_named(rows: list[list[Hypothesis]]) -> None:
    generator = SimpleNamespace(generate_batch=lambda batch: rows)
    with pytest.raises(BatchError, match=r"rows with hypotheses for 2 utterances"):
        transcribe(FakeContext(tiny_model(arch="tiny_lid"), generator))


def test_a_generator_of_batches_is_given_the_metadata() -> None:
    given: list[Any] = []

    def generate_batch(batch: Seq2SeqBatch) -> list[list[Hypothesis]]:
        given.append(batch.example)
        return [[HYPOTHESIS], [HYPOTHESIS]]

    generator = SimpleNamespace(generate_batch=generate_batch)
    rows = transcribe(FakeContext(tiny_model(arch="tiny_lid"), generator))
    assert [row.hypothesis for row in rows] == [HYPOTHESIS, HYPOTHESIS]
    assert given[0]["lang"] == [None, None]
