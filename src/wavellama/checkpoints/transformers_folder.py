"""A folder as Hugging Face Transformers saves it, or a snapshot of its hub, in place of a card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from struct import pack
from tempfile import TemporaryDirectory
from typing import Any, Final

from fairseq2.assets import AssetCard
from fairseq2.data.tokenizers import Tokenizer
from fairseq2.data.tokenizers.char import load_char_tokenizer

from wavellama.checkpoints.transformers_layout import NUM_RESERVED, ours_of
from wavellama.errors import ConfigError
from wavellama.text.languages import languages

TOKENIZER_FAMILY: Final = "transformers_tokenizer"
"""The tokenizer family of ``tokenizer.json``."""

_FAMILIES: Final = {"omniasr": "wav2vec2_llama", "omniasr_ctc": "wav2vec2_asr"}

LANGUAGE_TOKEN: Final = "<|lang:{}|>"
"""How the tokenizer spells a language, in lower case."""

NO_LANGUAGE: Final = LANGUAGE_TOKEN.format("auto")

_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3
"""Kinds of pieces of sentencepiece."""

_CONTROLS: Final = ("<s>", "<pad>", "</s>")


def is_transformers_folder(folder: Path) -> bool:
    """Tell whether a folder holds a model in Transformers' form, of whatever kind."""
    return (folder / "config.json").is_file()


def read_transformers_folder(folder: Path) -> AssetCard:
    """Return a card of the model in a folder.

    :raises ConfigError: it is of a kind that is not known here, or asks for what ours do not have.
    """
    config = _read(folder / "config.json")
    kind = config.get("model_type")
    if kind not in _FAMILIES:
        raise ConfigError(
            f"{folder} holds a model of Transformers of the kind {kind}, and those that are read"
            f" are {' and '.join(_FAMILIES)}."
        )
    tokenizer = folder / "tokenizer.json"
    try:
        ours = ours_of(config)
        if kind == "omniasr":
            ours["languages"] = _find_languages(
                _read(tokenizer), ours["llama_config"]["vocab_size"]
            )
    except ConfigError as ex:
        raise ConfigError(f"The model in {folder} is not read: {ex}") from None
    fields: dict[str, object] = {
        "model_family": _FAMILIES[kind],
        "model_config": ours,
        "checkpoint": str(folder.resolve()),
    }
    if tokenizer.is_file():
        fields |= {"tokenizer_family": TOKENIZER_FAMILY, "tokenizer": str(tokenizer.resolve())}
    return AssetCard(folder.resolve().name, fields)


def load_tokenizer_json(path: Path, config: None) -> Tokenizer:
    """Load the tokenizer of a ``tokenizer.json``; texts are spelled as there, spaces included.

    :raises ConfigError: it is not a table of pieces with scores.
    """
    model = _read(path).get("model", {})
    if model.get("type") != "Unigram":
        raise ConfigError(f"{path} is of the type {model.get('type')}, and Unigram is read.")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.model"
        file.write_bytes(_to_sentencepiece(model["vocab"], model["unk_id"]))
        return load_char_tokenizer(file, None)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as ex:
        raise ConfigError(f"{path} cannot be read ({ex}).") from None
    return content if isinstance(content, dict) else {}


def _find_languages(tokenizer: Mapping[str, Any], vocab_size: int) -> list[str] | None:
    """Return the codes of a model's languages, by their rows; None for the published ones."""
    tokens = {token["id"]: token["content"] for token in tokenizer.get("added_tokens", ())}
    first = vocab_size + NUM_RESERVED
    before, after = LANGUAGE_TOKEN.split("{}")
    if tokens.get(first) != NO_LANGUAGE:
        raise ConfigError(f"token {first} of its tokenizer is not {NO_LANGUAGE}.")
    codes = [
        _restore_case(token.removeprefix(before).removesuffix(after))
        for row, token in sorted(tokens.items())
        if row > first
    ]
    return None if codes == list(languages()) else codes


def _restore_case(code: str) -> str:
    """Return a code in the case in which codes are written: scripts begin with a capital."""
    published = {known.lower(): known for known in languages()}
    parts = [part.title() if len(part) == 4 else part for part in code.split("_")]
    return published.get(code, "_".join(parts))


def _to_sentencepiece(vocab: list[tuple[str, float]], unk_id: int) -> bytes:
    """Return a sentencepiece model of pieces with scores; it reads several spaces as one."""
    kinds = {unk_id: _UNKNOWN} | {i: _CONTROL for i, (p, _) in enumerate(vocab) if p in _CONTROLS}
    pieces = (
        _bytes(1, piece.encode()) + b"\x15" + pack("<f", score) + _number(3, kinds.get(i, _NORMAL))
        for i, (piece, score) in enumerate(vocab)
    )
    trainer = _number(3, 1) + b"".join(_ids(vocab, unk_id))
    plain = _bytes(1, b"identity") + _number(3, 0) + _number(5, 0)
    return b"".join(_bytes(1, p) for p in pieces) + _bytes(2, trainer) + _bytes(3, plain)


def _ids(vocab: list[tuple[str, float]], unk_id: int) -> Iterator[bytes]:
    """Yield the fields of the ids of the unknown token, of beginning, end and padding."""
    names = [piece for piece, _ in vocab]
    yield _number(40, unk_id)
    for field, piece in ((41, "<s>"), (42, "</s>"), (43, "<pad>")):
        yield _number(field, names.index(piece) if piece in names else (1 << 64) - 1)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    low = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(part | 0x80 for part in low[:-1]), low[-1]])
