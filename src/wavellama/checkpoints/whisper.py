"""Encoders of Whisper, from the three forms in which their weights are published to our names.

Sources: OpenAI's own checkpoints, those of Hugging Face, and the files of CTranslate2, which
faster-whisper reads. The decoder is left out.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

import numpy as np
import torch
from fairseq2.nn import SinusoidalPositionEncoder
from torch import Tensor

from wavellama.errors import CheckpointError

_PARTS: Final = {
    # OpenAI
    "attn.query": "self_attn.q_proj",
    "attn.key": "self_attn.k_proj",
    "attn.value": "self_attn.v_proj",
    "attn.out": "self_attn.output_proj",
    "attn_ln": "self_attn_layer_norm",
    "mlp.0": "ffn.inner_proj",
    "mlp.2": "ffn.output_proj",
    "mlp_ln": "ffn_layer_norm",
    # Hugging Face; what is not named here has our name
    "self_attn.out_proj": "self_attn.output_proj",
    "fc1": "ffn.inner_proj",
    "fc2": "ffn.output_proj",
    "final_layer_norm": "ffn_layer_norm",
    # CTranslate2
    "self_attention.linear_0": "self_attn.qkv",
    "self_attention.linear_1": "self_attn.output_proj",
    "self_attention.layer_norm": "self_attn_layer_norm",
    "ffn.linear_0": "ffn.inner_proj",
    "ffn.linear_1": "ffn.output_proj",
    "ffn.layer_norm": "ffn_layer_norm",
}
"""From their names of the parts of a layer to ours."""

_POSITIONS: Final = (
    "encoder.positional_embedding",
    "encoder.embed_positions.weight",
    "encoder.position_encodings.encodings",
)

_LAYER: Final = re.compile(r"encoder\.(?:blocks\.|layers\.|layer_)(\d+)\.(.+)\.(\w+)")
_OUTSIDE: Final = re.compile(r"encoder\.(conv[12]|ln_post|layer_norm)\.(\w+)")

_MARK: Final = b"WhisperSpec"
_DTYPES: Final = ("f4", "i1", "i2", "i4", "f2")

_LARGEST_ERROR: Final = 0.01
"""How far a position may be from its sinusoid: CTranslate2 stores 16 bits."""


def is_whisper(names: Mapping[str, object]) -> bool:
    """Tell whether a state dict is one of Whisper, in any of its forms."""
    plain = {_plain(name) for name in names}
    return not plain.isdisjoint(_POSITIONS) and "encoder.conv1.weight" in plain


def convert_whisper(state_dict: Mapping[str, object]) -> dict[str, object]:
    """Return the encoder of a Whisper model with our names, and without its positions.

    :raises CheckpointError: its positions are no sinusoids, or its weights are quantised.
    """
    converted: dict[str, Tensor] = {}
    for name, value in state_dict.items():
        if not isinstance(value, Tensor):
            continue
        if _plain(name) in _POSITIONS:
            _check_positions(value.float())
        converted.update(_convert(_plain(name), value))
    for name in [key for key in converted if key.endswith("q_proj.bias")]:
        key_bias = name.replace("q_proj", "k_proj")  # Whisper's keys have none
        converted.setdefault(key_bias, torch.zeros_like(converted[name]))
    return dict(converted)


def _plain(name: str) -> str:
    return name.removeprefix("model.").replace("/", ".")


def _convert(name: str, weight: Tensor) -> dict[str, Tensor]:
    """Return what a weight of theirs is in our model: nothing, if it is not in the encoder."""
    if name.startswith("encoder.") and not weight.is_floating_point() and weight.dim() > 0:
        raise CheckpointError(f"{name} is quantised; convert the checkpoint of the whole numbers.")
    kinds = {"gamma": "weight", "beta": "bias"}
    if (found := _OUTSIDE.fullmatch(name)) is not None:
        part, kind = found[1], kinds.get(found[2], found[2])
        is_conv = part.startswith("conv")
        module = f"encoder_frontend.feature_extractor.{part}" if is_conv else "encoder.layer_norm"
        return {f"{module}.{kind}": weight}
    if (found := _LAYER.fullmatch(name)) is None:
        return {}
    part, kind = _PARTS.get(found[2], found[2]), kinds.get(found[3], found[3])
    layer = f"encoder.layers.{found[1]}"
    if part != "self_attn.qkv":
        return {f"{layer}.{part}.{kind}": weight}
    thirds = zip("qkv", weight.chunk(3), strict=True)
    return {f"{layer}.self_attn.{letter}_proj.{kind}": third for letter, third in thirds}


def _check_positions(positions: Tensor) -> None:
    length, width = positions.shape
    expected = SinusoidalPositionEncoder(width, length).freqs[1:]
    if float((positions - expected).abs().max()) > _LARGEST_ERROR:
        raise CheckpointError("The positions of this Whisper model were trained: no sinusoids.")


def is_ctranslate2(file: Path) -> bool:
    """Tell whether a file holds a Whisper model in the form of CTranslate2."""
    with file.open("rb") as stream:
        return _MARK in stream.read(32)


def read_ctranslate2(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file of CTranslate2, by its names.

    :raises CheckpointError: the file is cut off, or of a form that is not known.
    """
    reader = _Reader(file.read_bytes())
    try:
        reader.number("I")
        reader.text()
        reader.number("I")
        pairs = [reader.tensor() for _ in range(reader.number("I"))]
    except (struct.error, IndexError, ValueError) as ex:
        raise CheckpointError(f"{file} is cut off, or of an unknown form ({ex}).") from None
    return dict(pairs)


@final
class _Reader:
    """Reads the numbers of a file one after another, all of them little-endian."""

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, 0

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(f"<{form}", self._content, self._place)
        self._place += struct.calcsize(form)
        return int(value)

    def text(self) -> str:
        length = self.number("H")
        return self._take(length).rstrip(b"\0").decode()

    def tensor(self) -> tuple[str, Tensor]:
        name = self.text()
        shape = [self.number("I") for _ in range(self.number("B"))]
        dtype = _DTYPES[self.number("B")]
        values = np.frombuffer(self._take(self.number("I")), f"<{dtype}").reshape(shape)
        return name, torch.from_numpy(values.copy())

    def _take(self, length: int) -> bytes:
        taken = self._content[self._place : self._place + length]
        if len(taken) < length:
            raise ValueError("it ends too early")
        self._place += length
        return taken
