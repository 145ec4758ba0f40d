"""YAML as fairseq2 reads it (version 1.2), through PyYAML.

PyYAML by itself reads YAML 1.1: there ``no``, the language code of Norwegian, is false, and
``1e-5`` is a text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Any, Final

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

from wavellama.errors import ConfigError

_PREFIX: Final = "tag:yaml.org,2002:"

_BOOL = ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF")
_INT = ("int", r"[-+]?(0b[01_]+|0o?[0-7_]+|[0-9][0-9_]*|0x[0-9a-fA-F_]+)", "-+0123456789")
_FLOAT = (
    "float",
    r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "-+0123456789.",
)
_NULL = ("null", r"~|null|Null|NULL|", "~nN\0")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads plain data alone, by the rules of YAML 1.2; refuses a key that stands twice."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping, of whose keys each stands there once."""
        seen: set[object] = set()
        for key_node, _ in node.value if isinstance(node, MappingNode) else ():
            if isinstance(key_node, ScalarNode) and key_node.tag != f"{_PREFIX}merge":
                key = self.construct_object(key_node)
                if key in seen:
                    raise ConstructorError(None, None, f"{key!r} stands twice", key_node.start_mark)
                seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Quotes what a reader of YAML 1.1 or 1.2 would take for something else than a text."""


def _construct_int(loader: _Loader, node: Node) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    digits = text.lstrip("-+")
    base = {"0b": 2, "0o": 8, "0x": 16}.get(digits[:2], 10)
    return int(text, base)


def _declare_types() -> None:
    inherited = yaml.SafeLoader.yaml_implicit_resolvers
    kept = {f"{_PREFIX}merge", f"{_PREFIX}timestamp"}
    _Loader.yaml_implicit_resolvers = {
        first: [pair for pair in pairs if pair[0] in kept] for first, pairs in inherited.items()
    }
    for name, pattern, first in (_BOOL, _FLOAT, _INT, _NULL):
        compiled = re.compile(f"^(?:{pattern})$")
        chars = ["" if char == "\0" else char for char in first]
        for kind in (_Loader, _Dumper):
            kind.add_implicit_resolver(f"{_PREFIX}{name}", compiled, chars)
    _Loader.add_constructor(f"{_PREFIX}int", _construct_int)


_declare_types()


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; it is empty if the file is.

    :raises ConfigError: the file is not valid YAML, not UTF-8, or holds something else.
    :raises OSError: it cannot be read.
    """
    documents = read_documents(path)
    content = documents[0] if documents else {}
    if len(documents) > 1 or not isinstance(content, dict):
        raise ConfigError(f"{path} must hold one mapping of keys to values.")
    return content


def read_documents(path: Path) -> list[object]:
    """Return the documents of a YAML file; a byte-order mark is passed over.

    :raises ConfigError: the file is not valid YAML, or not UTF-8.
    :raises OSError: it cannot be read.
    """
    try:
        return list(yaml.load_all(path.read_text("utf-8-sig"), _Loader))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as ex:
        raise ConfigError(f"{path} is not a valid YAML file: {' '.join(str(ex).split())}") from ex


def write_yaml(content: object, output: IO[str]) -> None:
    """Write plain data as one YAML document, its keys in the order that they have."""
    yaml.dump(content, output, _Dumper, sort_keys=False, allow_unicode=True)
