"""Which options a model cannot honour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final, TypeAlias

from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrModel
from torch.nn import Module

from wavellama.errors import OptionError
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.pipeline.options import TranscribeOptions

Rules: TypeAlias = Mapping[str, Sequence[str]]
"""What cannot be used, by the reason: options, or single values of them."""

CTC: Final[Rules] = {
    "A CTC model takes its likeliest path": (
        *("hotwords", "lm", "script", "nbest", "draft_model"),
        *("search.nbest", "search.ctc_weight", "search.ctc_draft"),
    ),
    "A CTC model has no decoder": ("search.weights",),
}

STREAMING: Final[Rules] = {
    "A streaming model cuts audio by itself": ("vad", "chunk_secs"),
    "A streaming model writes a few words at a time": ("draft_model",),
    "A streaming model is told the language before it hears anything (give `lang`)": ("languages",),
}

PIECES_OF_FILES: Final[Rules] = {
    "A model that does not stream reads each piece of a file as a whole": ("normalization causal",)
}

LIVE_PIECES: Final[Rules] = {"Live audio is cut where somebody pauses": ("vad False",)}

LIVE_STREAM: Final[Rules] = {
    "Live audio has no whole to be normalised by (choose causal)": ("normalization clip",),
}

LIVE: Final[Rules] = {"A live session is fed mono samples": ("audio_track", "channel")}


def check_options(model: Module, options: TranscribeOptions, *, is_live: bool) -> None:
    """Refuse options that a model cannot honour: an OptionError names the first."""
    for rules in _rules(model, is_live):
        for reason, refused in rules.items():
            for asked in refused:
                if _is_asked(asked, options):
                    raise OptionError(f"{reason}: `{asked}` cannot be used.")
    if options.aligner is not None and not options.word_timestamps:
        raise OptionError(
            "Without `word_timestamps` no times of words are looked for: `aligner` cannot be used."
        )


def _is_asked(asked: str, options: TranscribeOptions) -> bool:
    """Say whether options ask for a value, or for any other than the default."""
    name, _, value = asked.partition(" ")
    read = attrgetter(name.replace("search.", "beam."))
    return str(read(options)) == value if value else read(options) != read(TranscribeOptions())


def _rules(model: Module, is_live: bool) -> Iterable[Rules]:
    if isinstance(model, Wav2Vec2LlamaModel) and model.syntax.is_streaming:
        return (STREAMING, LIVE, LIVE_STREAM) if is_live else (STREAMING,)
    own = (CTC,) if isinstance(model, Wav2Vec2AsrModel) else ()
    return (*own, LIVE, LIVE_PIECES) if is_live else (*own, PIECES_OF_FILES)
