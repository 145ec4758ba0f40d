"""``align``: when each word of a known text is spoken.

Shapes: T samples, S frames.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairseq2.data.tokenizers import Tokenizer
from torch import Tensor
from torch.nn import Module

from wavellama.alignment.emissions import CtcEmitter, check_model, vocab_size
from wavellama.alignment.spans import Span, align_tokens
from wavellama.alignment.spelling import Place, Speller
from wavellama.audio.load import AudioInput, load_audio, normalize
from wavellama.data.words import AlignedWord
from wavellama.errors import ConfigError
from wavellama.model.loss import CTC_BLANK
from wavellama.text.languages import check_code
from wavellama.text.words import split_words
from wavellama.units import samples_to_seconds


def align(
    model: Module, tokenizer: Tokenizer, audio: AudioInput, text: str, lang: str | None = None
) -> list[AlignedWord]:
    """Return the words of ``text`` with the times at which ``audio`` holds them.

    :param model: a Wav2Vec2LlamaModel with a CTC head, or a Wav2Vec2AsrModel.
    :param tokenizer: the model's tokenizer.
    :param audio: a path, encoded bytes, or a mapping with ``waveform`` and ``sample_rate``; of any
        length, since the encoder reads it in windows.
    :param text: what is said, in any case and punctuation; other speech may precede and follow.
    :param lang: the language code; it tells whether words are separated by spaces.
    :returns: the words in order, none beginning before the one before it has ended, with times in
        seconds from the beginning of the audio.
    :raises AlignmentError: the text is empty, has more tokens than the audio has frames, or no
        character that the tokenizer knows.
    :raises AudioError: the audio cannot be read.
    :raises ConfigError: the model cannot align, or the tokenizer is not its own.
    :raises UnknownLanguageError: the language is not given by a code.
    """
    return Aligner(model, tokenizer).align(audio, text, lang)


class Aligner:
    """Aligns many texts with one model (see ``align``)."""

    def __init__(self, model: Module, tokenizer: Tokenizer) -> None:
        """:raises ConfigError: the model cannot align, or the tokenizer is not its own."""
        size, known = vocab_size(check_model(model)), tokenizer.vocab_info.size
        if size != known:
            raise ConfigError(
                f"The model has a vocabulary of {size} tokens, but the tokenizer has {known}."
                " Choose the model's own tokenizer."
            )
        self._emitter = CtcEmitter(model)
        self._speller = Speller(tokenizer)

    def align(
        self, audio: AudioInput | Tensor, text: str, lang: str | None = None
    ) -> list[AlignedWord]:
        """Return the words of ``text`` with the times at which ``audio`` holds them.

        :param audio: as for ``align``, or a waveform: mono, 16 kHz, not normalised. *Shape:* (T).
        """
        check_code(lang)
        words = split_words(text, lang)
        spelling = self._speller.spell(words)
        waveform = audio if isinstance(audio, Tensor) else load_audio(audio)
        columns = [CTC_BLANK, *sorted(set(spelling.tokens))]
        column_of = {token: column for column, token in enumerate(columns)}
        heard = self._emitter.compute(normalize(waveform), columns)
        tokens = [column_of[token] for token in spelling.tokens]
        spans = align_tokens(heard.log_probs, tokens, heard.best)
        duration = samples_to_seconds(len(waveform))
        pairs = zip(words, spelling.words, strict=True)
        found = [self._locate(word.text, places, spans, duration) for word, places in pairs]
        return fill_gaps(found, duration)

    def _locate(
        self, text: str, places: tuple[Place, Place] | None, spans: Sequence[Span], duration: float
    ) -> AlignedWord | str:
        """Return a word with its time within the audio; its text alone where that is not known."""
        if places is None:
            return text
        first, last = places[0].token_idx, places[1].token_idx
        start, end = (
            min(max(self._emitter.grid.seconds(_frame(place, spans)), 0.0), duration)
            for place in places
        )
        frames = [(span.end - span.start, span.score) for span in spans[first : last + 1]]
        mean = sum(count * score for count, score in frames) / sum(count for count, _ in frames)
        return AlignedWord(text, start, end, mean)


def fill_gaps(words: Sequence[AlignedWord | str], duration: float) -> list[AlignedWord]:
    """Give texts without a time the gap between their neighbours, in equal parts, and score 0.

    :param duration: where the gap after the last word ends.
    """
    filled: list[AlignedWord] = []
    for i, word in enumerate(words):
        if isinstance(word, AlignedWord):
            filled.append(word)
            continue
        starts = ((k, w.start) for k, w in enumerate(words) if k > i and isinstance(w, AlignedWord))
        after, limit = next(starts, (len(words), duration))
        start = filled[-1].end if filled else 0.0
        filled.append(AlignedWord(word, start, start + (limit - start) / (after - i), 0.0))
    return filled


def _frame(place: Place, spans: Sequence[Span]) -> float:
    """Return the frame at a place within a token; its fraction lies within the frame."""
    span = spans[place.token_idx]
    return span.start + place.share * (span.end - span.start)
