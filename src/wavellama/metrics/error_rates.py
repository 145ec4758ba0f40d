"""Word and character error rates over a corpus, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypedDict

import jiwer
import numpy as np

from wavellama.text.words import split_words

NUM_RESAMPLES: Final = 1000


@dataclass(frozen=True)
class Edits:
    """The edits of one utterance: substitutions, deletions and insertions."""

    char_edits: int
    num_chars: int
    word_edits: int
    num_words: int
    audio_secs: float = 0.0


class Scores(TypedDict):
    """Error rates as fractions; an interval holds 95 % of the resampled corpora."""

    cer: float
    wer: float
    cer_ci95: list[float]
    wer_ci95: list[float]
    num_utterances: int
    audio_secs: float


def count_edits(
    reference: str, hypothesis: str, audio_secs: float = 0.0, lang: str | None = None
) -> Edits:
    """Count the edits that turn ``reference`` into ``hypothesis`` (jiwer's alignment).

    An empty reference has as many edits as the hypothesis has characters and words.

    :param lang: the language code; its script says what a word is (``text.words.split_words``).
    """
    said, heard = (
        " ".join(word.text for word in split_words(text, lang)) for text in (reference, hypothesis)
    )
    if not said:
        return Edits(len(hypothesis), 0, len(heard.split()), 0, audio_secs)
    chars = jiwer.process_characters(reference, hypothesis)
    words = jiwer.process_words(said, heard)
    return Edits(_edits(chars), _length(chars), _edits(words), _length(words), audio_secs)


def is_scorable(edits: Sequence[Edits]) -> bool:
    """Return whether any reference has text, without which there is no rate."""
    return any(edit.num_chars for edit in edits)


def score(edits: Sequence[Edits], seed: int = 0) -> Scores:
    """Return the error rates of a corpus: all edits over all reference characters or words."""
    return _scores(edits, _rates(_table(edits).sum(0)[None])[0], _resample(edits, seed))


def macro_score(languages: Sequence[Sequence[Edits]], seed: int = 0) -> Scores:
    """Return the mean of the languages' rates, each language counting the same.

    For the interval every language is resampled by itself, with draws of its own.
    """
    every = [edit for edits in languages for edit in edits]
    rates = np.mean([_rates(_table(edits).sum(0)[None])[0] for edits in languages], axis=0)
    resampled = np.mean(
        [_resample(edits, (seed, place)) for place, edits in enumerate(languages)], axis=0
    )
    return _scores(every, rates, resampled)


def _scores(edits: Sequence[Edits], rates: np.ndarray, resampled: np.ndarray) -> Scores:
    intervals = np.percentile(resampled, [2.5, 97.5], axis=0)
    return Scores(
        cer=float(rates[0]),
        wer=float(rates[1]),
        cer_ci95=intervals[:, 0].tolist(),
        wer_ci95=intervals[:, 1].tolist(),
        num_utterances=len(edits),
        audio_secs=float(sum(e.audio_secs for e in edits)),
    )


def _resample(edits: Sequence[Edits], seed: int | tuple[int, ...]) -> np.ndarray:
    """Return the rates of corpora drawn with replacement. (NUM_RESAMPLES, 2)."""
    table = _table(edits)
    draws = np.random.default_rng(seed).integers(0, len(edits), (NUM_RESAMPLES, len(edits)))
    return _rates(np.stack([table[draw].sum(0) for draw in draws]))


def _table(edits: Sequence[Edits]) -> np.ndarray:
    """Return one row of counts per utterance. (utterances, 4)."""
    rows = [(e.char_edits, e.num_chars, e.word_edits, e.num_words) for e in edits]
    return np.array(rows, dtype=np.float64)


def _rates(sums: np.ndarray) -> np.ndarray:
    """Return (corpora, 2) rates from (corpora, 4) sums; without any reference, edits / 1."""
    rates: np.ndarray = sums[:, [0, 2]] / np.maximum(sums[:, [1, 3]], 1)
    return rates


def _edits(output: jiwer.CharacterOutput | jiwer.WordOutput) -> int:
    return int(output.substitutions + output.deletions + output.insertions)


def _length(output: jiwer.CharacterOutput | jiwer.WordOutput) -> int:
    return int(output.hits + output.substitutions + output.deletions)
