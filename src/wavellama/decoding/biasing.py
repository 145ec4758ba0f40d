"""What steers a search towards words and scripts: from texts and a tokenizer to search objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias
from weakref import WeakKeyDictionary

import regex
import torch
from fairseq2.data.tokenizers import TokenDecoder, Tokenizer

from wavellama.errors import ConfigError
from wavellama.search.biasing import HotwordScorer, HotwordTree, Joints
from wavellama.search.constraints import AllowedTokens, Constraint
from wavellama.search.ngram import NgramScorer, Pieces, WordModel
from wavellama.search.scorers import WeightedScorer
from wavellama.text.scripts import check_script, is_word_by_itself, is_written_in

ScorerFactory: TypeAlias = Callable[[int], WeightedScorer]
"""Creates a scorer for a search of so many rows."""


@dataclass(frozen=True)
class Bias:
    """What the search is to keep to and to prefer, beside what the model says."""

    constraints: tuple[Constraint, ...] = ()
    """Which tokens may follow."""

    scorer_factories: tuple[ScorerFactory, ...] = ()
    """What is added to the model's scores."""

    def constrained(self, constraints: Iterable[Constraint]) -> Bias:
        """Return the same with more constraints."""
        return replace(self, constraints=(*self.constraints, *constraints))

    def create_scorers(self, num_rows: int) -> list[WeightedScorer]:
        """Return scorers for a search of so many rows."""
        return [create(num_rows) for create in self.scorer_factories]


NO_BIAS: Final = Bias()

WORD_BONUS: Final = 6.0
"""What the language model adds for each word, in nats: about what a word costs in a text that it
knows. Without it, words are left out or run together."""


class BiasOptions(Protocol):
    """What can be asked for; ``pipeline.options.TranscribeOptions`` has it."""

    @property
    def hotwords(self) -> Sequence[str]:
        """Words and phrases that are likely to be said."""
        ...

    @property
    def hotword_weight(self) -> float:
        """What each token of a hotword adds to a hypothesis's log-probability."""
        ...

    @property
    def lm(self) -> Path | None:
        """An n-gram model of words."""
        ...

    @property
    def lm_weight(self) -> float:
        """What its log-probabilities count beside the model's."""
        ...

    @property
    def script(self) -> str | None:
        """The only script that may be written."""
        ...


def create_bias(tokenizer: Tokenizer, options: BiasOptions) -> Bias:
    """Return what the options ask for; what has no weight is left out.

    :param tokenizer: that of the model.
    :raises ConfigError: the tokenizer cannot write a hotword or the script; the language model
        cannot be loaded.
    """
    constraints, factories = list[Constraint](), list[ScorerFactory]()
    if options.script is not None:
        constraints.append(script_constraint(tokenizer, options.script))
    if options.hotwords and options.hotword_weight > 0.0:
        tree = hotword_tree(tokenizer, options.hotwords)
        factories.append(partial(_create_hotword_scorer, tree, options.hotword_weight))
    if options.lm is not None and options.lm_weight > 0.0:
        model, pieces = load_lm(options.lm), lm_pieces(tokenizer)
        factories.append(partial(_create_ngram_scorer, model, pieces, options.lm_weight))
    return Bias(tuple(constraints), tuple(factories))


def _create_hotword_scorer(tree: HotwordTree, weight: float, num_rows: int) -> WeightedScorer:
    return WeightedScorer(HotwordScorer(tree, num_rows), weight, is_additive=True)


def _create_ngram_scorer(
    model: WordModel, pieces: Pieces, weight: float, num_rows: int
) -> WeightedScorer:
    scorer = NgramScorer(model, pieces, num_rows, WORD_BONUS)
    return WeightedScorer(scorer, weight, is_additive=True)


# What tokens write

_texts: Final[WeakKeyDictionary[Tokenizer, tuple[str, ...]]] = WeakKeyDictionary()

_NUM_BYTES: Final = 256


def token_texts(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return what each token adds to a text, spaces included.

    It is nothing for control tokens, for the unknown token, and for bytes of characters that are
    not in the vocabulary. The texts of a tokenizer are read once.
    """
    if tokenizer not in _texts:
        _texts[tokenizer] = tuple(_read_texts(tokenizer))
    return _texts[tokenizer]


def _read_texts(tokenizer: Tokenizer) -> list[str]:
    decode, size = tokenizer.create_decoder(), tokenizer.vocab_info.size
    anchor, begin = _find_anchor(decode, size)
    # After another token: decoders take away the space at a text's beginning.
    texts = [_decode(decode, anchor, token)[len(begin) :] for token in range(size)]
    if tokenizer.vocab_info.unk_idx is not None:
        texts[tokenizer.vocab_info.unk_idx] = ""
    if "\0" in texts:  # sentencepiece has all bytes in a row
        first = texts.index("\0")
        texts[first : first + _NUM_BYTES] = [""] * _NUM_BYTES
    return ["" if "\ufffd" in text else text for text in texts]


def _find_anchor(decode: TokenDecoder, size: int) -> tuple[int, str]:
    """Return a token that writes letters, and what it writes at a text's beginning."""
    texts = ((token, _decode(decode, token)) for token in range(size))
    return next(((token, text) for token, text in texts if text.isalpha()), (0, ""))


def _decode(decode: TokenDecoder, *tokens: int) -> str:
    return str(decode(torch.tensor(tokens)))


# Scripts


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
    return AllowedTokens(allowed, _eos_idx(tokenizer))


def _eos_idx(tokenizer: Tokenizer) -> int:
    eos_idx = tokenizer.vocab_info.eos_idx
    if eos_idx is None:
        raise ConfigError("The tokenizer has no token for the end of a text.")
    return eos_idx


# Hotwords


def hotword_tree(tokenizer: Tokenizer, hotwords: Iterable[str]) -> HotwordTree:
    """Return the tree of all spellings of words and phrases: as they are given, and lower-cased.

    :raises ConfigError: the tokenizer cannot write one of them.
    """
    speller = _Speller(tokenizer)
    spellings = [tokens for hotword in hotwords for tokens in speller.spell(hotword)]
    return HotwordTree(spellings, _joints(token_texts(tokenizer), punctuation=0))


class _Speller:
    """Writes hotwords in tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._encode = tokenizer.create_raw_encoder()
        self._texts = token_texts(tokenizer)
        self._anchor = next((text.strip() for text in self._texts if text.strip().isalpha()), "")

    def spell(self, hotword: str) -> list[tuple[int, ...]]:
        """Return all spellings, at the beginning of a text and within it.

        :raises ConfigError: there is none.
        """
        hotword = " ".join(hotword.split())
        if not hotword:
            raise ConfigError("A hotword is empty.")
        forms = dict.fromkeys([hotword, hotword.lower()])
        spelled = [tokens for form in forms for tokens in self._spell_form(form)]
        if not spelled:
            unknown = [char for char in dict.fromkeys(hotword) if self._is_unknown(char)]
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

    def _is_unknown(self, char: str) -> bool:
        return not char.isspace() and not self._spell_form(char)


_PREFIXED_VOWEL: Final = regex.compile(r"\p{LOE}")
"""Thai and Lao vowels that are written before their consonant."""

_MARK: Final = regex.compile(r"[\p{M}\u200c\u200d]")
"""What always goes on with the character before it, joiners included."""

_WORD: Final = regex.compile(r"[\p{L}\p{M}\p{N}\u200c\u200d_]")


def _joints(texts: Sequence[str], punctuation: int) -> Joints:
    """Return where words end, by the first and last characters of tokens.

    :param punctuation: 1 if it belongs to a word, 0 if a word ends before and after it.
    """
    begins = [2 if _MARK.match(text) else _number(text[:1], punctuation) for text in texts]
    ends = [
        2 if _PREFIXED_VOWEL.match(text[-1:]) else _number(text[-1:], punctuation) for text in texts
    ]
    return Joints(begins, ends)


def _number(char: str, punctuation: int) -> int:
    """Return 1 for a character that belongs to a word together with those beside it, else 0."""
    if not char or char.isspace() or is_word_by_itself(char):
        return 0
    return 1 if _WORD.match(char) else punctuation


# Language models


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
    return Pieces(texts, _joints(texts, punctuation=1), _eos_idx(tokenizer))
