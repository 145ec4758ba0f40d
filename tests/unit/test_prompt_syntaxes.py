"""The declared syntaxes."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

import pytest

from wavellama.errors import ConfigError, SyntaxNotAvailableError
from wavellama.prompt.parts import Language, Part, Token, is_covered
from wavellama.prompt.syntax import Syntax
from wavellama.prompt.syntaxes import LLM_ASR, LLM_ASR_LID, ModelType, select_syntax


def _write(parts: tuple[Part, ...]) -> str:
    """Write a sequence as the specification does: ``*`` marks what the loss covers."""
    return ", ".join(
        (part.name if isinstance(part, Token) else type(part).__name__.lower())
        + "*" * is_covered(part)
        for part in parts
    )


@pytest.mark.parametrize(
    ("model_type", "sequence", "num_special_tokens"),
    [
        (ModelType.LLM_ASR, "audio, bos, text*, eos*", 0),
        (ModelType.LLM_ASR_LID, "audio, lid, language, bos, text*, eos*", 1),
    ],
)
def test_sequence_of_the_specification(
    model_type: ModelType, sequence: str, num_special_tokens: int
) -> None:
    syntax = select_syntax(model_type)
    assert _write(syntax.parts) == sequence
    assert len(syntax.special_tokens) == num_special_tokens


@pytest.mark.parametrize(
    ("syntax", "prompt"),
    [(LLM_ASR, "audio, bos"), (LLM_ASR_LID, "audio, lid, language, bos")],
)
def test_inference_reads_up_to_the_first_covered_part(syntax: Syntax, prompt: str) -> None:
    assert _write(syntax.prompt) == prompt
    assert syntax.parts[: len(syntax.prompt)] == syntax.prompt


def test_special_tokens_are_numbered_from_their_base() -> None:
    assert LLM_ASR_LID.token_ids(0, 2, 9812) == {"bos": 0, "eos": 2, "lid": 9812}
    many = Syntax("many", LLM_ASR.parts, special_tokens=("a", "b", "c"))
    assert many.token_ids(5, 6, 100) == {"bos": 5, "eos": 6, "a": 100, "b": 101, "c": 102}


def test_only_the_syntax_with_a_language_part_needs_one() -> None:
    assert LLM_ASR_LID.needs_language
    assert not LLM_ASR.needs_language
    assert Syntax("x", (Language(), *LLM_ASR.parts)).needs_language


@pytest.mark.parametrize(
    ("model_type", "streaming", "text_only", "form"),
    [
        (ModelType.LLM_ASR, True, False, "streaming"),
        (ModelType.LLM_ASR, False, True, "text-only"),
        (ModelType.LLM_ASR_LID, False, True, "text-only"),
        (ModelType.ZERO_SHOT, True, False, "streaming"),
        (ModelType.LLM_ASR, True, True, "streaming text-only"),
    ],
)
def test_a_form_that_does_not_exist_is_refused_by_name(
    model_type: ModelType, streaming: bool, text_only: bool, form: str
) -> None:
    with pytest.raises(SyntaxNotAvailableError) as caught:
        select_syntax(model_type, streaming=streaming, text_only=text_only)
    assert isinstance(caught.value, ConfigError)
    assert caught.value.form == form
    assert model_type.name in str(caught.value)
    assert form in str(caught.value)


def test_the_page_about_prompts_is_current() -> None:
    """If not: python tools/describe_prompts.py > docs/prompts.md"""
    root = Path(__file__).parents[2]
    script = run_path(str(root / "tools" / "describe_prompts.py"))
    assert (root / "docs" / "prompts.md").read_text("utf-8") == script["describe_syntaxes"]()
