"""Examples that are read once for many clips: the same results as reading them with each."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.fakes import SMALL, tiny_model
from wavellama import Wav2Vec2LlamaBeamSearchConfig, Wav2Vec2LlamaModel, generate
from wavellama.batch import AsrBatch, Example
from wavellama.decoding import engine_view
from wavellama.decoding.examples import read_examples
from wavellama.engine import Engine
from wavellama.errors import BatchError

NUM_EXAMPLES = 3


def create(text_only: bool = False, **changes: object) -> Wav2Vec2LlamaModel:
    overrides = {
        **SMALL,
        "model_type": "ZERO_SHOT",
        "n_special_tokens": 6,
        "n_context_examples": NUM_EXAMPLES,
        "context_text_only": text_only,
        **changes,
    }
    return tiny_model(overrides, dtype=torch.float64).eval()


def examples(text_only: bool = False) -> list[Example]:
    draw = torch.Generator().manual_seed(1)
    lens, texts = [1_700, 900, 1_700], [[5, 6], [0][:0], [7, 8, 9]]
    clips = [torch.randn(length, generator=draw) for length in lens]
    audio = [None if text_only else clip for clip in clips]
    return [Example(*pair) for pair in zip(audio, texts, strict=True)]


def batch(read: list[Example] | None = None) -> AsrBatch:
    draw = torch.Generator().manual_seed(2)
    lens = [2_000, 800, 1_400]
    rows = None if read is None else [read] * len(lens)
    return AsrBatch(torch.randn(3, 2_000, generator=draw), lens, [], None, rows)


@pytest.mark.parametrize("text_only", [False, True])
@pytest.mark.parametrize("nbest", [1, 3])
@pytest.mark.parametrize("engine", [True, False])
def test_results_are_those_of_reading_the_examples_with_each_clip(
    text_only: bool, nbest: int, engine: bool
) -> None:
    model = create(text_only)
    if not engine:
        model.llama_decoder.register_forward_hook(lambda *_: None)
        assert engine_view.find_engine(model) is None, "hooks are run by the modules"
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=nbest, max_new_tokens=10)
    expected = generate(model, batch(examples(text_only)), config)
    prefix = read_examples(model, examples(text_only))
    for _ in range(2):
        found = generate(model, batch(), config, prefix=prefix)
        for row, other in zip(found, expected, strict=True):
            assert [one.tokens for one in row] == [one.tokens for one in other]
            assert [one.score for one in row] == pytest.approx([one.score for one in other])


def test_drafts_go_with_them() -> None:
    model = create(ctc_head=True)
    prefix = read_examples(model, examples())
    plain = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=10)
    expected = generate(model, batch(), plain, prefix=prefix)
    drafted = generate(model, batch(), replace(plain, ctc_draft=True), prefix=prefix)
    assert [row[0].tokens for row in drafted] == [row[0].tokens for row in expected]


def test_the_decoder_reads_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create()
    read: list[int] = []
    prefill = Engine.prefill

    def count(self: Engine, prompts: list[torch.Tensor], *args: object) -> object:
        read.extend(map(len, prompts))
        return prefill(self, prompts, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "prefill", count)
    prefix = read_examples(model, examples())
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=2, max_new_tokens=3)
    for _ in range(3):
        generate(model, batch(), config, prefix=prefix)
    assert read.count(len(prefix.seqs)) == 1
    assert len(read) == 1 + 3 * 3
    assert sum(read) < len(prefix.seqs) * 3


def test_their_number_must_be_that_of_the_model() -> None:
    with pytest.raises(BatchError, match=r"has 2 context examples, .* exactly 3"):
        read_examples(create(), examples()[:2])
    plain = tiny_model(SMALL, dtype=torch.float64)
    with pytest.raises(BatchError, match="reads no examples"):
        read_examples(plain, examples())
