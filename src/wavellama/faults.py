"""Configurations that fairseq2 checks; importing them imports no fairseq2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairseq2.utils.validation import ValidationResult


class Checked:
    """A configuration that can say what is wrong with it; fairseq2 asks by ``validate``."""

    def find_faults(self) -> Iterator[str]:
        """Yield what is wrong with the values, a sentence each."""
        raise NotImplementedError

    def validate(self) -> ValidationResult:
        """Return all faults, for fairseq2."""
        from fairseq2.utils.validation import ValidationResult

        result = ValidationResult()
        for fault in self.find_faults():
            result.add_error(fault)
        return result
