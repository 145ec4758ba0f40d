"""The declared syntaxes, and the one function that chooses among them (spec: section 3)."""

from __future__ import annotations

from enum import Enum
from typing import Final

from wavellama.errors import SyntaxNotAvailableError
from wavellama.prompt.parts import BOS, EOS, Audio, Language, Text, Token
from wavellama.prompt.syntax import Syntax


class ModelType(Enum):
    """The kinds of model; each selects a syntax."""

    LLM_ASR = 1
    """Audio to text, nothing else."""

    LLM_ASR_LID = 2
    """Audio to text; the language may be given."""

    ZERO_SHOT = 3
    """Audio to text after examples of the language."""


LLM_ASR: Final = Syntax("LLM_ASR", (Audio(), Token(BOS), Text(), Token(EOS, loss=True)))

LLM_ASR_LID: Final = Syntax(
    "LLM_ASR_LID",
    (Audio(), Token("lid"), Language(), Token(BOS), Text(), Token(EOS, loss=True)),
    special_tokens=("lid",),
)

_PLAIN: Final = {ModelType.LLM_ASR: LLM_ASR, ModelType.LLM_ASR_LID: LLM_ASR_LID}


def select_syntax(
    model_type: ModelType, *, streaming: bool = False, text_only: bool = False
) -> Syntax:
    """Return the syntax of a kind of model.

    :param streaming: the form that reads segment after segment.
    :param text_only: the form whose examples are text without audio.
    :raises SyntaxNotAvailableError: there is no such form of this kind of model.
    """
    forms = [name for name, on in (("streaming", streaming), ("text-only", text_only)) if on]
    if forms or model_type not in _PLAIN:
        raise SyntaxNotAvailableError(model_type.name, " ".join(forms) or "plain")
    return _PLAIN[model_type]
