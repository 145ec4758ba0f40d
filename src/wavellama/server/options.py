"""The options of transcription as fields of a form.

Types and ranges are those of ``TranscribeOptions``. What names a file or another model is the
server's to say, not a client's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from wavellama.errors import ConfigError
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.options import Option, declared
from wavellama.pipeline.options import TranscribeOptions

NOT_A_CLIENTS: Final = frozenset(
    {"search", "draft_model", "lm", "lm_weight", "aligner", "batch_secs", "in_order"}
)
"""Options that have no field in a form."""

MAX_BEAMS: Final = 16
"""The most beams that a client may ask for; each takes its share of everybody's time."""

MAX_CHARS: Final = 1_000
"""How long a text may be that is one value, such as a language."""

MAX_LIST_CHARS: Final = 20_000
"""How long the texts of a list may be together, such as keywords; all languages fit."""

OWN: Final[Mapping[str, Option]] = {
    name: one
    for name, one in declared(TranscribeOptions).items()
    if name.partition(".")[0] not in NOT_A_CLIENTS
}

OWN_OPTIONS: Final[Mapping[str, bool]] = {
    **{name: one.takes_several for name, one in OWN.items()},
    "beam": False,
}
"""The names of the options, and whether they are lists."""


def to_options(given: Mapping[str, str | tuple[str, ...] | None]) -> TranscribeOptions:
    """Return options from the texts of a form; what is not given keeps its default.

    Of a search the number of beams is what counts.

    :raises ConfigError: a value is of another type, or out of range.
    :raises UnknownLanguageError: a language is not given by a code.
    """
    values: dict[str, Any] = {
        name: _to_value(name, value)
        for name, value in given.items()
        if value is not None and name in OWN
    }
    nbest = values.get("nbest", 1)
    beam = given.get("beam")
    num_beams = nbest if beam is None else int(_convert("beam", str(beam), int))
    if not nbest <= num_beams <= MAX_BEAMS:
        raise ConfigError(
            f"`beam` must lie between `nbest` ({nbest}) and {MAX_BEAMS}, but is {num_beams}."
        )
    search = None if beam is None else Wav2Vec2LlamaBeamSearchConfig(nbest=num_beams)
    return TranscribeOptions(search=search, **values)


def _to_value(name: str, value: str | tuple[str, ...]) -> object:
    """Return what an option is."""
    most = MAX_CHARS if isinstance(value, str) else MAX_LIST_CHARS
    if sum(map(len, value)) > most:
        raise ConfigError(f"`{name}` may have {most} characters at most.")
    return _convert(name, value, OWN[name].types[0]) if isinstance(value, str) else value


def _to_bool(text: str) -> bool:
    found = {"true": True, "1": True, "false": False, "0": False}.get(text.lower())
    if found is None:
        raise ValueError(text)
    return found


_TYPES: Final[Mapping[type, Callable[[str], bool | int | float]]] = {
    bool: _to_bool,
    int: int,
    float: float,
}


def _convert(name: str, text: str, kind: type) -> bool | int | float | str:
    """Return the value that a text stands for."""
    try:
        return _TYPES.get(kind, str)(text)
    except ValueError:
        raise ConfigError(f"`{name}` must be {kind.__name__}, but is {text!r}.") from None
