"""Parquet files as they lie: which there are, what their folders say, and their row groups.

pyarrow reads them, and fsspec opens them, on a disk or at an address (``s3://``, ``hf://``,
``memory://``). Reads are whole row groups, of the columns that are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Final, final
from urllib.parse import unquote

from fsspec.core import url_to_fs

from wavellama.errors import ConfigError, DataError

HOURS: Final = "hours.tsv"
"""The table of a data set's hours, which lies beside its folders."""

_NULL: Final = "__HIVE_DEFAULT_PARTITION__"
"""What stands in the name of a folder for no value."""

_OPEN_FILES: Final = 64
"""Files that stay open, with what is at their ends."""


@final
class ParquetFiles:
    """The parquet files below a path, in the order of their names."""

    def __init__(self, path: str) -> None:
        """:raises DataError: there is no parquet file."""
        self.path = path
        self._fs, root = _find(path)
        found = self._fs.find(root, detail=True)
        self._sizes = {name: found[name]["size"] for name in sorted(found) if _is_data(name, root)}
        self.names = list(self._sizes)
        if not self.names:
            raise DataError(f"{path} holds no parquet file (one that ends with .parquet).")
        self.open = lru_cache(_OPEN_FILES)(self._open)

    @property
    def signature(self) -> Sequence[tuple[str, int]]:
        """Names and sizes, which change when the data do."""
        return list(self._sizes.items())

    def folders(self, number: int) -> dict[str, str]:
        """Return what the folders of a file say, such as ``language=ita_Latn``."""
        parts = PurePosixPath(self.names[number]).parts[:-1]
        pairs = (part.partition("=")[::2] for part in parts if "=" in part)
        return {key: "" if value == _NULL else unquote(value) for key, value in pairs}

    def stem(self, number: int) -> str:
        """Return the name of a file without its number: ``train`` of ``train-00000-of-00005``."""
        return PurePosixPath(self.names[number]).stem.split("-", 1)[0]

    def columns(self, number: int) -> list[str]:
        """Return the names of a file's columns."""
        names: list[str] = self.open(number).schema_arrow.names
        return names

    def read(self, number: int, group: int, columns: Sequence[str]) -> Any:  # noqa: ANN401
        """Return a table of some columns of a row group.

        :raises DataError: the file is damaged, or cannot be read.
        """
        with self._reading(number):
            return self.open(number).read_row_group(group, columns=list(columns))

    def _open(self, number: int) -> Any:  # noqa: ANN401
        from pyarrow.parquet import ParquetFile

        with self._reading(number):
            return ParquetFile(self._fs.open(self.names[number]))

    @contextmanager
    def _reading(self, number: int) -> Iterator[None]:
        from pyarrow import ArrowException

        try:
            yield
        except (ArrowException, OSError) as ex:
            raise DataError(f"{self.names[number]} cannot be read: {ex}") from ex


def holds_parquet(path: Path) -> bool:
    """Tell whether a path is a parquet file, or a folder of them and of no manifest."""
    if path.suffix == ".parquet":
        return True
    tables = {file.name for pattern in ("*.tsv", "*.jsonl") for file in path.glob(pattern)}
    return tables <= {HOURS} and any(path.rglob("*.parquet"))


def need_pyarrow() -> None:
    """Raise a ConfigError where pyarrow is not installed."""
    if find_spec("pyarrow") is None:
        raise ConfigError(
            "Parquet data sets need the package pyarrow: pip install 'wavellama[parquet]'."
        )


def _find(path: str) -> tuple[Any, str]:
    """Return the file system of a path and the path there.

    :raises ConfigError: a package is missing that reads such addresses, or parquet at all.
    :raises DataError: there is nothing at the path.
    """
    need_pyarrow()
    try:
        fs, root = url_to_fs(path)
    except (ImportError, ValueError) as ex:
        raise ConfigError(f"{path} cannot be opened: {ex}") from ex
    if not fs.exists(root):
        raise DataError(f"{path} does not exist.")
    return fs, root


def _is_data(name: str, root: str) -> bool:
    parts = PurePosixPath(name.removeprefix(root)).parts
    return name.endswith(".parquet") and not any(part.startswith((".", "_")) for part in parts)
