"""Recipes whose YAML files leave out what they need, or say what nothing reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.forked import run_forked
from tests.e2e.runs import last_line

MODEL = "model: {family: wav2vec2_llama, arch: tiny_lid}\n"
TOKENIZER = "tokenizer: {name: toy_tokenizer}\n"
DATASET = "dataset: {name: toy_tones}\n"


@pytest.mark.parametrize(
    ("verb", "content", "parts"),
    [
        ("train", MODEL + TOKENIZER, ["`dataset` names no data set"]),
        ("train", MODEL + DATASET, ["`tokenizer` is not valid"]),
        ("train", DATASET + TOKENIZER, ["`model` is not valid"]),
        ("eval", TOKENIZER, ["`dataset` names no data set"]),
        ("transcribe", TOKENIZER, ["`dataset` names no data set"]),
        ("eval", DATASET + TOKENIZER, ["`model` names no model; give `model.name`"]),
        (
            "transcribe",
            f"files: [a.wav]\n{TOKENIZER}{DATASET}seq2seq_generator: {{config: {{nbest: 3}}}}\n",
            ["`dataset` is about data sets", "`seq2seq_generator` is about data sets"],
        ),
    ],
)
def test_what_is_missing_or_has_no_effect_is_named(
    verb: str, content: str, parts: list[str], tmp_path: Path
) -> None:
    """Toys were taken in silence; sections that `files` does not read were ignored."""
    path = tmp_path / "mine.yaml"
    path.write_text(f"recipe: {verb}\n{content}", "utf-8")
    result = run_forked("recipe", "asr", verb, path, "--output-dir", tmp_path / "out", "--no-rich")
    assert result.returncode == 2
    for part in parts:
        assert part in last_line(result)
