"""The tokens of a model, each under a name of its own, as other programs list them."""

from __future__ import annotations

from typing import Final

from fairseq2.data.tokenizers import Tokenizer

from wavellama.decoding.token_texts import token_texts
from wavellama.errors import ConfigError

SPECIAL: Final = ("<s>", "<pad>", "</s>", "<unk>")
"""Beginning (and blank), padding, end and unknown: tokens 0 to 3, in every model of the family."""


def read_vocabulary(tokenizer: Tokenizer, size: int) -> list[str]:
    """Return the text of each token, spaces as such; those that write nothing are ``<unused_N>``.

    :param size: how many tokens the model writes.
    :raises ConfigError: the tokenizer has another number, or special tokens at other places.
    """
    info, texts = tokenizer.vocab_info, list(token_texts(tokenizer))
    found = (info.size, info.bos_idx, info.pad_idx, info.eos_idx, info.unk_idx)
    if found != (size, 0, 1, 2, 3):
        raise ConfigError(
            f"The tokenizer has {found[0]} tokens, with beginning, padding, end and unknown at"
            f" {found[1:]}; the model has {size}, with these at (0, 1, 2, 3)."
        )
    texts[: len(SPECIAL)] = SPECIAL
    seen: set[str] = set()
    for token, text in enumerate(texts):
        texts[token] = f"<unused_{token}>" if not text or text in seen else text
        seen.add(text)
    return texts
