"""A tokenizer of single characters for a data set, with the ids of the published ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Final

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from wavellama.errors import DataError
from wavellama.files import replacing, write_text

NUM_SPECIAL: Final = 4
"""Beginning, padding, end and unknown have the ids 0 to 3, as in the model family."""

_SPECIAL: Final = re.compile(r"(?<=<)(?=(?:unk|s|/s|pad)>)")
"""Where to cut a text that spells a special token, which training would pass over whole."""

_LEAST_LIMIT: Final = 10
_CARD: Final = """\
# One token per character; made by `wavellama data tokenizer`.
name: {name}
tokenizer_family: char_tokenizer
tokenizer: {name}.model
"""


def train_tokenizer(texts: Sequence[str], folder: Path, name: str) -> int:
    """Write ``NAME.model`` and its card ``NAME.yaml``; return the size of the vocabulary.

    Every character of ``texts`` gets a token, as it stands there (no normalisation).

    :raises DataError: there is no text.
    """
    texts = sorted({text for text in texts if text.strip()})
    if not texts:
        raise DataError("A tokenizer needs text, but the data set has none.")
    model = BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=(part for text in texts for part in _SPECIAL.split(text)),
        model_writer=model,
        model_type="char",
        vocab_size=len(set("".join(texts))) + NUM_SPECIAL + 1,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        max_sentence_length=max(_LEAST_LIMIT, *(len(text.encode()) + 1 for text in texts)),
        minloglevel=2,
        bos_id=0,
        pad_id=1,
        eos_id=2,
        unk_id=3,
    )
    with replacing(folder / f"{name}.model") as part:
        part.write_bytes(model.getvalue())
    write_text(folder / f"{name}.yaml", _CARD.format(name=name))
    return int(SentencePieceProcessor(model_proto=model.getvalue()).vocab_size())
