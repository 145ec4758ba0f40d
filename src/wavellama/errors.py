"""One small exception per failure; each names the offending value and the way out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

FEW: Final = 5
"""How many candidates an error names at most, and all names there are if they are no more."""


class WavellamaError(Exception):
    """Base of all errors that a user can cause and mend.

    ``exit_code`` is what the command line returns: 2 for a wrong request, 1 for a request that
    is right but met a bad file or resource (fairseq2's convention).
    """

    exit_code = 2


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return up to ``count`` of the names in ``known`` that look like ``name``, best first."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    return [by_lower[key] for key in get_close_matches(name.lower(), by_lower, count, 0.5)]


def suggestion(near: Collection[str]) -> str:
    """Return " Did you mean ...?" for the names in ``near``, or an empty string."""
    return f" Did you mean {' or '.join(near)}?" if near else ""


class UnknownNameError(WavellamaError):
    """A name (card, recipe, tokenizer, component...) is not known."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = sorted(known)
        self.kind, self.name, self.near = kind, name, nearest(name, known)
        there_are = f" There are {', '.join(known)}." if 0 < len(known) <= FEW else ""
        near = suggestion(self.near) or there_are
        super().__init__(f"{name} is not a known {kind}.{near}{hint}")


class UnknownLanguageError(WavellamaError):
    """A language code is not in the table of the model, or means several rows of it."""

    def __init__(self, code: str, labels: Mapping[str, str], *, is_ambiguous: bool = False) -> None:
        """:param labels: codes that may have been meant, best first, and what to call them."""
        self.code, self.near = code, [*labels][:FEW]
        named = [labels[code] for code in self.near]
        if is_ambiguous:
            num_more = len(labels) - len(named)
            last = f"{num_more} more" if num_more else named.pop()
            super().__init__(
                f"{code!r} is the code of {', '.join(named)} and {last}: say which of them."
            )
            return
        super().__init__(
            f"{code!r} is not a known language code.{suggestion(named)}"
            " Codes look like eng_Latn: an ISO 639-3 code and a script."
        )


class ConfigError(WavellamaError):
    """A configuration contradicts itself or asks for what does not exist."""


class OptionError(ConfigError):
    """An option has a value that it cannot have; names of options stand between backticks."""


class ConfigKeyError(ConfigError):
    """A configuration has a key that nothing reads."""

    def __init__(self, key: str, source: str, known: Iterable[str]) -> None:
        self.key, self.near = key, nearest(key, known)
        super().__init__(f"{source} has an unknown key `{key}`.{suggestion(self.near)}")


class SyntaxNotAvailableError(ConfigError):
    """There is no syntax for this kind of model."""

    def __init__(self, model_type: str, form: str) -> None:
        self.model_type, self.form = model_type, form
        super().__init__(f"{model_type} has no {form} form in this version of wavellama.")


class BatchError(WavellamaError):
    """A batch lacks what the model needs, or holds what it cannot use."""


class AudioError(WavellamaError):
    """Audio cannot be read or used; ``source`` says which."""

    exit_code = 1

    def __init__(self, source: str, reason: str) -> None:
        self.source, self.reason = source, reason
        super().__init__(f"{source}: {reason}")


class TranscriptionError(WavellamaError):
    """Some inputs of a batch could not be transcribed.

    ``texts`` holds the text of each input (None where it failed), ``failures`` the error of each
    failed input by its place.
    """

    exit_code = 1

    def __init__(self, texts: Sequence[str | None], failures: Mapping[int, AudioError]) -> None:
        self.texts, self.failures = list(texts), dict(failures)
        reasons = " ".join(str(failure) for failure in failures.values())
        count = f"{len(failures)} of {len(texts)}"
        super().__init__(f"{count} inputs could not be transcribed: {reasons}")


class CheckpointError(WavellamaError):
    """A checkpoint is missing, damaged, or does not fit its architecture."""

    exit_code = 1


class AlignmentError(WavellamaError):
    """A text does not fit the audio that it is to be aligned with, or the model cannot tell."""

    exit_code = 1


class DataError(WavellamaError):
    """A data set cannot be read."""

    exit_code = 1


class ContextTooLongError(WavellamaError):
    """The decoder's sequence is too long, or leaves no room for a single token."""

    def __init__(self, length: int, limit: int) -> None:
        self.length, self.limit = length, limit
        super().__init__(
            f"A decoder sequence of {length} positions does not fit max_generation_length"
            f" {limit}. Use shorter pieces of audio; in training, `wavellama data check` names"
            " texts that are too long for their audio."
        )


NAN_FOUND = "The model has produced NaN; the audio or the weights hold NaN."


class DecodingError(WavellamaError):
    """The decoder produced something that is not a probability."""

    exit_code = 1
