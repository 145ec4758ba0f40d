"""Errors as OpenAI's clients read them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from wavellama.errors import AudioError, UnknownLanguageError, WavellamaError
from wavellama.server.scheduler import ClientGoneError

RETRY_SECS: Final = 2
"""When somebody who was turned away may ask again."""

MAX_CHARS: Final = 2_000
"""How much is told of an error, which may repeat what a client sent."""

NAMES: Final = {"lang": "language", "hotwords": "keywords"}
"""What OpenAI's clients call our options."""

_INVALID: Final = "invalid_request_error"


@dataclass
class ApiError(Exception):
    """A request that cannot be served, and what its client is told."""

    status: int
    code: str | None
    message: str
    param: str | None = None
    kind: str = _INVALID

    retry: bool | None = None
    """Whether the client should ask again; None: as the status says."""

    @property
    def record(self) -> dict[str, Any]:
        """The envelope."""
        fields = {"message": self.message[:MAX_CHARS], "type": self.kind, "param": self.param}
        return {"error": {**fields, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the envelope."""
        if self.retry is None:
            return {}
        after = {"Retry-After": str(RETRY_SECS)} if self.retry else {}
        return {"x-should-retry": str(self.retry).lower(), **after}


def invalid(param: str, message: str) -> ApiError:
    """Return the error about a field."""
    return ApiError(400, "invalid_value", message, param)


def unsupported(param: str | None, message: str) -> ApiError:
    """Return the error about what OpenAI's endpoints do and this server does not."""
    return ApiError(400, "unsupported_value", message, param)


def missing(param: str, message: str) -> ApiError:
    """Return the error about a field that must be there."""
    return ApiError(400, "missing_required_parameter", message, param)


def too_large(max_mb: float) -> ApiError:
    """Return the error about a body that is too large."""
    message = f"The body is larger than {max_mb:g} MB, which is the most that this server takes."
    return ApiError(413, "file_too_large", message, "file")


def too_slow() -> ApiError:
    """Return the error about a body of which too little comes."""
    return ApiError(408, "request_timeout", "The body comes too slowly.", "file")


def busy() -> ApiError:
    """Return the error where too many are waiting."""
    message = "Too many requests are waiting; try again in a moment."
    return ApiError(429, "rate_limit_exceeded", message, kind="rate_limit_error", retry=True)


def closing() -> ApiError:
    """Return the error where the server is about to end."""
    message = "The server is shutting down."
    return ApiError(503, "service_unavailable", message, kind="server_error", retry=True)


def unknown_model(model: str) -> ApiError:
    """Return the error about a model that is not served."""
    message = f"The model {model!r} is not served here; GET /v1/models lists those that are."
    return ApiError(404, "model_not_found", message, "model")


def bad_key() -> ApiError:
    """Return the error about a key that is wrong or missing."""
    message = "An API key is needed: `Authorization: Bearer KEY`."
    return ApiError(401, "invalid_api_key", message)


def internal() -> ApiError:
    """Return the error about a bug, which would only happen again."""
    message = "The server has met an unexpected error; its log says more."
    return ApiError(500, None, message, kind="server_error", retry=False)


def from_wavellama(ex: WavellamaError, names: Mapping[str, str] = NAMES) -> ApiError:
    """Return what is told of one of our own errors, nearly all of which the request has caused.

    :param names: what the client calls options whose names are not ours.
    """
    if isinstance(ex, ClientGoneError):
        return closing()  # a client that has left reads nothing
    if isinstance(ex, AudioError):
        return ApiError(400, "invalid_audio", str(ex), "file")
    message = re.sub(r"(?<=`)\w+", lambda found: names.get(found[0], found[0]), str(ex))
    if isinstance(ex, UnknownLanguageError):
        return invalid(names.get("lang", "lang"), message)
    named = re.search(r"(?<=`)\w+", message)
    return ApiError(400, "invalid_value", message, named[0] if named else None)
