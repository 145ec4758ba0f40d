"""What other packages offer by entry point; nothing is imported before somebody asks for it."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Final

from wavellama.errors import ConfigError

MUST_REGISTER: Final = "WAVELLAMA_MUST_REGISTER"
"""The environment variable by which the command line says that it cannot do without wavellama."""


def registered(group: str) -> dict[str, str]:
    """Return what installed packages register under a group: name -> ``module:attribute``."""
    return {point.name: point.value for point in entry_points(group=group)}


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
