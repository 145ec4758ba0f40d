"""The server as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from wavellama.server.auth import AuthMiddleware
from wavellama.server.errors import ApiError, internal
from wavellama.server.metrics import CONTENT_TYPE, Metrics, MetricsMiddleware
from wavellama.server.models import ServedModel
from wavellama.server.page import show_page
from wavellama.server.realtime.endpoint import realtime
from wavellama.server.state import ServerConfig, ServerState, state_of
from wavellama.server.transcriptions import transcribe, translate
from wavellama.text.tags import script_name, two_letter_code


def create_app(config: ServerConfig, models: Iterable[ServedModel], metrics: Metrics) -> Starlette:
    """Return the application, which closes the models when it ends.

    :param models: the first one is that of requests that name none.
    """
    state = ServerState(config, {model.name: model for model in models}, metrics)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        state.close()

    app = Starlette(
        routes=_routes(),
        middleware=_middleware(config, metrics),
        exception_handlers={ApiError: _tell, HTTPException: _tell_http, Exception: _tell_bug},
        lifespan=lifespan,
    )
    app.state.server = state
    return app


def _routes() -> list[BaseRoute]:
    return [
        Route("/", show_page),
        Route("/page/{name}", show_page),
        Route("/health", _health),
        Route("/metrics", _metrics),
        Route("/v1/audio/transcriptions", transcribe, methods=["POST"]),
        Route("/v1/audio/translations", translate, methods=["POST"]),
        Route("/v1/models", _list_models),
        Route("/v1/models/{name:path}", _show_model),
        Route("/v1/languages", _list_languages),
        WebSocketRoute("/v1/realtime", realtime),
    ]


def _middleware(config: ServerConfig, metrics: Metrics) -> list[Middleware]:
    """Return what each request goes through; origins first, so that refusals can be read, too."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=config.cors,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=["Retry-After", "x-should-retry"],
    )
    return [
        Middleware(MetricsMiddleware, metrics=metrics),
        *([cors] if config.cors else []),
        Middleware(AuthMiddleware, keys=config.api_keys),
    ]


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _metrics(request: Request) -> Response:
    body = state_of(request).metrics.text()
    return Response(body, headers={"content-type": CONTENT_TYPE})


async def _list_models(request: Request) -> Response:
    state = state_of(request)
    records = [_model_record(model, state.created) for model in state.models.values()]
    return JSONResponse({"object": "list", "data": records})


async def _show_model(request: Request) -> Response:
    state = state_of(request)
    model = state.find_model(request.path_params["name"])
    return JSONResponse(_model_record(model, state.created))


def _model_record(model: ServedModel, created: int) -> dict[str, Any]:
    """Return what is told of a model; the last field is ours."""
    record = {"id": model.name, "object": "model", "created": created, "owned_by": "wavellama"}
    return {**record, "num_beams": model.num_beams}


async def _list_languages(request: Request) -> Response:
    """Tell the languages that a model can be told, which OpenAI's endpoints do not."""
    model = state_of(request).find_model(request.query_params.get("model"))
    table = model.languages
    rows = [table.lookup.describe(code) for code in table] if table is not None else []
    records = [
        {
            "code": row.code,
            "name": row.name,
            "short": two_letter_code(row.code.split("_")[0]),
            "script": script_name(row.script) if row.script else "",
        }
        for row in rows
    ]
    return JSONResponse({"object": "list", "model": model.name, "data": records})


async def _tell(request: Request, ex: Exception) -> Response:
    assert isinstance(ex, ApiError)
    return JSONResponse(ex.record, ex.status, ex.headers)


async def _tell_http(request: Request, ex: Exception) -> Response:
    """Put what the framework refuses, such as an unknown path, into the envelope."""
    assert isinstance(ex, HTTPException)
    error = ApiError(ex.status_code, None, f"{ex.detail}: {request.method} {request.url.path}")
    return JSONResponse(error.record, ex.status_code, ex.headers)


async def _tell_bug(request: Request, ex: Exception) -> Response:
    return JSONResponse(internal().record, 500, internal().headers)
