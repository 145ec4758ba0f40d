"""The page about prompts (``docs/prompts.md``), written from the declarations.

``python tools/describe_prompts.py > docs/prompts.md`` makes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from wavellama.prompt.parts import Audio, Items, Language, Mark, Part, Repeat, Simple, Text, Token
from wavellama.prompt.syntax import Syntax
from wavellama.prompt.syntaxes import SYNTAXES, ZERO_SHOT

_HEAD: Final = """# Prompts

What the decoder reads, for each kind of model. This page is made from the declarations in
`src/wavellama/prompt/syntaxes.py` (`python tools/describe_prompts.py > docs/prompts.md`).

A `*` marks what the loss covers: the output at the position before it is trained to predict it. V
is `special_token_base`, normally the size of the target vocabulary; special tokens are further rows
of the text embedding. Inference reads the prompt, and goes on with the text.
"""

_ITEMS: Final = {
    Items.EXAMPLES: "for each context example",
    Items.SEGMENTS: "for each segment",
    Items.PAST: "for each of the last segments",
}


def describe_syntaxes() -> str:
    """Return the page."""
    sections = []
    for (model_type, streaming, text_only), syntax in SYNTAXES.items():
        options = [f"model_type: {model_type.name}"]
        options += ["streaming_config.is_streaming: true"] if streaming else []
        options += ["context_text_only: true"] if text_only else []
        sections.append(_section(syntax, ", ".join(f"`{option}`" for option in options)))
    other = "`model_type: ZERO_SHOT`, `zero_shot_swapped_bos_eos: false`"
    sections.append(_section(ZERO_SHOT, other))
    return "\n".join([_HEAD, *sections])


def _section(syntax: Syntax, options: str) -> str:
    tokens = [f"{name} = V + {i}" for i, name in enumerate(syntax.special_tokens)]
    lines = [
        f"## {syntax.name}",
        "",
        f"Configuration: {options}.",
        "",
        f"* Sequence: {_sequence(syntax.parts)}",
        f"* Prompt of inference: {_sequence(syntax.prompt)}",
        f"* Special tokens: {', '.join(tokens) or 'none'}",
        f"* A batch holds: {', '.join(_inputs(syntax))}",
        "",
    ]
    return "\n".join(lines)


def _inputs(syntax: Syntax) -> Iterator[str]:
    yield "audio"
    if syntax.needs_language:
        yield "languages (`lang`; may be left out in inference)"
    if syntax.needs_example_text:
        yield "the texts of the examples (`context_text`)"
    if syntax.needs_example_audio:
        yield "their audio (`context_audio`)"
    yield "text, in training"
    if syntax.is_streaming:
        yield "words and their durations, in training (`text_words_merged`, `word_duration`)"


def _sequence(parts: Sequence[Part]) -> str:
    return ", ".join(_part(part) for part in parts)


def _part(part: Part) -> str:
    if isinstance(part, Repeat):
        return f"{_ITEMS[part.items]}: [{', '.join(_simple(inner) for inner in part.parts)}]"
    return _simple(part)


def _simple(part: Simple) -> str:
    match part:
        case Audio():
            return "audio"
        case Language():
            return "language"
        case Mark():
            return f"{part.last} or {part.regular}"
        case Text():
            return "text*" if part.loss else "text"
        case Token():
            return _token(part)


def _token(part: Token) -> str:
    name = part.name.upper() if part.name in ("bos", "eos") else part.name
    covered = f"{name}*" if part.loss else name
    return covered if part.reads is None else f"{covered} (reading {part.reads.upper()})"


if __name__ == "__main__":
    print(describe_syntaxes(), end="")
