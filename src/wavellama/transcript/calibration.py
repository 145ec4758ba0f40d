"""How probable it is that a word is right: what a model says of its tokens, calibrated."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from wavellama.errors import ConfigError
from wavellama.options import find_faults, read_options, refuse

CONFIDENCE_FILE: Final = "confidence.json"
"""Where a training run keeps its calibration."""

_SUREST: Final = -1e-6
_LEAST_SURE: Final = math.log(1e-6)


@dataclass(frozen=True)
class Confidence:
    """From the log-probabilities of tokens to the probability that the word they make is right.

    ``logit(p) = logit(g) / temperature + bias``, where g is the geometric mean of the tokens'
    probabilities. Without calibration p is g itself.
    """

    temperature: float = 1.0
    """Above 1: the model is surer of itself than it should be; above 0."""

    bias: float = 0.0
    """What the logits of all words have in common."""

    def __post_init__(self) -> None:
        """:raises ConfigError: a value is no number, or out of range."""
        refuse(find_faults(self))
        if not 0.0 < self.temperature < math.inf:
            raise ConfigError(f"`temperature` must be above 0, but is {self.temperature}.")
        if not math.isfinite(self.bias):
            raise ConfigError(f"`bias` must be a finite number, but is {self.bias}.")

    def of_word(self, token_logprobs: Sequence[float]) -> float:
        """Return how probable it is that a word is right, from 0 to 1.

        :param token_logprobs: the log-probabilities of its tokens; without any, nothing speaks for
            the word, and the result is 0.
        """
        if not token_logprobs:
            return 0.0
        logit = word_logit(token_logprobs) / self.temperature + self.bias
        return 0.5 * (1.0 + math.tanh(0.5 * logit))


def word_logit(token_logprobs: Sequence[float]) -> float:
    """Return the logit of the geometric mean of the tokens' probabilities, within ±13.8.

    :param token_logprobs: at least one.
    """
    mean = math.fsum(token_logprobs) / len(token_logprobs)
    mean = min(max(mean, _LEAST_SURE), _SUREST)
    return mean - math.log(-math.expm1(mean))


def read_confidence(path: Path) -> Confidence:
    """Read a calibration; without a file, it is that of no calibration.

    :raises ConfigError: the file holds something else.
    """
    if not path.is_file():
        return Confidence()
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as ex:
        raise ConfigError(f"{path} is not JSON ({ex}); write it anew: wavellama calibrate.") from ex
    return parse_confidence(content, str(path))


def parse_confidence(content: object, source: str) -> Confidence:
    """Return the calibration that a mapping describes.

    :param source: where it stands, for messages.
    :raises ConfigError: it is no mapping of ``temperature`` and ``bias`` to numbers in range.
    """
    try:
        return read_options(Confidence, content, "confidence")
    except ConfigError as ex:
        raise ConfigError(f"The confidence in {source} cannot be used: {ex}") from None


def to_json(confidence: Confidence) -> str:
    """Return what ``read_confidence`` reads."""
    return json.dumps(asdict(confidence), indent=2) + "\n"
