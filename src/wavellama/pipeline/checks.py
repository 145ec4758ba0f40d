"""Which options a model cannot honour."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrModel
from torch.nn import Module

from wavellama.errors import ConfigError
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.pipeline.options import TranscribeOptions


class Rule(NamedTuple):
    """An option that cannot be used."""

    option: str

    is_asked: Callable[[TranscribeOptions], object]
    """Whether somebody asks for it."""

    reason: str


_PATH: Final = "A CTC model takes its likeliest path"
_CUTS: Final = "A streaming model cuts audio by itself"

CTC: Final = (
    Rule("hotwords", lambda options: options.hotwords, _PATH),
    Rule("lm", lambda options: options.lm, _PATH),
    Rule("script", lambda options: options.script, _PATH),
    Rule("nbest", lambda options: options.nbest > 1, _PATH),
    Rule("draft_model", lambda options: options.draft_model, _PATH),
    Rule("search.nbest (beams)", lambda options: options.beam.nbest > 1, _PATH),
    Rule("search.ctc_weight", lambda options: options.beam.ctc_weight, _PATH),
    Rule("search.ctc_draft", lambda options: options.beam.ctc_draft, _PATH),
    Rule(
        "search.weights (int8)",
        lambda options: options.beam.weights != "native",
        "A CTC model has no decoder",
    ),
)

STREAMING: Final = (
    Rule("vad", lambda options: options.vad is not None, _CUTS),
    Rule("chunk_secs", lambda options: options.chunk_secs, _CUTS),
    Rule(
        "draft_model",
        lambda options: options.draft_model,
        "A streaming model writes a few words at a time",
    ),
    Rule(
        "languages",
        lambda options: options.languages,
        "A streaming model is told the language before it hears anything (give `lang`)",
    ),
)

FILES: Final = (
    Rule(
        "normalization (causal)",
        lambda options: options.normalization == "causal",
        "A model that does not stream reads each piece of a file as a whole",
    ),
)

LIVE: Final = (
    Rule(
        "vad (false)",
        lambda options: options.vad is False,
        "Live audio is cut where somebody pauses",
    ),
)

ALL: Final = (
    Rule(
        "aligner",
        lambda options: options.aligner is not None and not options.word_timestamps,
        "Without `word_timestamps` no times of words are looked for",
    ),
)


def check_options(model: Module, options: TranscribeOptions, *, is_live: bool) -> None:
    """Check that a model can do what the options ask for.

    :raises ConfigError: it cannot; the error names the option.
    """
    for rule in _rules(model, is_live):
        if rule.is_asked(options):
            raise ConfigError(f"{rule.reason}: `{rule.option}` cannot be used.")


def _rules(model: Module, is_live: bool) -> Iterable[Rule]:
    """Return what holds for a model."""
    if isinstance(model, Wav2Vec2LlamaModel) and model.syntax.is_streaming:
        return (*STREAMING, *ALL)
    own = CTC if isinstance(model, Wav2Vec2AsrModel) else ()
    return (*own, *(LIVE if is_live else FILES), *ALL)
