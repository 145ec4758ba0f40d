"""Whether a tokenizer can write the texts of a data set."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from fairseq2.data.tokenizers import Tokenizer

from wavellama.data.utterance import Utterance
from wavellama.errors import DataError

NUM_SHOWN: Final = 10
"""The most frequent characters that a message names."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Coverage:
    """Which characters of texts a tokenizer has no token for."""

    num_chars: int
    """All characters but white space."""

    unwritable: Counter[str]
    """How often each of those occurs that become the unknown token."""

    @property
    def share(self) -> float:
        """The share of characters that cannot be written."""
        return self.unwritable.total() / max(self.num_chars, 1)

    def __str__(self) -> str:
        """Say how many and which characters cannot be written."""
        shown = " ".join(char for char, _ in self.unwritable.most_common(NUM_SHOWN))
        rest = ", ..." if len(self.unwritable) > NUM_SHOWN else ""
        return (
            f"{self.unwritable.total():,} of {self.num_chars:,} characters ({self.share:.1%}) have"
            f" no token: {shown}{rest}"
        )


def measure_coverage(texts: Iterable[str], tokenizer: Tokenizer) -> Coverage:
    """Count the characters that the tokenizer turns into its unknown token."""
    counts = Counter(char for text in texts for char in text if not char.isspace())
    encode, unk_idx = tokenizer.create_encoder(), tokenizer.vocab_info.unk_idx
    unwritable = {char: n for char, n in counts.items() if unk_idx in encode(char).tolist()}
    return Coverage(counts.total(), Counter(unwritable))


def check_texts(utterances: Iterable[Utterance], tokenizer: Tokenizer, max_share: float) -> None:
    """Warn of characters that a model could not learn to write, before it is trained.

    :param max_share: the share of characters up to which a warning is enough.
    :raises DataError: more than that cannot be written.
    """
    coverage = measure_coverage((utterance.text for utterance in utterances), tokenizer)
    if coverage.share > max_share:
        raise DataError(
            f"The tokenizer does not fit the texts: {coverage}. Make one of them (`wavellama data"
            " tokenizer`), or raise `dataset.max_unwritable_share`."
        )
    if coverage.unwritable:
        _log.warning("In the texts to train on, %s", coverage)
