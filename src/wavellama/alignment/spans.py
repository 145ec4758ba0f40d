"""The likeliest path of known tokens through the frames of a CTC model.

Shapes: S frames, U tokens that the model tells apart.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torchaudio.functional import forced_align, merge_tokens

from wavellama.errors import AlignmentError
from wavellama.model.loss import CTC_BLANK

WILDCARD_COST: Final = 0.05
"""What a frame of other speech costs, so that it never takes a frame from a token that fits."""

_NEVER: Final = -1e4
"""A log-probability below all others."""


class Span(NamedTuple):
    """The frames of one token."""

    start: int
    end: int
    """The frame after the last one."""

    score: float
    """The mean probability of the token in these frames."""


def align_tokens(
    log_probs: Tensor, tokens: Sequence[int], best: Tensor | None = None
) -> list[Span]:
    """Return the frames of each token on the likeliest path; blanks lie between them.

    :param log_probs: of each frame, with the CTC blank in column 0. *Shape:* (S, U).
    :param tokens: columns of ``log_probs``, none of them the blank.
    :param best: the log-probability of the likeliest token in each frame, ``log_probs`` or not. If
        given, the audio may hold other speech before the first and after the last token. *Shape:*
        (S).
    :raises AlignmentError: there is no token, or more than fit into the frames.
    """
    if not tokens:
        raise AlignmentError("There is no text to align.")
    needed = len(tokens) + sum(one == two for one, two in pairwise(tokens))
    if needed > len(log_probs):
        raise AlignmentError(
            f"The text has {len(tokens)} tokens, which need {needed} frames, but the audio has"
            f" {len(log_probs)}; is it the text of this audio?"
        )
    if best is None:
        return _find_path(log_probs, tokens)
    wildcard = log_probs.size(1)
    spans = _find_path(_add_wildcard(log_probs, best), [wildcard, *tokens, wildcard])
    return [Span(span.start - 1, span.end - 1, span.score) for span in spans[1:-1]]


def _add_wildcard(log_probs: Tensor, best: Tensor) -> Tensor:
    """Add a token that stands for anything, and a frame at each end that nothing else can have.

    (S, U) and (S) -> (S + 2, U + 1).
    """
    log_probs = torch.cat([log_probs, best[:, None] - WILDCARD_COST], dim=1)
    edge = torch.full_like(log_probs[:1], _NEVER)
    edge[:, -1] = 0.0
    return torch.cat([edge, log_probs, edge])


def _find_path(log_probs: Tensor, tokens: Sequence[int]) -> list[Span]:
    with warnings.catch_warnings():  # of a removal that did not happen
        warnings.filterwarnings("ignore", ".*forced_align has been deprecated")
        path, scores = forced_align(log_probs[None], torch.tensor([tokens]), blank=CTC_BLANK)
    spans = merge_tokens(path[0], scores[0].exp(), blank=CTC_BLANK)
    return [Span(span.start, span.end, span.score) for span in spans]
