"""The commands ``wavellama`` and ``fairseq2``. Parsing imports neither torch nor fairseq2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

import wavellama
from wavellama.cli.archive import add_archive_parser
from wavellama.cli.asset import add_asset_parser
from wavellama.cli.calibrate import add_calibrate_parser
from wavellama.cli.data import add_data_parser
from wavellama.cli.languages import add_languages_parser
from wavellama.cli.live import add_live_parser
from wavellama.cli.pipeline_options import flags
from wavellama.cli.recipe import add_recipe_parser
from wavellama.cli.serve import add_serve_parser
from wavellama.cli.streams import flush_output, prepare_streams
from wavellama.cli.transcribe import add_transcribe_parser
from wavellama.errors import WavellamaError
from wavellama.options import named
from wavellama.plugins import MUST_REGISTER


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code: 0, 1 (it failed) or 2 (it was asked wrongly)."""
    os.environ[MUST_REGISTER] = "1"
    prepare_streams()
    if not sys.stderr.isatty():  # where rich ends each progress bar with an empty line
        os.environ.setdefault("FAIRSEQ2_NO_PROGRESS", "1")
    sys.exit(flush_output(_run(argv)))


def _run(argv: Sequence[str] | None) -> int:
    """Run a command; return its exit code, after a sentence on what went wrong."""
    try:
        args = create_parser().parse_args(argv)
    except SystemExit as ex:  # after --help, --version, or a wrong option
        return int(ex.code or 0)
    command: Callable[[argparse.Namespace], int] = args.run
    try:
        with named(flags()):
            return command(args)
    except WavellamaError as ex:
        print(f"error: {ex}", file=sys.stderr)
        return ex.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0
    except OSError as ex:
        print(f"error: {ex}", file=sys.stderr)
        return 1
    except Exception as ex:
        print(_describe(ex), file=sys.stderr)
        return 1


def _describe(ex: Exception) -> str:
    """Return one sentence on an error of fairseq2 that a user can mend; pass on all others."""
    from wavellama.cli.failure import describe_failure, is_foreseen

    if not is_foreseen(ex):
        raise ex
    return describe_failure(ex)


def create_parser() -> argparse.ArgumentParser:
    """Create the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="wavellama", description="Wav2Vec2-Llama speech recognition: train, eval, transcribe."
    )
    parser.add_argument("--version", action="version", version=wavellama.__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_transcribe_parser(subparsers)
    add_live_parser(subparsers)
    add_serve_parser(subparsers)
    add_archive_parser(subparsers)
    add_recipe_parser(subparsers)
    add_asset_parser(subparsers)
    add_languages_parser(subparsers)
    add_data_parser(subparsers)
    add_calibrate_parser(subparsers)
    return parser
