"""A search between two steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Generic, TypeVar

from typing_extensions import Self

from wavellama.search.types import Hypothesis

RowT = TypeVar("RowT")


class SearchRun(ABC, Generic[RowT]):
    """Rows that are searched together; those that have ended leave. Between steps others may join,
    and any may leave.

    Rows are numbered in the order in which they came. What is found in one does not depend on the
    others.
    """

    def __init__(self, rows: list[RowT]) -> None:
        self.rows, self.num_begun = rows, len(rows)

    @abstractmethod
    def step(self) -> dict[int, list[Hypothesis]]:
        """Let all rows go on by a token at least; return what was found in those that have ended.

        :returns: hypotheses, best first, by the number of the row.
        :raises ConfigError: the constraints leave a row no token.
        :raises DecodingError: the decoder or a scorer produced NaN.
        """

    @abstractmethod
    def join(self, other: Self) -> None:
        """Take over the rows of another search, which asks the same of the same model.

        Both have rows that have not ended. The other one's are numbered on from its own.
        """

    @abstractmethod
    def leave(self, numbers: Collection[int]) -> None:
        """Forget rows before they have ended; no step is taken for them any more."""

    def finish(self) -> list[list[Hypothesis]]:
        """Return the hypotheses of each row once all have ended, best first."""
        results: dict[int, list[Hypothesis]] = {}
        while self.rows:
            results |= self.step()
        return [results[number] for number in range(self.num_begun)]
