"""Options that are declared once: checks, flags and keys of classes that nobody has seen before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from wavellama.errors import BatchError, ConfigError, OptionError
from wavellama.options import declared, find_faults, named, option, read_options, refuse


@dataclass(kw_only=True)
class Oven:
    """Options of options."""

    degrees: int = option(180, "heat", "how hot ({})", flag="--heat", low=0, high=300)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Options of which each is declared once."""

    rest_secs: float = option(60.0, "time", "before it is baked ({:g})", low=0.0)
    flour: Literal["rye", "wheat"] = option("rye", "dough")
    oven: Oven | None = None

    def __post_init__(self) -> None:
        refuse(find_faults(self))
        if self.oven is not None:
            refuse(find_faults(self.oven), "oven")


def test_flags_derive_from_names_unless_declared() -> None:
    flags = {name: one.flag for name, one in declared(Recipe).items()}
    assert flags == {
        "rest_secs": "--rest-seconds",
        "flour": "--flour",
        "oven": "--oven",
        "oven.degrees": "--heat",
    }
    assert declared(Recipe)["flour"].choices == ("rye", "wheat")


def test_options_are_read_from_a_mapping() -> None:
    given = {"flour": "wheat", "oven": {"degrees": 220}}
    assert read_options(Recipe, given, "recipe") == Recipe(flour="wheat", oven=Oven(degrees=220))
    assert read_options(Recipe, {"oven": None}, "recipe") == Recipe()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"flour": "oat"}, "`recipe.flour` must be rye or wheat, but is 'oat'"),
        ({"rest_secs": -1}, "`recipe.rest_secs` must be at least 0, but is -1"),
        (
            {"oven": {"degrees": 999}},
            "`recipe.oven.degrees` must lie between 0 and 300",
        ),
        (
            {"oven": {"degree": 9}},
            "`recipe.oven` has an unknown key `degree`. Did you mean",
        ),
        ({"oven.degrees": 9}, "`recipe` has an unknown key `oven.degrees`"),
        ({5: 9}, "`recipe` has an unknown key `5`"),
        ("rye", "`recipe` must have keys and values, but is 'rye'"),
    ],
)
def test_errors_name_the_key(given: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_options(Recipe, given, "recipe")


@pytest.mark.parametrize(("raised", "kind"), [(OptionError, ConfigError), (BatchError, BatchError)])
def test_errors_name_options_as_users_do_and_nothing_else(
    raised: type[Exception], kind: type[Exception]
) -> None:
    names = {name: one.flag for name, one in declared(Recipe).items()}
    message = r"^`--heat 9` and `--rest-seconds` and `degrees`, 'flour'$"
    with pytest.raises(kind, match=message), named(names):
        raise raised("`oven.degrees 9` and `rest_secs` and `degrees`, 'flour'")
