"""What every data set offers: its utterances, their audio, and a reader of batches."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence

from fairseq2.data.tokenizers import Tokenizer
from fairseq2.datasets import DataReader, Seq2SeqBatch
from fairseq2.gang import Gangs
from torch import Tensor

from wavellama.data.plan import ReaderOptions
from wavellama.data.reader import create_batch_reader
from wavellama.data.utterance import Utterance
from wavellama.errors import DataError, UnknownNameError

_log = logging.getLogger(__name__)


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
        given = self._in_languages(split, options.languages)
        shortest, longest = options.min_audio_secs, options.max_audio_secs
        utterances = list(filter(options.keeps, given))
        if not utterances:
            raise DataError(
                f"The split {split} has no utterance of {shortest:g} to {longest:g} seconds."
            )
        if len(utterances) < len(given):
            _log.warning(
                "%d of %d utterances of the split %s are left out: they are not %g to %g seconds"
                " long.",
                len(given) - len(utterances),
                len(given),
                split,
                shortest,
                longest,
            )
        for lang in {u.lang for u in utterances} if options.model_languages else ():
            options.model_languages.row(lang)
        return create_batch_reader(self.read_audio, utterances, tokenizer, gangs, options)

    def _in_languages(self, split: str, languages: Sequence[str]) -> Sequence[Utterance]:
        """Return the split's utterances in ``languages``; in all, if none is named."""
        utterances = self.utterances(split)
        if not languages:
            return utterances
        known = {u.lang for u in utterances if u.lang is not None}
        for lang in languages:
            if lang not in known:
                raise UnknownNameError(f"language of the split {split}", lang, sorted(known))
        return [u for u in utterances if u.lang in languages]
