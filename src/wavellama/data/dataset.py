"""What every data set offers: its utterances, their audio, and a reader of batches."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence

from fairseq2.data.tokenizers import Tokenizer
from fairseq2.datasets import DataReader, Seq2SeqBatch
from fairseq2.gang import Gangs
from torch import Tensor

from wavellama.data.facts import Names, facts_of, take
from wavellama.data.plan import ReaderOptions
from wavellama.data.reader import create_batch_reader
from wavellama.data.utterance import Utterance
from wavellama.data.words import TOLERANCE_SECS
from wavellama.errors import AudioError, DataError, UnknownNameError
from wavellama.units import samples_to_seconds

_log = logging.getLogger(__name__)


def check_length(waveform: Tensor, utterance: Utterance, source: str) -> Tensor:
    """Return the audio of an utterance, if it is as long as it has to be. (T).

    :param source: what says so, for the error.
    :raises AudioError: it is not.
    """
    length = samples_to_seconds(len(waveform))
    if abs(length - utterance.duration) > TOLERANCE_SECS:
        raise AudioError(
            str(utterance.audio),
            f"the {source} says {utterance.duration:.2f} s, but there are {length:.2f} s.",
        )
    return waveform


class AsrDataset(ABC):
    """Utterances in named splits."""

    @abstractmethod
    def utterances(self, split: str) -> Sequence[Utterance]:
        """Return the utterances of a split.

        :raises UnknownNameError: there is no such split.
        """

    @abstractmethod
    def read_audio(self, utterance: Utterance) -> Tensor:
        """Return the utterance's mono 16 kHz waveform, not normalised. (T).

        :raises AudioError: the audio cannot be read.
        """

    def create_reader(
        self, split: str, tokenizer: Tokenizer, gangs: Gangs, options: ReaderOptions
    ) -> DataReader[Seq2SeqBatch]:
        """Return a reader of the split's batches, sharded over the ranks of ``gangs``.

        :raises UnknownNameError: the split has nothing in one of the languages asked for.
        :raises DataError: no utterance of the split is within the limits of length.
        :raises UnknownLanguageError: the model does not know a language of the split.
        """
        everything = self.utterances(split)
        facts = facts_of(everything)
        num_given = self._count_in(facts.langs, split, options.languages)
        kept = options.find_kept(facts)
        shortest, longest = options.min_audio_secs, options.max_audio_secs
        if not len(kept):
            raise DataError(
                f"The split {split} has no utterance of {shortest:g} to {longest:g} seconds."
            )
        if len(kept) < num_given:
            _log.warning(
                "%d of %d utterances of the split %s are left out: they are not %g to %g seconds"
                " long.",
                num_given - len(kept),
                num_given,
                split,
                shortest,
                longest,
            )
        for lang in facts.langs[kept].used() if options.model_languages else ():
            options.model_languages.row(lang)
        utterances = everything if len(kept) == len(everything) else take(everything, kept)
        return create_batch_reader(self.read_audio, utterances, tokenizer, gangs, options)

    @staticmethod
    def _count_in(langs: Names, split: str, languages: Sequence[str]) -> int:
        """Return how many utterances are in ``languages``; all, if none is named."""
        known = [lang for lang in langs.used() if lang is not None]
        for lang in languages:
            if lang not in known:
                raise UnknownNameError(f"language of the split {split}", lang, sorted(known))
        return int(langs.are_in(languages).sum()) if languages else len(langs.numbers)
