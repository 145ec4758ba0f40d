"""The page for people: files of this package, which ask nothing of other servers."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import PurePath
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

POLICY: Final = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'"),
        *("connect-src 'self'", "media-src blob:", "base-uri 'none'", "form-action 'none'"),
        "frame-ancestors 'none'",
    )
)
"""What the page may load: files of this server, and audio that its user has given it."""

HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


async def show_page(request: Request) -> Response:
    """Answer with a file of the page."""
    name = request.path_params.get("name", "index.html")
    if name not in page_files():
        raise HTTPException(404)
    headers = {**HEADERS, "content-type": TYPES[PurePath(name).suffix]}
    return Response(page_files()[name], headers=headers)


@lru_cache(maxsize=1)
def page_files() -> dict[str, bytes]:
    """Return the files of the page by their names."""
    folder = files("wavellama.server") / "page"
    return {file.name: file.read_bytes() for file in folder.iterdir()}
