"""The constraint that a text is written in one script."""

from __future__ import annotations

from fairseq2.data.tokenizers import Tokenizer

from wavellama.decoding.token_texts import end_token, token_texts
from wavellama.errors import ConfigError
from wavellama.search.constraints import AllowedTokens, Constraint
from wavellama.text.scripts import check_script, is_written_in


def script_constraint(tokenizer: Tokenizer, script: str) -> Constraint:
    """Return the constraint that all letters and marks are of one script.

    :param script: an ISO 15924 code such as ``Latn``.
    :raises ConfigError: the script is not known, or the tokenizer has no letter of it.
    """
    check_script(script)
    texts = token_texts(tokenizer)
    allowed = [i for i, text in enumerate(texts) if text and is_written_in(text, script)]
    if not any(char.isalpha() for i in allowed for char in texts[i]):
        raise ConfigError(f"The model's tokenizer has no letters of the script {script!r}.")
    return AllowedTokens(allowed, end_token(tokenizer))
