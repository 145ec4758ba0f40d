"""Configurations that fairseq2 checks; importing them imports no fairseq2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field, fields
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from fairseq2.utils.validation import ValidationResult


_INTERVAL: Final = "interval"


def within(interval: str, default: float | None) -> Any:  # noqa: ANN401
    """Return the field of a number that lies in an interval, such as ``[0, 1)``, or is None."""
    return field(default=default, metadata={_INTERVAL: interval})


class Checked:
    """A configuration that can say what is wrong with it; fairseq2 asks by ``validate``."""

    def find_faults(self) -> Iterator[str]:
        """Yield what is wrong with the values, a sentence each: here, numbers not ``within``."""
        for one in fields(cast(Any, self)):
            interval, value = one.metadata.get(_INTERVAL), getattr(self, one.name)
            if interval is not None and value is not None and not _holds(interval, value):
                least = interval[1:].removesuffix(", inf)")
                span = f"lie in {interval}" if "," in least else f"be at least {least}"
                yield f"`{one.name}` must {span}: {value:g}."

    def validate(self) -> ValidationResult:
        """Return all faults, for fairseq2."""
        from fairseq2.utils.validation import ValidationResult

        result = ValidationResult()
        for fault in self.find_faults():
            result.add_error(fault)
        return result


def _holds(interval: str, value: float) -> bool:
    low, high = map(float, interval[1:-1].split(","))
    is_above = value > low if interval.startswith("(") else value >= low
    return is_above and (value < high if interval.endswith(")") else value <= high)
