"""What the published implementation writes with 200 random models: beams of 1 to 5, and streams.

``tests/golden/random_models/make.py`` says how the data were made. Each utterance was recognised
alone there, and two at a time here. Where the published search has a fault, the hypotheses in the
data are those without it, and what it wrote with it is kept beside them.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from fairseq2.datasets import Seq2SeqBatch

from tests.fakes import GOLDEN, arch_config, make_batch
from tests.golden.random_models.models import (
    LANGUAGES,
    config_overrides,
    example_columns,
    random_rows,
    random_weights,
)
from wavellama import Wav2Vec2LlamaBeamSearchConfig, Wav2Vec2LlamaModel, generate
from wavellama.model.factory import create_wav2vec2_llama_model

FILE = GOLDEN / "random_models" / "cases.jsonl"
CASES: list[dict[str, Any]] = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]

FAULTS = {
    # With `length_norm`, scores are means only while the best hypothesis has a token already.
    "norm_skipped_while_the_best_is_empty": 26,
    # With `length_norm`, a padding token that the model emits does not count as a token.
    "padding_not_counted": 37,
    # With `n_context_segments=0`, a segment sees all the ones before it, instead of none.
    "no_context_is_all": 35,
    # Past segments that leave less than a quarter of the decoder's positions to the text are read
    # all the same, and raise where no position is left; ours leaves out the oldest ones.
    "context_leaves_no_room": 29,
}
"""What is wrong with the published search, each with the number of utterances that it changes."""


def _name(case: dict[str, Any]) -> str:
    kind = "streaming" if case["streaming"] else case["model_type"]
    return f"{case['seed']}-{kind}-beam{case['nbest']}"


def _model(case: dict[str, Any]) -> Wav2Vec2LlamaModel:
    overrides = config_overrides(case)
    if overrides["lang_embeddings_p"]:
        overrides["languages"] = list(LANGUAGES)
    model = create_wav2vec2_llama_model(arch_config("tiny", overrides)).eval()
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    model.load_state_dict(random_weights(shapes, case), strict=True)
    return model


def _batch(case: dict[str, Any]) -> Seq2SeqBatch:
    rows = random_rows(case)
    columns = [example_columns(row) for row in rows]
    more = {name: [column[name] for column in columns] for name in columns[0]}
    langs = [row.lang for row in rows] if case["model_type"] == "LLM_ASR_LID" else None
    return make_batch([row.waveform for row in rows], langs=langs, more=more)


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_hypotheses(case: dict[str, Any]) -> None:
    search = Wav2Vec2LlamaBeamSearchConfig(
        nbest=case["nbest"], length_norm=case["length_norm"], repetition_guard=False
    )
    results = generate(_model(case), _batch(case), search)
    for row, hypotheses in zip(case["rows"], results, strict=True):
        tokens, scores, ended = zip(*row["hypotheses"], strict=True)
        assert [h.tokens for h in hypotheses] == list(tokens)
        assert [h.score for h in hypotheses] == pytest.approx(scores, rel=1e-4, abs=1e-4)
        assert [h.finished for h in hypotheses] == list(ended)


def test_faults_of_the_published_search_are_counted() -> None:
    rows = [row for case in CASES for row in case["rows"]]
    assert Counter(fault for row in rows for fault in row["faults"]) == FAULTS
    assert all(("published" in row) == bool(row["faults"]) for row in rows)
    assert all(row["published"] != row["hypotheses"] for row in rows if row["faults"])
    num_that_raise = sum(row.get("published", row) is None for row in rows)
    assert (len(CASES), num_that_raise) == (200, 35)


@pytest.mark.parametrize("beam", range(1, 6))
def test_every_beam_is_tried_with_every_kind(beam: int) -> None:
    kinds = {
        (case["model_type"], bool(case["streaming"]), case["length_norm"])
        for case in CASES
        if case["nbest"] == beam
    }
    assert len(kinds) == 8
