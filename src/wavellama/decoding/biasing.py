"""What steers a search towards words and scripts, all of it together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from fairseq2.data.tokenizers import Tokenizer

from wavellama.decoding.token_texts import end_token, token_texts
from wavellama.errors import ConfigError
from wavellama.search.constraints import AllowedTokens, Constraint
from wavellama.search.scorers import ScorerFactory
from wavellama.text.scripts import check_script, is_written_in


@dataclass(frozen=True)
class Bias:
    """What the search is to keep to and to prefer, beside what the model says."""

    constraints: tuple[Constraint, ...] = ()
    scorer_factories: tuple[ScorerFactory, ...] = ()

    def constrained(self, constraints: Iterable[Constraint]) -> Bias:
        """Return the same with more constraints."""
        return replace(self, constraints=(*self.constraints, *constraints))


NO_BIAS: Final = Bias()


def script_constraint(tokenizer: Tokenizer, script: str) -> Constraint:
    """Return the constraint that all letters and marks are of one script, such as ``Latn``.

    :raises ConfigError: the script is not known, or the tokenizer has no letter of it.
    """
    check_script(script)
    texts = token_texts(tokenizer)
    allowed = [i for i, text in enumerate(texts) if text and is_written_in(text, script)]
    if not any(char.isalpha() for i in allowed for char in texts[i]):
        raise ConfigError(f"The model's tokenizer has no letters of the script {script!r}.")
    return AllowedTokens(allowed, end_token(tokenizer))
