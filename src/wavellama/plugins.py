"""What other packages offer by entry point; nothing is imported before somebody asks for it."""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from wavellama.errors import ConfigError

_log = logging.getLogger(__name__)

MUST_REGISTER: Final = "WAVELLAMA_MUST_REGISTER"
"""The environment variable by which the command line says that it cannot do without wavellama."""


def registered(group: str) -> dict[str, str]:
    """Return what installed packages register under a group: name -> ``module:attribute``.

    Of two packages that register one name the last one has it, which is logged.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            _warn_of_two(group, point.name, _named(other), _named(point))
        found[point.name] = point
    return {name: point.value for name, point in found.items()}


def _named(point: EntryPoint) -> str:
    return f"{point.value} of {point.dist.name}" if point.dist else point.value


@cache
def _warn_of_two(group: str, name: str, other: str, used: str) -> None:
    _log.warning(
        "Two packages register %s in %s: %s and %s, which is used.", name, group, other, used
    )


def load_object(kind: str, name: str, target: str) -> object:
    """Import what a target names.

    :param kind: what it is to be, such as ``recipe``.
    :param name: what the user called it.
    :param target: ``module:attribute``.
    :raises ConfigError: it cannot be imported, for whatever reason its package has.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except Exception as ex:
        label = target if name == target else f"{name} ({target})"
        reason = str(ex) or type(ex).__name__
        raise ConfigError(f"The {kind} {label} cannot be imported: {reason}.") from ex
