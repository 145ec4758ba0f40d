"""What makes words and phrases likelier: from texts to a scorer of the search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fairseq2.data.tokenizers import Tokenizer

from wavellama.decoding.token_texts import find_joints, token_texts
from wavellama.errors import ConfigError
from wavellama.search.biasing import HotwordScorer, HotwordTree
from wavellama.search.scorers import ScorerFactory, WeightedScorer


def hotword_scorers(tokenizer: Tokenizer, hotwords: Iterable[str], weight: float) -> ScorerFactory:
    """Return what scores hotwords.

    :param weight: what each of their tokens adds to a hypothesis.
    :raises ConfigError: the tokenizer cannot write one of them.
    """
    tree = hotword_tree(tokenizer, hotwords)
    return lambda num_rows: WeightedScorer(HotwordScorer(tree, num_rows), weight, is_additive=True)


def hotword_tree(tokenizer: Tokenizer, hotwords: Iterable[str]) -> HotwordTree:
    """Return the tree of all spellings of words and phrases: as they are given, and lower-cased.

    :raises ConfigError: the tokenizer cannot write one of them.
    """
    speller = _Speller(tokenizer)
    spellings = [tokens for hotword in hotwords for tokens in speller.spell(hotword)]
    return HotwordTree(spellings, find_joints(token_texts(tokenizer), punctuation=0))


class _Speller:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._encode = tokenizer.create_raw_encoder()
        self._texts = token_texts(tokenizer)
        self._anchor = next((text.strip() for text in self._texts if text.strip().isalpha()), "")

    def spell(self, hotword: str) -> list[tuple[int, ...]]:
        """Return all spellings, at the beginning of a text and within it."""
        hotword = " ".join(hotword.split())
        if not hotword:
            raise ConfigError("A hotword is empty.")
        forms = dict.fromkeys([hotword, hotword.lower()])
        spelled = [tokens for form in forms for tokens in self._spell_form(form)]
        if not spelled:
            chars = dict.fromkeys(hotword.replace(" ", ""))
            unknown = [char for char in chars if not self._spell_form(char)]
            raise ConfigError(
                f"The hotword {hotword!r} cannot be written: the model's tokenizer does not know"
                f" {' '.join(unknown)}."
            )
        return list(dict.fromkeys(spelled))

    def _spell_form(self, form: str) -> list[tuple[int, ...]]:
        before = self._encode(self._anchor).tolist()
        within = self._encode(f"{self._anchor} {form}").tolist()[len(before) :]
        spellings = [self._strip(tokens) for tokens in (self._encode(form).tolist(), within)]
        return [tokens for tokens in spellings if tokens and all(self._texts[i] for i in tokens)]

    def _strip(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """Return the tokens without those at both ends that are spaces alone."""
        places = [i for i, token in enumerate(tokens) if not self._texts[token].isspace()]
        return tuple(tokens[places[0] : places[-1] + 1]) if places else ()
