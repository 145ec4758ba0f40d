"""What ``recipe --model`` means for the configuration."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from wavellama.cli import recipe
from wavellama.cli.main import create_parser

FILES = ("asr", "transcribe", "transcribe_files")


@pytest.fixture(autouse=True)
def _no_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["wavellama"])
    monkeypatch.setattr(recipe, "_call_fairseq2", lambda recipe: 0)
    (tmp_path / "other.yaml").write_text(f"recipe: {__name__}:Other\n")


class Other:
    """A recipe that knows no tokenizer."""

    config_kls = object


def values(*words: str) -> list[str]:
    """Return the values that fairseq2's command line is given."""
    assert recipe.run_recipe(create_parser().parse_args(["recipe", *words])) == 0
    return sys.argv[sys.argv.index("--config") + 1 :]


@pytest.mark.parametrize(
    ("words", "model", "has_tokenizer"),
    [
        (FILES, "omniASR_LLM_7B", True),
        (FILES, "omniASR_CTC_300M_v2", True),
        (("asr", "eval", "llm_eval"), "omniASR_LLM_300M_v2", True),
        (("asr", "train", "llm_finetune"), "omniASR_LLM_300M_v2", True),
        (FILES, "no_such_card", False),
        (("run", "other.yaml"), "omniASR_LLM_7B", False),
    ],
)
def test_a_card_brings_its_tokenizer(
    words: tuple[str, ...], model: str, has_tokenizer: bool
) -> None:
    """Files were once decoded with the tokenizer of the toy model, which is the default."""
    tokenizer = [f"tokenizer.name={model}"] if has_tokenizer else []
    assert values(*words, "--model", model) == [f"model.name={model}", *tokenizer]


def test_what_is_said_otherwise_comes_later_and_wins() -> None:
    given = ("--config", "tokenizer.name=mine")
    assert values(*FILES, "--model", "omniASR_LLM_7B", *given)[-1] == given[1]
