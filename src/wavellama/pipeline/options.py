"""How audio is transcribed: the same options for Python, the command line and recipes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Final, Literal, TypeAlias

from wavellama.audio.tracks import Selection
from wavellama.data.utterance import select_sound
from wavellama.errors import ConfigError
from wavellama.model.config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.text.languages import check_code
from wavellama.text.scripts import check_script

Normalization: TypeAlias = Literal["clip", "causal"]

MAX_UPDATE_SECS: Final = 3600.0
"""The longest time between two tentative texts."""


_OTHERS: Final = frozenset({"batch_secs", "in_order", "update_secs", "endpoint_secs"})
"""Options that change how soon something is known."""


_KINDS: Final[dict[str, type | tuple[type, ...]]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "Path": Path,
}


def check_type(name: str, value: object, wanted: str) -> None:
    """Check that a value given in Python is of the type that an annotation says.

    :param wanted: one or more types, as an annotation writes them; only plain ones are checked.
    :raises ConfigError: it is of none of them.
    """
    names = wanted.split(" | ")
    if (value is None and "None" in names) or not any(kind in _KINDS for kind in names):
        return
    fitting = [kind for kind in names if isinstance(value, _KINDS.get(kind, ()))]
    if not fitting or (isinstance(value, bool) and "bool" not in fitting):
        raise ConfigError(f"`{name}` must be {' or '.join(names)}, but is {value!r}.")


@dataclass(frozen=True, kw_only=True)
class TranscribeOptions:
    """All that can be chosen; what does not fit the model is an error when transcription starts."""

    lang: str | None = None
    """The language of all inputs (models that take a language)."""

    languages: tuple[str, ...] = ()
    """The languages that may be spoken: the likeliest of them is detected, segment by segment."""

    script: str | None = None
    """The ISO 15924 code of the only script that may be written, such as ``Latn``."""

    search: Wav2Vec2LlamaBeamSearchConfig | None = None
    """The search; its ``nbest`` is the number of beams. None: that of the pipeline."""

    nbest: int = 1
    """How many hypotheses of each segment are returned; a ``search`` must have as many beams."""

    draft_model: str | None = None
    """The card, or the training run, of a CTC model with the same vocabulary, whose text is a draft
    that a greedy search reads several tokens of at a time. It changes the speed, never the text."""

    hotwords: tuple[str, ...] = ()
    """Words and phrases that are likely to be said."""

    hotword_weight: float = 1.0
    """What each token of a hotword adds to a hypothesis's log-probability."""

    lm: Path | None = None
    """An n-gram language model of words (ARPA or kenlm's binary form) to ask in the search."""

    lm_weight: float = 0.3
    """What the language model's log-probabilities count beside the decoder's."""

    audio_track: int | str | None = None
    """The audio track of files that is read: its number, from 1 on, or its language; None: the one
    that the file calls the default, else the first."""

    channel: int | str = "mix"
    """The number of the channel that is read, from 1 on, or ``mix``: their mean."""

    vad: bool | None = None
    """Whether to look for speech and cut between it (True) or to cut every ``chunk_secs`` with an
    overlap (False); by default speech is looked for, and audio that is short enough is not cut."""

    chunk_secs: float | None = None
    """The most audio that is recognised in one piece. By default audio stays whole up to the
    longest that the model was trained on (40 where that is not known); longer audio is cut into
    pieces of a length that nine tenths of the training audio do not exceed, but at least 4 seconds.
    Streaming models cut by themselves."""

    batch_secs: float = 60.0
    """The most audio, padding included, that is recognised at a time."""

    normalization: Normalization | None = None
    """Whether audio is normalised by all of it (``clip``; live: by the utterance) or by what came
    before (``causal``: streaming models, and live). None: ``clip`` for files, ``causal`` live."""

    word_timestamps: bool = False
    """Whether to find out when each word is spoken."""

    aligner: str | None = None
    """The card, or the training run, of a CTC model that finds the times of words; by default the
    model's own CTC head, or where it has none, the decoder's attention."""

    update_secs: float = 1.0
    """Live: how often the text of speech that goes on is told, as tentative."""

    endpoint_secs: float = 0.6
    """Live: how long a silence ends an utterance."""

    in_order: bool = True
    """Whether transcripts come in the order of the inputs, or as they are completed."""

    def __post_init__(self) -> None:
        """
        :raises ConfigError: a value is out of range, or one string stands for several.
        :raises UnknownLanguageError: a language is not given by a code.
        """
        _ = self.selection
        self._check_types()
        self._check_range("nbest", self.nbest, 1, inf if self.search is None else self.beam.nbest)
        if self.chunk_secs is not None:
            self._check_range("chunk_secs", self.chunk_secs, 1.0, 600.0)
        self._check_range("batch_secs", self.batch_secs, 1.0, 1e6)
        self._check_range("update_secs", self.update_secs, 0.1, MAX_UPDATE_SECS)
        self._check_range("endpoint_secs", self.endpoint_secs, 0.1, 60.0)
        self._check_range("hotword_weight", self.hotword_weight, 0.0, 100.0)
        self._check_range("lm_weight", self.lm_weight, 0.0, 10.0)
        if self.lang is not None and self.languages:
            raise ConfigError("`lang` says what is spoken, `languages` what may be: choose one.")
        if self.normalization not in (None, "clip", "causal"):
            raise ConfigError(
                f"`normalization` must be clip or causal, but is {self.normalization!r}."
            )
        for code in (self.lang, *self.languages):
            check_code(code)
        if self.script is not None:
            check_script(self.script)

    @property
    def beam(self) -> Wav2Vec2LlamaBeamSearchConfig:
        """The search; greedy where nothing was said."""
        return self.search or Wav2Vec2LlamaBeamSearchConfig(nbest=1)

    def with_search(self, search: Wav2Vec2LlamaBeamSearchConfig) -> TranscribeOptions:
        """Return the options with a search, if they have none, of at least ``nbest`` beams."""
        if self.search is not None:
            return self
        return replace(self, search=replace(search, nbest=max(search.nbest, self.nbest)))

    @property
    def selection(self) -> Selection:
        """What is read of the audio.

        :raises ConfigError: ``audio_track`` or ``channel`` cannot be.
        """
        return select_sound(self.audio_track, self.channel)

    @property
    def settings(self) -> dict[str, object]:
        """The options that transcripts of files depend on, by their names."""
        return {name: value for name, value in asdict(self).items() if name not in _OTHERS}

    def _check_types(self) -> None:
        self._keep_tuple("languages")
        self._keep_tuple("hotwords")
        for field in fields(self):
            check_type(field.name, getattr(self, field.name), str(field.type))

    def _keep_tuple(self, name: str) -> None:
        """Make a tuple of a list; a string would be taken letter by letter."""
        value = getattr(self, name)
        if isinstance(value, str):
            raise ConfigError(f"`{name}` takes several strings: write {(value,)!r}, not {value!r}.")
        if not isinstance(value, Iterable) or any(not isinstance(item, str) for item in value):
            raise ConfigError(f"`{name}` takes several strings, but is {value!r}.")
        object.__setattr__(self, name, tuple(value))

    def _check_range(self, name: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            raise ConfigError(f"`{name}` must lie between {low:g} and {high:g}, but is {value}.")
