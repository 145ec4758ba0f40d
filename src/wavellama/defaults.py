"""What is used where nothing was said."""

from __future__ import annotations

from typing import Final

DEFAULT_MODEL: Final = "wavellama_small"
"""The card of the model that ships with the package."""
