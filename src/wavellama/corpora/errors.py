"""Why a clip does not enter a corpus."""

from __future__ import annotations


class RejectedClipError(Exception):
    """A clip is not good enough; ``reason`` is the same short text for all clips alike."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)
