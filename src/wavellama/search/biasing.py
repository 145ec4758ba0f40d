"""Hotwords: phrases that make the hypotheses in which they occur more likely.

A hypothesis scores one for each token that a hotword covers, as a whole, from a word's beginning
to a word's end; tokens that several hotwords cover count once. So that the search finds such
hypotheses, the tokens of a hotword count while it is still being written, and are taken back
where it breaks off; only a text that is cut off by its greatest length, or as it repeats itself,
keeps them.

Shapes: N rows, B hypotheses of all rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, final

import torch
from torch import Tensor

_ROOT: Final = 0


@final
class Joints:
    """Whether a word goes on from one token to the next one.

    It does where two numbers, one for the end of the first token and one for the beginning of the
    second one, add up to 2: say 1 for letters, 0 for spaces, and 2 for marks on any letter.
    """

    def __init__(self, begins: Sequence[int], ends: Sequence[int]) -> None:
        """Take a number from 0 to 2 for the beginning, and one for the end, of each token."""
        self._begins, self.ends = list(begins), list(ends)
        numbers = torch.tensor(self._begins)
        self._going_on = torch.stack([numbers + end >= 2 for end in range(3)])  # (3, V)

    def goes_on(self, end: int, token: int) -> bool:
        """Return whether ``token`` goes on with a word, after a token with the number ``end``."""
        return end + self._begins[token] >= 2

    def going_on(self, ends: Sequence[int]) -> Tensor:
        """Return which tokens go on with the last word of each hypothesis. *Shape:* (B, V)."""
        return self._going_on[list(ends)]


class _Match(NamedTuple):
    """How far the end of a hypothesis agrees with hotwords."""

    node: int = _ROOT
    """The longest beginning of a hotword with which the hypothesis ends."""

    covered: int = 0
    """Which of its tokens hotwords cover for good: a bit for each, the lowest for the last one."""

    end: int = 0
    """The number of the last token's end (see ``Joints``)."""


class _Gains(NamedTuple):
    """What each next token adds to the score of a hypothesis."""

    going_on: int
    """A token that goes on with the last word."""

    other: int
    """A token that does not."""

    exceptions: dict[int, int]
    """Tokens with which the hypothesis goes on with a hotword, or begins one."""


@final
class HotwordTree:
    """All hotwords as one tree of tokens (Aho and Corasick 1975), with words' ends observed."""

    def __init__(self, hotwords: Iterable[Sequence[int]], joints: Joints) -> None:
        """
        :param hotwords: the tokens of each hotword, at least one; spellings are hotwords, too.
        :param joints: the ends of words in the vocabulary.
        """
        self.joints = joints
        self._children: list[dict[int, int]] = [{}]
        self._depths, self._fallbacks, self._ended = [0], [_ROOT], [0]
        self._gains: dict[_Match, _Gains] = {}
        for tokens in hotwords:
            node = self._insert(tokens)
            self._ended[node] = len(tokens)
        self._link()

    def gains(self, match: _Match) -> _Gains:
        """Return what each next token adds to the score."""
        if match not in self._gains:
            self._gains[match] = self._find_gains(match)
        return self._gains[match]

    def advance(self, match: _Match, token: int) -> tuple[_Match, int]:
        """Return the match after one more token, and what the token adds to the score."""
        goes_on = self.joints.goes_on(match.end, token)
        covered = match.covered if goes_on else self._settle(match)
        node = self._next(match.node, token, is_beginning=not goes_on)
        shown = (1 << self._depths[node]) - 1
        new = _Match(node, covered << 1 & shown, self.joints.ends[token])
        settled = covered.bit_count() - match.covered.bit_count()
        return new, settled + self._num_pending(new) - self._num_pending(match)

    def _insert(self, tokens: Sequence[int]) -> int:
        """Return the node of a sequence of tokens, made where there is none."""
        node = _ROOT
        for token in tokens:
            if token not in self._children[node]:
                self._children[node][token] = len(self._children)
                self._children.append({})
                self._depths.append(self._depths[node] + 1)
                self._fallbacks.append(_ROOT)
                self._ended.append(0)
            node = self._children[node][token]
        return node

    def _link(self) -> None:
        """Find the fallback of each node: the longest node with which its tokens end.

        The node of a single token has none; that of any other one lies on the way of its parent's.
        """
        level = list(self._children[_ROOT].items())
        while level:
            below = []
            for last, node in level:
                for token, child in self._children[node].items():
                    goes_on = self.joints.goes_on(self.joints.ends[last], token)
                    fallback = self._next(self._fallbacks[node], token, is_beginning=not goes_on)
                    self._fallbacks[child] = fallback
                    self._ended[child] = max(self._ended[child], self._ended[fallback])
                    below.append((token, child))
            level = below

    def _next(self, node: int, token: int, *, is_beginning: bool) -> int:
        """Return the longest node with which the tokens of ``node`` and ``token`` end.

        :param is_beginning: whether ``token`` is the beginning of a word.
        """
        for candidate in self._ways(node):
            if candidate == _ROOT and not is_beginning:
                break
            if token in self._children[candidate]:
                return self._children[candidate][token]
        return _ROOT

    def _ways(self, node: int) -> Iterator[int]:
        """Yield a node and its fallbacks, the root last."""
        while node != _ROOT:
            yield node
            node = self._fallbacks[node]
        yield _ROOT

    def _settle(self, match: _Match) -> int:
        """Return what is covered where the last word ends here: the hotwords that end, too."""
        return match.covered | (1 << self._ended[match.node]) - 1

    def _num_pending(self, match: _Match) -> int:
        """Return how many tokens count only if a hotword is completed."""
        return self._depths[match.node] - match.covered.bit_count()

    def _find_gains(self, match: _Match) -> _Gains:
        lost = -self._num_pending(match)
        settled = self._settle(match).bit_count() - match.covered.bit_count()
        tokens = {token for node in self._ways(match.node) for token in self._children[node]}
        after = {token: self.advance(match, token) for token in sorted(tokens)}
        exceptions = {token: gain for token, (new, gain) in after.items() if new.node != _ROOT}
        return _Gains(lost, lost + settled, exceptions)


@final
class HotwordScorer:
    """Scores the next token by what it adds to the number of tokens that hotwords cover.

    The scores of a whole text, up to EOS, sum to that number. (It is a ``search.scorers.Scorer``,
    to be added to the decoder's scores.)
    """

    def __init__(self, tree: HotwordTree, num_rows: int) -> None:
        self._tree, self._num_rows = tree, num_rows
        self._matches: list[_Match] = []

    def prefill(self) -> Tensor:
        """Begin with one empty hypothesis per row; return the scores of its first token. (N, V)."""
        self._matches = [_Match()] * self._num_rows
        return self._scores()

    def reorder(self, parents: list[int]) -> None:
        """Replace the list: new hypothesis i continues the old hypothesis ``parents[i]``."""
        self._matches = [self._matches[parent] for parent in parents]

    def step(self, tokens: list[int]) -> Tensor:
        """Append one token to each hypothesis; return the scores of the next one. (B, V)."""
        pairs = zip(self._matches, tokens, strict=True)
        self._matches = [self._tree.advance(match, token)[0] for match, token in pairs]
        return self._scores()

    def _scores(self) -> Tensor:
        gains = [self._tree.gains(match) for match in self._matches]
        going_on = self._tree.joints.going_on([match.end for match in self._matches])
        of_word = torch.tensor([float(gain.going_on) for gain in gains])[:, None]
        of_others = torch.tensor([float(gain.other) for gain in gains])[:, None]
        scores = torch.where(going_on, of_word, of_others)
        places = [(row, token) for row, gain in enumerate(gains) for token in gain.exceptions]
        if places:
            values = [value for gain in gains for value in gain.exceptions.values()]
            rows, tokens = zip(*places, strict=True)
            scores[list(rows), list(tokens)] = torch.tensor(values, dtype=scores.dtype)
        return scores
