"""Beam search: the bookkeeping of hypotheses, row by row, over a ``StepDecoder``."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from typing import NamedTuple, TypeAlias, final

import torch
from typing_extensions import override

from wavellama.errors import NAN_FOUND, DecodingError
from wavellama.search.constraints import Constraint, apply_constraints, no_token_left
from wavellama.search.running import SearchRun
from wavellama.search.scorers import JointDecoder, StepScores, WeightedScorer
from wavellama.search.stopping import RepetitionGuard
from wavellama.search.types import Hypothesis, StepDecoder, StopReason


class Candidate(NamedTuple):
    """A token that may follow a hypothesis."""

    token: int

    gain: float
    """What it adds to the score: its log-probability, or with scorers its joint score."""

    logprob: float
    """The decoder's log-probability."""


@dataclass(frozen=True)
class SearchOptions:
    """What a search is asked to do."""

    beam_size: int
    """Hypotheses per row."""

    eos_idx: int
    """The token that ends a hypothesis."""

    length_norm: bool = False
    """Whether a hypothesis scores the mean of its log-probabilities instead of their sum."""

    guard: RepetitionGuard | None = None
    """Stops hypotheses that repeat themselves."""

    constraints: Sequence[Constraint] = ()
    """Say which tokens may follow."""


@dataclass(frozen=True)
class Beam:
    """A hypothesis while the search runs."""

    tokens: tuple[int, ...] = ()
    """All emitted tokens, a final EOS included."""

    logprobs: tuple[float, ...] = ()
    """The decoder's log-probability of each token."""

    gains: tuple[float, ...] = ()
    """What each token has added to the score."""

    total: float = 0.0
    """The sum of ``gains``."""

    stop_reason: StopReason | None = None

    parent: int = -1
    """Its parent's place in the decoder's list, while it lives."""


@dataclass(frozen=True)
class Option:
    """What a place in the next beam may hold: a finished beam, or a beam and its next token."""

    score: float
    beam: Beam
    candidate: Candidate | None = None
    place: int = -1

    def take(self) -> Beam:
        """Return the beam that results."""
        beam, candidate = self.beam, self.candidate
        if candidate is None:
            return beam
        return Beam(
            (*beam.tokens, candidate.token),
            (*beam.logprobs, candidate.logprob),
            (*beam.gains, candidate.gain),
            beam.total + candidate.gain,
            parent=self.place,
        )


@dataclass(frozen=True)
class Row:
    """The beams of one row, best first."""

    index: int
    beams: list[Beam]
    max_len: int

    @property
    def live(self) -> list[Beam]:
        """The beams that the decoder still has to continue."""
        return [beam for beam in self.beams if beam.stop_reason is None]


StepObserver: TypeAlias = Callable[[Sequence[Row]], None]
"""Called with the unfinished rows after each step."""


class BeamSearch:
    """Searches each row of a batch by itself; the batch only shares the decoder's calls.

    A finished hypothesis keeps its place and its score in the beam; a row ends when all of its
    hypotheses are finished, and leaves the batch. With scorers, hypotheses are ranked by the joint
    score of decoder and scorers; where that leaves a row nothing (CTC has no frames left for a
    forced prefix, say), the row goes on by the decoder's score.
    """

    def __init__(
        self,
        options: SearchOptions,
        observer: StepObserver | None = None,
        scorers: Sequence[WeightedScorer] = (),
    ) -> None:
        """
        :param observer: is called with the unfinished rows after each step.
        :param scorers: rate the same rows as the decoder; their shares sum to 1 at most.
        """
        self.options, self._beam_size = options, options.beam_size
        self._observer, self._scorers = observer, scorers

    def run(self, decoder: StepDecoder, max_lens: Sequence[int]) -> list[list[Hypothesis]]:
        """Return the hypotheses of each row, best first.

        :param max_lens: the most tokens that each row may emit, at least 1.
        :raises ConfigError: the constraints leave a row no token.
        :raises DecodingError: the decoder or a scorer produced NaN.
        """
        return self.start(decoder, max_lens).finish()

    def start(self, decoder: StepDecoder, max_lens: Sequence[int]) -> BeamRun:
        """Read the prompts; return the search before its first step. Otherwise as ``run``."""
        return BeamRun(self, JointDecoder(decoder, self._scorers), max_lens)

    def expand(self, rows: list[Row], scores: StepScores) -> list[Row]:
        """Return the rows with the best of all continuations of their beams."""
        expanded = self._expand_rows(rows, self._candidates(scores, rows))
        if self._observer is not None:
            self._observer(expanded)
        return expanded

    def _candidates(self, scores: StepScores, rows: list[Row]) -> list[list[Candidate]]:
        """Return the best continuations of each live beam, best first."""
        self._check_numbers(scores)
        prefixes = [beam.tokens for row in rows for beam in row.live]
        candidates = self._best(scores, prefixes)
        stuck = _dead_ends(rows, candidates) if self._scorers else []
        if stuck:
            own = scores.log_probs[stuck]
            by_decoder = self._best(StepScores(own, own), [prefixes[place] for place in stuck])
            for place, following in zip(stuck, by_decoder, strict=True):
                candidates[place] = following
        return candidates

    def _check_numbers(self, scores: StepScores) -> None:
        # A scorer of weight 1 keeps the decoder's NaN out of the joint score.
        parts = scores if self._scorers else (scores.joint,)
        if any(bool(torch.isnan(part).any()) for part in parts):
            raise DecodingError(NAN_FOUND)

    def _best(
        self, scores: StepScores, prefixes: Sequence[tuple[int, ...]]
    ) -> list[list[Candidate]]:
        """Return the best continuations of each prefix that the constraints allow, best first."""
        joint = apply_constraints(self.options.constraints, scores.joint, prefixes)
        gains, tokens = joint.topk(min(self._beam_size, joint.size(-1)))
        logprobs = scores.log_probs.gather(1, tokens) if self._scorers else gains
        columns = zip(tokens.tolist(), gains.tolist(), logprobs.tolist(), strict=True)
        return [list(starmap(Candidate, zip(*column, strict=True))) for column in columns]

    def _expand_rows(self, rows: list[Row], candidates: list[list[Candidate]]) -> list[Row]:
        expanded, begin = [], 0
        for row in rows:
            end = begin + len(row.live)
            expanded.append(self._expand(row, candidates[begin:end], begin))
            begin = end
        return expanded

    def _expand(self, row: Row, candidates: list[list[Candidate]], begin: int) -> Row:
        """Keep the best of the finished beams and of all continuations of the live ones."""
        options = [Option(self._score(beam), beam) for beam in row.beams if beam.stop_reason]
        for place, (beam, following) in enumerate(zip(row.live, candidates, strict=True), begin):
            options.extend(
                Option(self._score(beam, candidate.gain), beam, candidate, place)
                for candidate in following
            )
        possible = [option for option in options if option.score > -math.inf]
        if self.options.constraints and not possible:
            raise no_token_left(row.live[0].tokens)
        options = possible or options
        options.sort(key=_by_score)  # stable: ties keep their order
        beams = [self._stop(option.take(), row.max_len) for option in options[: self._beam_size]]
        beams.sort(key=lambda beam: -self._score(beam))
        return replace(row, beams=_without_copies(beams))

    def _stop(self, beam: Beam, max_len: int) -> Beam:
        if beam.stop_reason is not None:
            return beam
        if beam.tokens[-1] == self.options.eos_idx:
            return replace(beam, stop_reason="eos")
        guard = self.options.guard
        keep = guard.cut(beam.tokens) if guard is not None else None
        if keep is not None:
            gains = beam.gains[:keep]
            tokens, logprobs = beam.tokens[:keep], beam.logprobs[:keep]
            return Beam(tokens, logprobs, gains, sum(gains), "repetition")
        return replace(beam, stop_reason="length") if len(beam.tokens) >= max_len else beam

    def _score(self, beam: Beam, gain: float | None = None) -> float:
        """Return the score of a beam, or of the beam and one more token."""
        length = len(beam.tokens) + (gain is not None)
        total = beam.total + (gain or 0.0)
        return total / length if self.options.length_norm else total

    def to_hypothesis(self, beam: Beam) -> Hypothesis:
        """Return an ended beam as a result."""
        finished = beam.stop_reason == "eos"
        tokens = beam.tokens[:-1] if finished else beam.tokens
        reason = beam.stop_reason or "length"
        return Hypothesis(list(tokens), self._score(beam), list(beam.logprobs), finished, reason)


@final
class BeamRun(SearchRun[Row]):
    """A beam search between two steps."""

    def __init__(self, search: BeamSearch, decoder: JointDecoder, max_lens: Sequence[int]) -> None:
        super().__init__([Row(i, [Beam()], max_len) for i, max_len in enumerate(max_lens)])
        self._search, self._decoder = search, decoder
        self._scores = decoder.prefill()

    @override
    def step(self) -> dict[int, list[Hypothesis]]:
        search, rows = self._search, self._search.expand(self.rows, self._scores)
        self.rows = [row for row in rows if row.live]
        if self.rows:
            live = [beam for row in self.rows for beam in row.live]
            self._decoder.reorder([beam.parent for beam in live])
            self._scores = self._decoder.step([beam.tokens[-1] for beam in live])
        ended = [row for row in rows if not row.live]
        return {row.index: list(map(search.to_hypothesis, row.beams)) for row in ended}

    @override
    def join(self, other: BeamRun) -> None:
        self._decoder.join(other._decoder)
        both = zip(self._scores, other._scores, strict=True)
        self._scores = StepScores(*map(torch.cat, both))
        self.rows += [replace(row, index=self.num_begun + row.index) for row in other.rows]
        self.num_begun += other.num_begun

    @override
    def leave(self, numbers: Collection[int]) -> None:
        owners = [row.index for row in self.rows for _ in row.live]
        places = [place for place, owner in enumerate(owners) if owner not in numbers]
        self.rows = [row for row in self.rows if row.index not in numbers]
        self._decoder.reorder(places)
        self._scores = StepScores(*(part[places] for part in self._scores))


def _dead_ends(rows: Sequence[Row], candidates: Sequence[Sequence[Candidate]]) -> list[int]:
    """Return the places of all live beams of rows in which none of them can go on."""
    places, begin = list[int](), 0
    for row in rows:
        end = begin + len(row.live)
        is_stuck = all(following[0].gain == -math.inf for following in candidates[begin:end])
        if is_stuck and len(row.live) == len(row.beams):  # none that has ended is left, either
            places += range(begin, end)
        begin = end
    return places


def _without_copies(beams: list[Beam]) -> list[Beam]:
    """Drop beams that were cut to the same tokens as a better one."""
    seen: set[tuple[int, ...]] = set()
    kept = []
    for beam in beams:
        if beam.stop_reason != "repetition" or beam.tokens not in seen:
            kept.append(beam)
        if beam.stop_reason == "repetition":
            seen.add(beam.tokens)
    return kept


def _by_score(option: Option) -> float:
    return -option.score
