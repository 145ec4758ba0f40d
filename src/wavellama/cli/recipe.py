"""``recipe list``, ``recipe asr VERB CONFIG`` and ``recipe run CONFIG``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wavellama.cli.interrupt import ended_by_interrupt
from wavellama.cli.pipeline_options import Subparsers
from wavellama.errors import ConfigError, UnknownNameError
from wavellama.tasks.registry import (
    BUILT_IN,
    RecipeFile,
    find_recipe,
    load_recipe,
    shipped_recipes,
)

if TYPE_CHECKING:
    from fairseq2.recipe import Recipe


def add_recipe_parser(subparsers: Subparsers) -> None:
    """Add the command ``recipe``."""
    recipe = subparsers.add_parser("recipe", help="list and run recipes (YAML files)")
    actions = recipe.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list the recipes that ship with wavellama")
    listing.set_defaults(run=list_recipes)
    asr = actions.add_parser("asr", help="run a recipe of the given kind")
    verbs = asr.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in BUILT_IN:
        _add_run_arguments(verbs.add_parser(verb, help=f"{verb} by a recipe file"), verb)
    _add_run_arguments(actions.add_parser("run", help="run a recipe of any kind"), None)


def _add_run_arguments(parser: argparse.ArgumentParser, verb: str | None) -> None:
    parser.set_defaults(run=run_recipe, verb=verb)
    parser.add_argument("config_file", metavar="CONFIG", help="a YAML file, or a shipped recipe")
    parser.add_argument(
        "--output-dir", type=Path, metavar="DIR", help="default: runs/<name of CONFIG>"
    )
    parser.add_argument(
        "--model",
        metavar="CARD|DIR",
        help="a model card, or the output directory of a training run (train: to start from)",
    )
    parser.add_argument(
        "--config",
        dest="overrides",
        nargs="*",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="values that override the file's, such as regime.num_steps=10",
    )
    parser.add_argument("--dump-config", action="store_true", help="print the configuration only")
    parser.add_argument("--no-rich", action="store_true", help="plain log, no progress bar")


def list_recipes(args: argparse.Namespace) -> int:
    """Print the shipped recipes, one per line: name, kind, what it does."""
    for name in shipped_recipes():
        recipe = find_recipe(name)
        print(f"{name:28} {recipe.recipe:11} {recipe.summary}")
    return 0


def run_recipe(args: argparse.Namespace) -> int:
    """Run the recipe that a file declares, if that is one of the verb."""
    file = find_recipe(args.config_file)
    if args.verb not in (None, file.recipe):
        right = f"asr {file.recipe}" if file.recipe in BUILT_IN else "run"
        raise ConfigError(
            f"{file.path} declares `recipe: {file.recipe}`, so `{args.verb}` cannot run it;"
            f" use `recipe {right} {args.config_file}`."
        )
    return _run(file, args)


def _run(file: RecipeFile, args: argparse.Namespace) -> int:
    """Hand over to fairseq2's own command line, and report what goes wrong in one sentence."""
    with ended_by_interrupt():
        recipe = load_recipe(file.recipe)
    output_dir = args.output_dir or Path("runs") / file.path.stem
    overrides = [*_model_overrides(args.model, file, recipe.config_kls), *args.overrides]
    options = ["--config-file", str(file.path)]
    options += ["--dump-config"] if args.dump_config else []
    options += ["--no-rich"] if args.no_rich else []
    # `--config` takes all that follows, so it comes last.
    sys.argv = [sys.argv[0], str(output_dir), *options]
    sys.argv += ["--config", *overrides] if overrides else []
    return _call_fairseq2(recipe)


def _call_fairseq2(recipe: Recipe) -> int:
    with ended_by_interrupt():
        from fairseq2.recipe import main

        from wavellama.cli.failure import describe_failure, quiet_fairseq2

    with quiet_fairseq2():
        try:
            main(recipe)
        except SystemExit as ex:
            if ex.__context__ is not None:
                print(describe_failure(ex.__context__, recipe.config_kls), file=sys.stderr)
            return ex.code if isinstance(ex.code, int) else 1
    return 0


def _model_overrides(model: str | None, file: RecipeFile, config_kls: type[object]) -> list[str]:
    """Return the configuration values that choose a model by card or run, and its tokenizer.

    :param config_kls: the configuration of the recipe, which may know no tokenizer.
    :raises ConfigError: a directory holds no checkpoint, or the model does not recognise speech, as
        the built-in recipes ask of it.
    """
    if model is None:
        return []
    with ended_by_interrupt():
        from wavellama.checkpoints.hub import check_recognises, find_model
    try:
        source = find_model(model)
    except UnknownNameError:  # of a card that the configuration brings, say; fairseq2 looks, too
        return [f"model.name={model}"]
    if file.recipe in BUILT_IN:
        check_recognises(source.family.kls)
    run = source.run
    overrides = [] if run is None else [f"common.assets.prev_checkpoint_dir={run.checkpoint_dir}"]
    overrides.append(f"model.name={model if run is None else run.checkpoint}")
    if source.tokenizer_name is not None and hasattr(config_kls(), "tokenizer"):
        overrides.append(f"tokenizer.name={source.tokenizer_name}")
    return overrides
