"""``serve``: OpenAI's speech endpoints and a page, over one model."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from wavellama.cli.pipeline_options import (
    Subparsers,
    add_examples_option,
    add_machine_options,
    add_model_options,
    add_option,
    create_pipeline,
    read_examples,
    to_options,
)
from wavellama.errors import ConfigError
from wavellama.options import declared
from wavellama.pipeline.options import DEFAULT_MODEL, TranscribeOptions

KEY_VARIABLE: Final = "WAVELLAMA_API_KEY"
"""The environment variable with API keys, separated by commas."""


def add_serve_parser(subparsers: Subparsers) -> None:
    """Add the command ``serve``."""
    parser = subparsers.add_parser(
        "serve",
        help="answer speech requests as OpenAI's servers do, and show a page",
        conflict_handler="resolve",
    )
    model = parser.add_argument_group("model")
    add_machine_options(model)
    add_model_options(model)
    parser.add_argument(
        "--model",
        dest="models",
        nargs="+",
        default=[DEFAULT_MODEL],
        metavar="CARD|DIR",
        help="model cards, or output directories of training runs; the first one serves those who"
        " name none",
    )
    _add_server_options(parser)
    _add_limits(parser)
    parser.set_defaults(run=run_serve, lang=None, languages=None)


def _add_server_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument("--host", default="127.0.0.1", help="the address to listen at (%(default)s)")
    group.add_argument("--port", type=int, default=8000, help="0: any that is free (%(default)s)")
    group.add_argument(
        "--api-key",
        action="append",
        metavar="KEY",
        help=f"needed by clients; may be repeated (default: {KEY_VARIABLE}, or none)",
    )
    group.add_argument(
        "--cors", action="append", metavar="ORIGIN", help="an origin whose pages may ask; * for all"
    )
    group.add_argument(
        "--realtime-rate",
        type=int,
        default=24_000,
        metavar="HZ",
        help="of the PCM of live sessions that do not say it (%(default)s)",
    )
    group.add_argument("--ssl-certfile", type=Path, metavar="FILE", help="serve https")
    group.add_argument("--ssl-keyfile", type=Path, metavar="FILE", help="the certificate's key")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--max-upload-mb", type=float, default=25.0, metavar="MB", help="of a file (%(default)s)"
    )
    group.add_argument(
        "--max-queue",
        type=int,
        default=64,
        metavar="N",
        help="files in work or waiting, and live sessions, at a time (%(default)s)",
    )
    add_option(group, declared(TranscribeOptions)["batch_secs"])
    add_examples_option(group)


def run_serve(args: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    options = to_options(args)
    try:
        from wavellama.server.app import create_app
        from wavellama.server.metrics import Metrics
        from wavellama.server.models import ServedModel
        from wavellama.server.run import Address, reserve, serve
        from wavellama.server.state import ServerConfig
    except ModuleNotFoundError as ex:
        raise ConfigError(
            f"The server needs the package {ex.name}: pip install 'wavellama[server]'"
        ) from ex
    config = ServerConfig(
        api_keys=_read_keys(args.api_key),
        max_upload_mb=args.max_upload_mb,
        max_queue=args.max_queue,
        cors=tuple(args.cors or ()),
        realtime_rate=args.realtime_rate,
    )
    tls = {"ssl_certfile": args.ssl_certfile, "ssl_keyfile": args.ssl_keyfile}
    address = Address(host=args.host, port=args.port, **tls)
    with reserve(address) as taken:
        examples, metrics = read_examples(args.examples), Metrics()
        models = []
        for name in dict.fromkeys(args.models):
            pipeline = create_pipeline(argparse.Namespace(**{**vars(args), "model": name}))
            pipeline.beam_search_config = options.search or pipeline.beam_search_config
            models.append(
                ServedModel(name, pipeline, options.batch_secs, examples, metrics.on_batch)
            )
            models[-1].warm_up()
        app = create_app(config, models, metrics)
        serve(app, address, taken, lambda url: _say(args.models, url))
    return 0


def _say(models: Sequence[str], url: str) -> None:
    verb = "is" if len(models) == 1 else "are"
    told = f"{' and '.join(models)} {verb} ready"
    print(f"{told}: {url}/v1 for programs, {url}/ for people.", flush=True)


def _read_keys(given: list[str] | None) -> tuple[str, ...]:
    """Return the API keys that were given, or those of the environment."""
    keys = given if given is not None else os.environ.get(KEY_VARIABLE, "").split(",")
    keys = [key.strip() for key in keys]
    if given is not None and not all(keys):
        raise ConfigError("`--api-key` is empty.")
    return tuple(filter(None, keys))
