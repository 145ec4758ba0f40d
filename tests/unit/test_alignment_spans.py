"""The likeliest path, compared with an exhaustive search."""

from __future__ import annotations

from itertools import groupby, product

import pytest
import torch

from wavellama.alignment.spans import WILDCARD_COST, align_tokens
from wavellama.errors import AlignmentError


def log_probs_of(path: list[int], num_tokens: int = 4, p: float = 0.9) -> torch.Tensor:
    """Return posteriors with ``p`` for a token in each frame. (S, U)."""
    probs = torch.full((len(path), num_tokens), (1 - p) / (num_tokens - 1))
    probs[torch.arange(len(path)), torch.tensor(path)] = p
    return probs.log()


def test_tokens_lie_where_they_are_probable() -> None:
    spans = align_tokens(log_probs_of([0, 1, 1, 0, 2, 3, 0, 3]), [1, 2, 3, 3])
    assert [(span.start, span.end) for span in spans] == [(1, 3), (4, 5), (5, 6), (7, 8)]
    assert [span.score for span in spans] == pytest.approx([0.9] * 4)


def test_the_score_is_the_mean_probability_of_the_frames() -> None:
    log_probs = torch.tensor([[0.1, 0.9], [0.4, 0.6]]).log()
    (span,) = align_tokens(log_probs, [1])
    assert (span.start, span.end) == (0, 2)
    assert span.score == pytest.approx(0.75)


def test_a_repeated_token_needs_a_blank_in_between() -> None:
    spans = align_tokens(log_probs_of([1, 1, 1]), [1, 1])
    assert [(span.start, span.end) for span in spans] == [(0, 1), (2, 3)]


@pytest.mark.parametrize("seed", range(20))
def test_no_path_is_likelier(seed: int) -> None:
    torch.manual_seed(seed)
    log_probs = torch.randn(6, 3, dtype=torch.float64).log_softmax(-1)
    tokens = torch.randint(1, 3, (3,)).tolist()
    paths = [
        path
        for path in product(range(3), repeat=6)
        if [token for token, _ in groupby(path) if token != 0] == tokens
    ]
    best = max(paths, key=lambda path: float(sum(log_probs[i, t] for i, t in enumerate(path))))
    runs = [(token, len(list(run))) for token, run in groupby(best)]
    starts = [sum(length for _, length in runs[:i]) for i in range(len(runs))]
    expected = [(s, s + n) for s, (token, n) in zip(starts, runs, strict=True) if token != 0]
    spans = align_tokens(log_probs, tokens)
    assert [(span.start, span.end) for span in spans] == expected


@pytest.mark.parametrize("seed", range(20))
def test_no_path_between_other_speech_is_likelier(seed: int) -> None:
    """Other speech takes a number of frames at each end, at the price of their likeliest tokens."""
    torch.manual_seed(seed)
    full = torch.randn(7, 5, dtype=torch.float64).mul(3).log_softmax(-1)
    log_probs, best = full[:, :3], full.amax(1)
    tokens = torch.randint(1, 3, (2,)).tolist()

    def score(begin: int, path: tuple[int, ...]) -> float:
        end = begin + len(path)
        rest = torch.cat([best[:begin], best[end:]]) - WILDCARD_COST
        return float(sum(log_probs[begin + i, t] for i, t in enumerate(path)) + rest.sum())

    candidates = [
        (begin, path)
        for begin in range(7)
        for length in range(8 - begin)
        for path in product(range(3), repeat=length)
        if [token for token, _ in groupby(path) if token != 0] == tokens
    ]
    begin, path = max(candidates, key=lambda candidate: score(*candidate))
    frames: list[tuple[int, int]] = []
    for token, run in groupby(enumerate(path, begin), key=lambda pair: pair[1]):
        places = [place for place, _ in run]
        frames += [(places[0], places[-1] + 1)] if token != 0 else []
    spans = align_tokens(log_probs, tokens, best)
    assert [(span.start, span.end) for span in spans] == frames


def test_the_text_may_take_every_frame_all_the_same() -> None:
    log_probs = log_probs_of([1, 2, 3, 1])
    spans = align_tokens(log_probs, [1, 2, 3, 1], log_probs.amax(1))
    assert [(span.start, span.end) for span in spans] == [(0, 1), (1, 2), (2, 3), (3, 4)]


@pytest.mark.parametrize(
    ("tokens", "num_frames", "needed"), [([1, 2, 3], 2, 3), ([1, 1, 2, 2], 5, 6), ([1], 0, 1)]
)
def test_more_tokens_than_frames_are_refused(
    tokens: list[int], num_frames: int, needed: int
) -> None:
    reason = rf"{len(tokens)} tokens, which need {needed} frames, but the audio has {num_frames};"
    with pytest.raises(AlignmentError, match=reason):
        align_tokens(log_probs_of([0] * num_frames) if num_frames else torch.zeros(0, 4), tokens)
    enough = align_tokens(log_probs_of([0] * needed), tokens)
    assert len(enough) == len(tokens)


def test_no_token_is_refused() -> None:
    with pytest.raises(AlignmentError, match="no text"):
        align_tokens(log_probs_of([0, 0]), [])
