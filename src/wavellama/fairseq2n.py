"""Takes the place of ``fairseq2n``, fairseq2's native package, where that is not installed.

fairseq2n has wheels for few platforms and one version of torch. Nothing here uses more of it than
its tokenizers, which are below, written with the package ``sentencepiece``, and a log that can be
done without. All else that fairseq2 imports from it (its data pipeline, its decoders of audio and
images) says what is missing when it is called.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from wavellama.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_PACKAGE: Final = "fairseq2n"
_BINDINGS: Final = (
    "memory",
    "data.audio",
    "data.image",
    "data.data_pipeline",
    "data.text.converters",
    "data.text.sentencepiece",
    "data.text.text_reader",
)


def ensure_fairseq2n() -> None:
    """Let fairseq2 be imported where ``fairseq2n`` is not installed; do nothing where it is.

    fairseq2 finds the modules below as if they had been imported before.
    """
    if sys.modules.get(_PACKAGE) or find_spec(_PACKAGE):
        return
    names = (f"{_PACKAGE}.bindings", *(f"{_PACKAGE}.bindings.{name}" for name in _BINDINGS))
    for name in (_PACKAGE, *names):
        sys.modules[name] = _Substitute(name, __doc__)


class _Substitute(ModuleType):
    """A module in which everything is found, and little works."""

    DOC_MODE = False
    __version__ = "not installed"

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.endswith("Error"):
            return type(name, (Exception,), {})
        return _PARTS.get(name) or _Missing(name, (), {})


class _Missing(type):
    """A class or function that the native package alone has."""

    def __call__(cls, *args: object, **kwargs: object) -> NoReturn:
        refuse(cls.__name__)


def refuse(what: str) -> NoReturn:
    """Say that something needs the native package, and where there is one.

    :raises ConfigError: always.
    """
    raise ConfigError(
        f"{what} is in fairseq2's native package fairseq2n, which is not installed; it exists for"
        " Linux on x86-64 and for Macs with Apple's processors, Python 3.10-3.12, torch 2.9.1."
    )


class SentencePieceModel:
    """A model of sentencepiece; pieces have indices from 0 on."""

    def __init__(self, path: Path, control_symbols: Sequence[str] | None = None) -> None:
        """:raises RuntimeError: the file cannot be read, or holds no model.
        :raises ConfigError: there are ``control_symbols``.
        """
        from sentencepiece import SentencePieceProcessor

        if control_symbols:
            refuse("A tokenizer with control symbols")
        self.pieces: Any = SentencePieceProcessor()
        try:
            self.pieces.LoadFromSerializedProto(Path(path).read_bytes())
        except OSError as ex:
            raise RuntimeError(f"{path} cannot be read: {ex}") from ex

    def token_to_index(self, token: str) -> int:
        """Return the index of a piece, or of the unknown one."""
        return int(self.pieces.piece_to_id(token))

    def index_to_token(self, idx: int) -> str:
        """Return the piece at an index.

        :raises ValueError: there is none.
        """
        if not 0 <= idx < self.vocabulary_size:
            raise ValueError(f"There are {self.vocabulary_size} pieces, and none at {idx}.")
        return str(self.pieces.id_to_piece(idx))

    @property
    def unk_idx(self) -> int | None:
        """The index of the unknown piece."""
        return _if_any(self.pieces.unk_id())

    @property
    def bos_idx(self) -> int | None:
        """The index of the piece that begins a text, if there is one."""
        return _if_any(self.pieces.bos_id())

    @property
    def eos_idx(self) -> int | None:
        """The index of the piece that ends a text, if there is one."""
        return _if_any(self.pieces.eos_id())

    @property
    def pad_idx(self) -> int | None:
        """The index of the piece that fills up, if there is one."""
        return _if_any(self.pieces.pad_id())

    @property
    def vocabulary_size(self) -> int:
        """The number of pieces."""
        return int(self.pieces.piece_size())


def _if_any(idx: int) -> int | None:
    return None if idx < 0 else idx


class SentencePieceEncoder:
    """Encodes a text as the indices of its pieces, with given ones before and after them."""

    def __init__(
        self,
        model: SentencePieceModel,
        prefix_tokens: Sequence[str] | None = None,
        suffix_tokens: Sequence[str] | None = None,
        *,
        device: torch.device | None = None,
        pin_memory: bool = False,
    ) -> None:
        self._model = model
        self._prefix = [model.token_to_index(token) for token in prefix_tokens or ()]
        self._suffix = [model.token_to_index(token) for token in suffix_tokens or ()]
        self._device, self._pin_memory = device, pin_memory

    def __call__(self, text: str) -> Tensor:
        """Return the indices of a text. *Shape:* (T), int64."""
        return self._tensor([*self._prefix, *self._model.pieces.encode(text), *self._suffix])

    def encode_as_tokens(self, text: str) -> list[str]:
        """Return the pieces of a text, unknown ones as they are written."""
        prefix, suffix = map(self._model.index_to_token, self._prefix), self._suffix
        pieces = self._model.pieces.encode(text, out_type=str)
        return [*prefix, *pieces, *map(self._model.index_to_token, suffix)]

    @property
    def prefix_indices(self) -> Tensor | None:
        """The indices before each text, if there are any. *Shape:* (P), int64."""
        return self._tensor(self._prefix) if self._prefix else None

    @property
    def suffix_indices(self) -> Tensor | None:
        """The indices after each text, if there are any. *Shape:* (S), int64."""
        return self._tensor(self._suffix) if self._suffix else None

    def _tensor(self, indices: list[int]) -> Tensor:
        import torch

        tensor = torch.tensor(indices, dtype=torch.int64, device=self._device)
        return tensor.pin_memory() if self._pin_memory else tensor


class SentencePieceDecoder:
    """Decodes the indices of pieces as a text."""

    def __init__(self, model: SentencePieceModel) -> None:
        self._model = model

    def __call__(self, token_indices: Tensor) -> str:
        """Return the text of indices. *Shape:* (T), integers.

        :raises ValueError: there is no piece at one of them, or the shape is another one.
        """
        if token_indices.dim() != 1:
            raise ValueError(f"Indices of the shape {tuple(token_indices.shape)} are no text.")
        return self.decode_from_tokens([*map(self._model.index_to_token, token_indices.tolist())])

    def decode_from_tokens(self, tokens: Sequence[str]) -> str:
        """Return the text of pieces."""
        return str(self._model.pieces.decode(list(tokens)))


def enable_aten_logging(log_file: Path) -> None:
    """Do nothing: what torch's native part logs stays on standard error."""


_PARTS: Final[dict[str, object]] = {
    "SentencePieceModel": SentencePieceModel,
    "SentencePieceEncoder": SentencePieceEncoder,
    "SentencePieceDecoder": SentencePieceDecoder,
    "_enable_aten_logging": enable_aten_logging,
}
"""What fairseq2 is given."""
