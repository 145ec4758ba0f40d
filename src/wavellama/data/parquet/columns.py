"""Which column of a parquet file means what, and what the cells of audio hold."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from wavellama.errors import DataError, UnknownLanguageError, nearest
from wavellama.text.languages import language_table


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of columns; the defaults are those of the published recipes.

    What is no column may be a folder, such as ``language=ita_Latn``.
    """

    audio: str = "audio_bytes"
    """Encoded audio: bytes, a list of bytes, or as the Hub has it, a structure with ``bytes``."""

    text: str = "text"

    samples: str = "audio_size"
    """The number of samples at 16 kHz; empty: what the audio itself says, which is slow to find."""

    language: str = "language"
    corpus: str = "corpus"
    split: str = "split"
    """Where there is neither column nor folder, a file is named after its split."""

    speaker: str = "speaker"
    words: str = "words"

    lang: str | None = None
    """The language of all rows, where nothing else says it."""

    def named(self, kind: str) -> str:
        """Return the column of languages, corpora or splits."""
        return {"lang": self.language, "corpus": self.corpus, "split": self.split}[kind]

    def check(self, path: str, known: Collection[str]) -> None:
        """Check that a file has what every file must have.

        :raises DataError: a column is missing.
        """
        for column in (self.audio, self.text, *filter(None, [self.samples])):
            if column not in known:
                near = nearest(column, known, 1)
                hint = f" Is it {near[0]}?" if near else ""
                raise DataError(
                    f"{path} has no column {column}, but {', '.join(sorted(known))}.{hint}"
                    " `dataset_config.columns` says what the columns are called."
                )

    def clean(self, kind: str, value: object) -> str:
        """Return a name as the index keeps it, languages by their published code."""
        text = as_text(value)
        if kind != "lang" or not text:
            return text
        try:
            return language_table().resolve(text)
        except UnknownLanguageError:
            return text  # some model may know it


def as_text(value: object) -> str:
    """Return what a cell of any type says, without blanks around it; nothing for no value."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return "" if value is None else str(value).strip()


def audio_bytes(cell: Any) -> bytes | None:  # noqa: ANN401
    """Return the encoded audio of a cell; None if there is none.

    :raises DataError: it is of a type that holds no encoded audio.
    """
    if not cell.is_valid:
        return None
    if hasattr(cell, "keys") and "bytes" in cell:  # a structure
        return audio_bytes(cell["bytes"])
    if hasattr(cell, "dictionary"):  # values that stand once
        return audio_bytes(cell.dictionary[cell.index.as_py()])
    if hasattr(cell, "as_buffer") and "string" not in str(cell.type):
        data: bytes = cell.as_buffer().to_pybytes()
        return data
    if str(getattr(cell.type, "value_type", None)) not in ("int8", "uint8"):
        raise DataError(f"A column of {cell.type} holds no encoded audio.")
    encoded: bytes = cell.values.to_numpy().tobytes()
    return encoded
