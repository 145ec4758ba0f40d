"""Recipes by name: built in, from other packages, or by module path; and their YAML files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from wavellama.errors import ConfigError, UnknownNameError
from wavellama.plugins import load_object, registered
from wavellama.yaml_files import read_yaml

if TYPE_CHECKING:
    from fairseq2.recipe import Recipe

ENTRY_POINT_GROUP: Final = "wavellama.recipes"

BUILT_IN: Final[Mapping[str, str]] = {
    "train": "wavellama.tasks.train:AsrTraining",
    "eval": "wavellama.tasks.evaluate:AsrEvaluation",
    "transcribe": "wavellama.tasks.transcribe:AsrTranscription",
}


@dataclass(frozen=True)
class RecipeFile:
    """A YAML file that declares which recipe it is for."""

    path: Path
    recipe: str

    @property
    def summary(self) -> str:
        """The first line of the file's header comment."""
        for line in self.path.read_text("utf-8").splitlines():
            if line.startswith("# "):
                return line[2:].strip()
        return ""


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that ship with wavellama: name -> file."""
    with as_file(files("wavellama.recipes")) as folder:
        return {path.stem: path for path in sorted(folder.glob("*/*.yaml"))}


def find_recipe(name: str) -> RecipeFile:
    """Return the recipe file of that path, or the shipped one of that name.

    :raises UnknownNameError: it is neither.
    :raises ConfigError: the file does not say which recipe it is for.
    """
    path = Path(name)
    if not path.is_file():
        shipped = shipped_recipes()
        if path.suffix or name not in shipped:
            raise UnknownNameError(
                "recipe", name, shipped, " `wavellama recipe list` prints all; a file must exist."
            )
        path = shipped[name]
    recipe = read_yaml(path).get("recipe")
    if not isinstance(recipe, str):
        kinds = ", ".join(BUILT_IN)
        raise ConfigError(f"{path} must begin with `recipe:` and one of {kinds}, or module:Class.")
    return RecipeFile(path, recipe)


def load_recipe(name: str) -> Recipe:
    """Return the recipe of that name: built in, registered by a package, or ``module:Class``.

    :raises UnknownNameError: there is no such recipe.
    :raises ConfigError: it cannot be imported.
    """
    targets = {**registered(ENTRY_POINT_GROUP), **BUILT_IN}
    target = targets.get(name, name)
    if ":" not in target:
        raise UnknownNameError("kind of recipe", name, targets)
    kls = cast("type[Recipe]", load_object("recipe", name, target))
    return kls()
