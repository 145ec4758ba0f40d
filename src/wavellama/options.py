"""Options: each is declared once, and its checks, its flag and its key in YAML derive from that.

A class of options is a dataclass. A field's name, type and default say most of an option, and
``option`` adds the rest; ``declared`` reads all of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from math import inf
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Any,
    Final,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from wavellama.errors import BatchError, ConfigError, ConfigKeyError, OptionError

OptionsT = TypeVar("OptionsT")

_KEY: Final = "option"


@dataclass(frozen=True, kw_only=True)
class Option:
    """All that is known of an option."""

    name: str = ""
    """The name of its field; of an option of options as ``search.nbest``."""

    types: tuple[Any, ...] = ()
    """What its value may be; the first is what the command line makes of a text."""

    default: object = None
    group: str | None = None
    """The heading under which the command line offers it; None: not at all."""

    help: str = ""
    """What the command line says of it; braces stand for the default."""

    metavar: str | None = None
    flag: str = ""
    """What the command line calls it; by default as the field, with hyphens and ``seconds``."""

    is_switch: bool = False
    """Whether there is no flag that switches it off."""

    is_pace: bool = False
    """Whether it changes how soon something is known, not what."""

    low: float = -inf
    high: float = inf

    @property
    def choices(self) -> tuple[str, ...] | None:
        """The only values, where there are few."""
        return get_args(self.types[0]) if get_origin(self.types[0]) is Literal else None

    @property
    def takes_several(self) -> bool:
        """Whether its value is a tuple of strings."""
        return get_origin(self.types[0]) is tuple

    def adapt(self, value: Any) -> Any:  # noqa: ANN401
        """Return a value as it is kept: scalars of NumPy, paths and lists as Python's own."""
        value = value.item() if getattr(value, "shape", None) == () else value
        if isinstance(value, str):
            return Path(value) if self.types[0] is Path else value
        if isinstance(value, os.PathLike) and Path in self.types:
            return Path(value)
        return tuple(value) if self.takes_several and isinstance(value, Iterable) else value

    def find_fault(self, value: Any) -> str | None:  # noqa: ANN401
        """Return what is wrong with a value, in one sentence."""
        if not any(_fits(value, kind) for kind in self.types):
            if self.takes_several:
                hint = f": write {[value]!r}" if isinstance(value, str) else ""
                return f"`{self.name}` takes several strings, but is {value!r}{hint}."
            names = " or ".join(map(_describe, self.types))
            return f"`{self.name}` must be {names}, but is {value!r}."
        low, high = self.low, self.high
        if low > -inf and isinstance(value, int | float) and not low <= value <= high:
            span = f"be at least {low:g}" if high == inf else f"lie between {low:g} and {high:g}"
            return f"`{self.name}` must {span}, but is {value}."
        return None


def _fits(value: object, kind: Any) -> bool:  # noqa: ANN401
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def _describe(kind: Any) -> str:  # noqa: ANN401
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    return "None" if kind is NoneType else str(kind.__name__)


def option(default: object, group: str | None = None, help: str = "", **more: Any) -> Any:  # noqa: ANN401
    """Return the field of an option; ``more`` are fields of ``Option``."""
    return field(default=default, metadata={_KEY: Option(group=group, help=help, **more)})


def declared(kls: type[Any]) -> dict[str, Option]:
    """Return the options of a class by name, and after each of them those that it holds."""
    found: dict[str, Option] = {}
    hints = get_type_hints(kls)
    for one in fields(kls):
        hint = hints[one.name]
        types = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        known: Option = one.metadata.get(_KEY, Option())
        flag = f"--{one.name.replace('_', '-').replace('-secs', '-seconds')}"
        found[one.name] = replace(
            known, name=one.name, types=types, default=one.default, flag=known.flag or flag
        )
        for kind in filter(is_dataclass, types):
            for inner in declared(cast("type[Any]", kind)).values():
                name = f"{one.name}.{inner.name}"
                found[name] = replace(inner, name=name)
    return found


def find_faults(options: object) -> Iterator[str]:
    """Put each value of options into the form that is kept; yield what is wrong with those."""
    for name, one in declared(type(options)).items():
        if "." not in name:
            value = one.adapt(getattr(options, name))
            object.__setattr__(options, name, value)
            if fault := one.find_fault(value):
                yield fault


def refuse(faults: Iterable[str], key: str | None = None) -> None:
    """Refuse options that have faults.

    :param key: what holds the options, such as ``search``.
    :raises OptionError: there is a fault; the error says the first.
    """
    for fault in faults:
        raise OptionError(fault if key is None else _rename(fault, lambda name: f"{key}.{name}"))


def check_value(name: str, value: object, *types: type[object], low: float = -inf) -> Any:  # noqa: ANN401
    """Return the value of an argument as it is kept.

    :raises OptionError: it is none of ``types``, or less than ``low``.
    """
    one = Option(name=name, types=types, low=low)
    value = one.adapt(value)
    refuse(filter(None, [one.find_fault(value)]))
    return value


def read_options(kls: type[OptionsT], value: object, key: str) -> OptionsT:
    """Return the options that a mapping of a YAML file gives; errors name its keys.

    :param key: where the mapping stands in the file.
    :raises ConfigKeyError: nothing reads a key.
    :raises ConfigError: it is no mapping, or a value cannot be.
    """
    if isinstance(value, kls):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(f"`{key}` must have keys and values, but is {value!r}.")
    known, given = declared(kls), dict(value)
    own = [name for name in known if "." not in name]
    for name, inner in given.items():
        if name not in own:
            raise ConfigKeyError(str(name), f"`{key}`", own)
        for kind in filter(is_dataclass, known[name].types if inner is not None else ()):
            given[name] = read_options(cast("type[object]", kind), inner, f"{key}.{name}")
    with named({name: f"{key}.{name}" for name in known}):
        return kls(**given)


@contextmanager
def named(names: Mapping[str, str]) -> Iterator[None]:
    """Let errors call options as users do: by a flag, or a key in YAML.

    :param names: what the options are called, by the names of their fields.
    :raises ConfigError: in place of an ``OptionError``.
    :raises BatchError: in place of one that uses names of fields.
    """
    try:
        yield
    except (BatchError, OptionError) as ex:
        kind = BatchError if isinstance(ex, BatchError) else ConfigError
        raise kind(_rename(str(ex), lambda name: names.get(name, name))) from None


def _rename(text: str, name_of: Any) -> str:  # noqa: ANN401
    return re.sub(r"(?<=`)[a-z][a-z_.]*(?=[` ])", lambda match: name_of(match[0]), text)
