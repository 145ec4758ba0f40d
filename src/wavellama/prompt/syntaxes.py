"""The declared syntaxes, and the one function that chooses among them (spec: section 3)."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import Final

from wavellama.errors import ConfigError, SyntaxNotAvailableError
from wavellama.plugins import load_object
from wavellama.prompt.parts import BOS, EOS, Audio, Items, Language, Mark, Repeat, Text, Token
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

_CONTEXT: Final = ("ctx_start", "ctx_end", "ex_start", "ex_end", "ctx_bos", "ctx_eos")

_EXAMPLE: Final = Repeat(
    Items.EXAMPLES,
    (
        Token("ex_start"),
        Audio(),
        Token("ctx_bos"),
        Text(loss=False),
        Token("ctx_eos"),
        Token("ex_end"),
    ),
)

ZERO_SHOT: Final = Syntax(
    "ZERO_SHOT",
    (
        Token("ctx_start"),
        _EXAMPLE,
        Token("ctx_end"),
        *LLM_ASR.parts,
    ),
    special_tokens=_CONTEXT,
)

ZERO_SHOT_SWAPPED: Final = replace(
    ZERO_SHOT,
    name="ZERO_SHOT (swapped)",
    parts=(*ZERO_SHOT.parts[:-3], Token(EOS), Text(), Token(EOS, loss=True, reads=BOS)),
)
"""As the published model was trained: EOS is read before the text and BOS after it."""

ZERO_SHOT_TEXT_ONLY: Final = Syntax(
    "ZERO_SHOT (text only)",
    (
        Token("ctx_start"),
        Repeat(Items.EXAMPLES, (Token("ex_start"), Text(loss=False), Token("ex_end"))),
        Token("ctx_end"),
        *LLM_ASR.parts,
    ),
    special_tokens=_CONTEXT,
)

STREAMING: Final = Syntax(
    "streaming",
    (
        Language(),
        Token("lid"),
        Repeat(
            Items.SEGMENTS,
            (Audio(), Mark("last", "regular"), Token(BOS), Text(), Token(EOS, loss=True)),
        ),
    ),
    special_tokens=("lid", "last", "regular"),
)

SYNTAXES: Final = {
    (ModelType.LLM_ASR, False, False): LLM_ASR,
    (ModelType.LLM_ASR_LID, False, False): LLM_ASR_LID,
    (ModelType.LLM_ASR_LID, True, False): STREAMING,
    (ModelType.ZERO_SHOT, False, False): ZERO_SHOT_SWAPPED,
    (ModelType.ZERO_SHOT, False, True): ZERO_SHOT_TEXT_ONLY,
}
"""The syntax of each (model type, streaming, text-only) that exists."""


def select_syntax(
    model_type: ModelType,
    *,
    streaming: bool = False,
    text_only: bool = False,
    swapped_bos_eos: bool = True,
) -> Syntax:
    """Return the syntax of a kind of model.

    :param text_only: the form whose examples are text without audio.
    :param swapped_bos_eos: whether ZERO_SHOT with audio reads EOS before the text and BOS after
        it, as the published model does.
    :raises SyntaxNotAvailableError: there is no such form of this kind of model.
    """
    syntax = SYNTAXES.get((model_type, streaming, text_only))
    if syntax is None:
        forms = [name for name, on in (("streaming", streaming), ("text-only", text_only)) if on]
        raise SyntaxNotAvailableError(model_type.name, " ".join(forms) or "plain")
    return ZERO_SHOT if syntax is ZERO_SHOT_SWAPPED and not swapped_bos_eos else syntax


def load_syntax(target: str) -> Syntax:
    """Return the syntax that a module declares.

    :param target: ``module:NAME``.
    :raises ConfigError: there is no such module or name, or it is no syntax.
    """
    syntax = load_object("syntax", target, target)
    if isinstance(syntax, Syntax):
        return syntax
    raise ConfigError(
        f"`syntax` is {target}, which is a {type(syntax).__name__}; name a `Syntax` as"
        " `module:NAME`."
    )
