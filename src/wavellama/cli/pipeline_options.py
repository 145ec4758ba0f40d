"""The options of commands that transcribe, and what they mean for the pipeline."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from wavellama.cli.interrupt import ended_by_interrupt
from wavellama.errors import OptionError
from wavellama.files import read_lines
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.options import Option, declared
from wavellama.pipeline.options import DEFAULT_MODEL, TranscribeOptions
from wavellama.transcript.options import WriterOptions

if TYPE_CHECKING:
    from wavellama.pipeline.inference import ASRInferencePipeline
    from wavellama.pipeline.inputs import ContextExample

_NOTICE: Final = (
    f"Model: {DEFAULT_MODEL}, a small one of 13 languages; `wavellama asset list --kind model`"
    " lists those of 1,600 that `--model` downloads (docs/models.md)."
)

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

DTYPES: Final = ("float32", "bfloat16", "float16")


def flags() -> dict[str, str]:
    """Return what the command line calls the options that errors speak of."""
    known = {**declared(WriterOptions), **declared(TranscribeOptions)}
    return {name: one.flag for name, one in known.items()} | {"device": "--device"}


def add_options(group: argparse._ArgumentGroup, kls: type[Any] = TranscribeOptions) -> None:
    """Add the options of a class that belong to a group, which its title tells."""
    for one in declared(kls).values():
        if one.group == group.title:
            add_option(group, one)


def add_option(parser: argparse._ActionsContainer, one: Option, **more: Any) -> None:
    """Add one option; where nothing is said, its value is None.

    :param more: what is different from its declaration.
    """
    arguments: dict[str, Any] = {"metavar": one.metavar, "choices": one.choices}
    if one.is_switch:
        arguments = {"action": "store_true", "default": None}
    elif bool in one.types:
        arguments = {"action": argparse.BooleanOptionalAction}
    elif one.takes_several:
        arguments["type"] = _words
    elif not one.choices:
        arguments["type"] = one.types[0]
    arguments["help"] = one.help.format(one.default)
    parser.add_argument(one.flag, dest=one.name, **(arguments | more))


def add_model_options(group: argparse._ArgumentGroup) -> None:
    """Add what says with which model to work."""
    group.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="CARD|DIR",
        help="a model card, or the output directory of a training run (%(default)s)",
    )
    group.add_argument("--dtype", choices=DTYPES, help="default: bfloat16 on a GPU, else float32")
    add_options(group)


def add_machine_options(group: argparse._ArgumentGroup) -> None:
    """Add what says where to work."""
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, ...; default: a GPU if any")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")


def add_transcription_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how files are transcribed."""
    add_options(parser.add_argument_group("audio"))
    add_language_options(parser)
    for title in ("search", "results", "long audio"):
        add_options(parser.add_argument_group(title))


def add_language_options(parser: argparse.ArgumentParser) -> None:
    """Add what is known of the language."""
    group = parser.add_argument_group("language")
    add_options(group)
    add_examples_option(group)


def add_examples_option(group: argparse._ArgumentGroup) -> None:
    """Add what zero-shot models read first."""
    group.add_argument(
        "--examples",
        type=Path,
        metavar="TSV",
        help="zero-shot models: a table of audio files and their texts to read first",
    )


def to_options(args: argparse.Namespace, **more: Any) -> TranscribeOptions:
    """Return the options that were given; all others keep their defaults.

    :raises OptionError: a value is out of range.
    :raises UnknownLanguageError: a language code is not known.
    """
    known = declared(TranscribeOptions)
    said = {name: value for name, value in vars(args).items() if value is not None}
    given = {name: said[name] for name in known if name in said}
    prefix = "search."
    inner = [name for name in given if name.startswith(prefix)]
    if inner:
        fields = {name.removeprefix(prefix): given.pop(name) for name in inner}
        best = _best_search(args.model)
        fields.setdefault("nbest", max(best.nbest, given.get("nbest", 1)))
        given["search"] = replace(best, **fields)
    return TranscribeOptions(**given, **more)


def _best_search(model: str) -> Wav2Vec2LlamaBeamSearchConfig:
    """Return the search that the options of the command line change."""
    with ended_by_interrupt():
        from wavellama.checkpoints.hub import find_model

    return find_model(model).read_search()


def create_pipeline(args: argparse.Namespace) -> ASRInferencePipeline:
    """Load the model.

    :raises OptionError: there is no such device, or there are not so many threads.
    :raises UnknownLanguageError: the model does not know a language that was given.
    """
    with ended_by_interrupt():
        import torch

        from wavellama.pipeline.devices import default_device, default_dtype, find_device
        from wavellama.pipeline.inference import ASRInferencePipeline

    if args.threads is not None:
        if args.threads < 1:
            raise OptionError(f"`--threads` must be at least 1, but is {args.threads}.")
        if args.threads > (cores := os.cpu_count() or 1):
            raise OptionError(
                f"`--threads` must be at most {cores}, the cores of this machine, but is"
                f" {args.threads}."
            )
        torch.set_num_threads(args.threads)
    device = find_device(args.device) if args.device else default_device()
    dtype = getattr(torch, args.dtype) if args.dtype else default_dtype(device)
    _check_languages(args)
    if args.model == DEFAULT_MODEL:
        print(_NOTICE, file=sys.stderr)
    return ASRInferencePipeline(args.model, device=device, dtype=dtype)


def _check_languages(args: argparse.Namespace) -> None:
    """Check languages before the model is loaded; one that takes none says so itself."""
    from wavellama.checkpoints.hub import find_model

    codes = [args.lang, *(args.languages or ())]
    if any(codes):
        table = find_model(args.model).languages
        for code in codes if table else ():
            table.row(code)


def read_examples(path: Path | None) -> Sequence[ContextExample] | None:
    """Return the examples of a table (see ``read_examples_tsv``); None where there is none."""
    if path is None:
        return None
    from wavellama.pipeline.inputs import read_examples_tsv

    return read_examples_tsv(path)


def _words(text: str) -> tuple[str, ...]:
    """Return words separated by commas, or the lines of a file."""
    parts = text.split(",")
    if text.startswith("@"):
        try:
            parts = read_lines(Path(text[1:]))
        except (OSError, UnicodeDecodeError) as ex:
            raise argparse.ArgumentTypeError(f"{text[1:]} cannot be read ({ex})") from ex
    return tuple(part.strip() for part in parts if part.strip())
