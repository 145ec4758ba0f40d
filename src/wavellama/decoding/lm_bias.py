"""What an n-gram model of words says about a text: from a file to a scorer of the search."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Final

from fairseq2.data.tokenizers import Tokenizer

from wavellama.decoding.token_texts import end_token, find_joints, token_texts
from wavellama.errors import ConfigError
from wavellama.search.ngram import NgramScorer, Pieces, WordModel
from wavellama.search.scorers import ScorerFactory, WeightedScorer

WORD_BONUS: Final = 6.0
"""What the language model adds for each word, in nats: about what a word costs in a text that it
knows. Without it, words are left out or run together."""


def lm_scorers(tokenizer: Tokenizer, path: Path, weight: float) -> ScorerFactory:
    """Return what asks a language model.

    :param weight: what its log-probabilities count beside the model's.
    :raises ConfigError: it cannot be loaded, or has no use for the tokenizer.
    """
    model, pieces = load_lm(path), lm_pieces(tokenizer)

    def create(num_rows: int) -> WeightedScorer:
        scorer = NgramScorer(model, pieces, num_rows, WORD_BONUS)
        return WeightedScorer(scorer, weight, is_additive=True)

    return create


def load_lm(path: Path) -> WordModel:
    """Read an n-gram model, in the ARPA format or in kenlm's own.

    :raises ConfigError: kenlm is not installed, or the file is missing or of another kind.
    """
    try:
        kenlm: Any = import_module("kenlm")
    except ImportError:
        raise ConfigError(
            "A language model needs the package kenlm: pip install 'wavellama[lm]'."
        ) from None
    if not path.is_file():
        raise ConfigError(f"There is no language model {path}.")
    config = kenlm.Config()
    config.show_progress, config.arpa_complain = False, kenlm.ARPALoadComplain.NONE
    try:
        return WordModel(kenlm.Model(str(path), config), kenlm.State)
    except (OSError, RuntimeError):
        raise ConfigError(
            f"{path} is not a language model: need an n-gram model in the ARPA format, or in the"
            " binary one of kenlm."
        ) from None


def lm_pieces(tokenizer: Tokenizer) -> Pieces:
    """Return what the tokens of a tokenizer write.

    Words end at spaces; a character of a script without spaces is a word.

    :raises ConfigError: tokens write spaces elsewhere than at their beginning.
    """
    texts = token_texts(tokenizer)
    for text in texts:
        if " " in text[1:]:
            raise ConfigError(
                f"The token {text!r} does not end where a word ends, so that no language model of"
                " words can be asked with this tokenizer."
            )
    return Pieces(texts, find_joints(texts, punctuation=1), end_token(tokenizer))
