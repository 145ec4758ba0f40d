"""Names of things that there were never before."""

from __future__ import annotations

import uuid


def new_id(kind: str) -> str:
    """Return the id of a session, an item or an event."""
    return f"{kind}_{uuid.uuid4().hex[:24]}"
