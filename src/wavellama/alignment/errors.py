"""Why a text cannot be aligned with audio."""

from __future__ import annotations

from wavellama.errors import WavellamaError


class AlignmentError(WavellamaError):
    """The text does not fit the audio, or the model cannot tell."""

    exit_code = 1
