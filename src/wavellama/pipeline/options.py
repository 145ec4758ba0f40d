"""How audio is transcribed: the same options for Python, the command line and recipes.

The command line reads the declarations, so nothing here imports torch beforehand.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from wavellama.errors import OptionError
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.options import declared, find_faults, option, refuse
from wavellama.text.languages import check_code
from wavellama.text.scripts import check_script

if TYPE_CHECKING:
    from wavellama.audio.tracks import Selection

Normalization: TypeAlias = Literal["clip", "causal"]

DEFAULT_MODEL: Final = "wavellama_small"
"""The card of the model that ships with the package, for those who name none."""

MAX_UPDATE_SECS: Final = 3600.0
"""The longest time between two tentative texts."""


@dataclass(frozen=True, kw_only=True)
class TranscribeOptions:
    """All that can be chosen; what does not fit the model is an error when transcription starts."""

    lang: str | None = option(
        None, "language", "the language that is spoken: eng_Latn, ...", metavar="CODE"
    )
    languages: tuple[str, ...] = option(
        (),
        "language",
        "languages that may be spoken: the likeliest is detected, piece by piece",
        metavar="CODE,CODE,...",
    )
    script: str | None = option(
        None, "language", "the only script to write in: Latn, ...", metavar="CODE"
    )
    search: Wav2Vec2LlamaBeamSearchConfig | None = None
    """The search; its ``nbest`` is the number of beams. None: that of the pipeline."""

    nbest: int = option(1, "results", "hypotheses to return ({})", metavar="N", low=1)
    """How many hypotheses of each segment are returned; a ``search`` must have as many beams."""

    draft_model: str | Path | None = option(
        None, "search", "a CTC model that drafts texts", metavar="CARD|DIR"
    )
    """The card, or the training run, of a CTC model with the same vocabulary, whose text is a draft
    that a greedy search reads several tokens of at a time. It changes the speed, never the text."""

    hotwords: tuple[str, ...] = option(
        (),
        "language",
        "words and phrases that are likely; @FILE: one per line",
        metavar="WORD,...|@FILE",
    )
    hotword_weight: float = option(
        1.0, "language", "how much they count", metavar="W", low=0.0, high=100.0
    )
    """What each token of a hotword adds to a hypothesis's log-probability."""

    lm: Path | str | None = option(
        None, "language", "n-gram language model (kenlm)", metavar="FILE"
    )
    """An n-gram language model of words (ARPA or kenlm's binary form) to ask in the search."""

    lm_weight: float = option(
        0.3, "language", "how much it counts", metavar="W", low=0.0, high=10.0
    )
    """What the language model's log-probabilities count beside the decoder's."""

    audio_track: str | int | None = option(
        None,
        "audio",
        "by number from 1 on, or language (the default track of the file)",
        metavar="N|LANG",
    )
    """The audio track of files that is read: its number, from 1 on, or its language; None: the one
    that the file calls the default, else the first."""

    channel: str | int = option(
        "mix", "audio", "a channel alone (mix: their mean)", metavar="N|mix"
    )
    vad: bool | None = option(
        None,
        "long audio",
        "cut in silences, or at fixed times (default: in silences, and only what is too long)",
    )
    """Whether to look for speech and cut between it (True) or to cut every ``chunk_secs`` with an
    overlap (False); by default speech is looked for, and audio that is short enough is not cut."""

    no_speech_threshold: float = option(
        0.6,
        "search",
        "no text where silence is more probable ({:g}; 1: every text stays)",
        metavar="P",
        low=0.0,
        high=1.0,
    )
    """A piece has no text if it is more probable than this that nobody speaks in it, and the model
    is not sure of the text either (``logprob_threshold``); 1: every text stays."""

    logprob_threshold: float = option(
        -1.0,
        "search",
        "there, a text stays from this mean log-probability on ({:g})",
        metavar="L",
        low=-100.0,
        high=0.0,
    )
    """The mean log-probability of its tokens from which on a text is sure enough to stay, unless
    it is nearly certain (0.9) that nobody speaks."""

    chunk_secs: float | None = option(
        None, "search", "longest piece", metavar="S", low=1.0, high=600.0
    )
    """The most audio that is recognised in one piece. By default audio stays whole up to the
    longest that the model was trained on (40 where that is not known); longer audio is cut into
    pieces of a length that nine tenths of the training audio do not exceed, but at least 4 seconds.
    Streaming models cut by themselves."""

    batch_secs: float = option(
        60.0, "long audio", "audio at a time ({:g})", metavar="S", low=1.0, high=1e6, is_pace=True
    )
    """The most audio, padding included, that is recognised at a time."""

    normalization: Normalization | None = option(None, "search", "of streaming models")
    """Whether audio is normalised by all of it (``clip``; live: by the utterance) or by what came
    before (``causal``: streaming models, and live). None: ``clip`` for files, ``causal`` live."""

    word_timestamps: bool = option(
        False, "results", "find the times of words (default: where the format has them)"
    )
    aligner: str | Path | None = option(
        None, "results", "a CTC model that finds word times", metavar="CARD|DIR"
    )
    """The card, or the training run, of a CTC model that finds the times of words; by default the
    model's own CTC head, or where it has none, the decoder's attention."""

    update_secs: float = option(
        1.0,
        "live",
        "between guesses in a terminal ({:g})",
        metavar="S",
        low=0.1,
        high=MAX_UPDATE_SECS,
        is_pace=True,
    )
    """Live: how often the text of speech that goes on is told, as tentative."""

    endpoint_secs: float = option(
        0.6,
        "live",
        "the silence that ends an utterance ({:g})",
        metavar="S",
        low=0.1,
        high=60.0,
        is_pace=True,
    )
    """Live: a pause of this length ends an utterance; a shorter one does where it is long."""

    in_order: bool = option(True, is_pace=True)
    """Whether transcripts come in the order of the inputs, or as they are completed."""

    def __post_init__(self) -> None:
        """
        :raises OptionError: a value is of another type or out of range, or two contradict.
        :raises UnknownLanguageError: a language is not given by a code.
        """
        refuse(find_faults(self))
        if self.search is not None:
            refuse(self.search.find_faults(), "search")
        if self.nbest > self.beam.nbest:
            raise OptionError(
                f"`nbest {self.nbest}` needs as many beams, but `search.nbest` is"
                f" {self.beam.nbest}: let it be {self.nbest}, or leave it out."
            )
        if self.lang is not None and self.languages:
            raise OptionError("`lang` says what is spoken, `languages` what may be: choose one.")
        _ = self.selection
        for code in (self.lang, *self.languages):
            check_code(code)
        if self.script is not None:
            check_script(self.script)

    @property
    def beam(self) -> Wav2Vec2LlamaBeamSearchConfig:
        """The search; greedy where nothing was said."""
        return self.search or Wav2Vec2LlamaBeamSearchConfig(nbest=self.nbest)

    def with_search(self, search: Wav2Vec2LlamaBeamSearchConfig) -> TranscribeOptions:
        """Return the options with a search, if they have none, of at least ``nbest`` beams."""
        if self.search is not None:
            return self
        return replace(self, search=replace(search, nbest=max(search.nbest, self.nbest)))

    @property
    def selection(self) -> Selection:
        """What is read of the audio; a track or channel that cannot be is an OptionError."""
        from wavellama.data.utterance import select_sound

        return select_sound(self.audio_track, self.channel)

    @property
    def settings(self) -> dict[str, object]:
        """The options that transcripts of files depend on, by their names."""
        known = declared(type(self))
        return {name: value for name, value in asdict(self).items() if not known[name].is_pace}
