"""Checkpoint files, mapped into memory: what they hold, whether it fits, and their weights.

Opening a file reads its table of contents alone; a weight's bytes are read when they are copied
into the model. The copied pages of the file would stay counted as this process's memory until the
mapping goes, so a file is mapped anew for every few weights: loading a model takes the memory of
the model and a small part of the file's size. Weights in 8 bits are checked by their names and
shapes, and become floats a few at a time.
"""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias, cast, final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wavellama.checkpoints.eight_bits import from_eight_bits, outline, read_weight
from wavellama.checkpoints.interop import describe_kind, unwrap_state_dict
from wavellama.errors import CheckpointError

Converter: TypeAlias = Callable[[dict[str, object]], dict[str, object]]
"""From a file's state dict to a model's."""


@final
class FileWeights(dict[str, object]):
    """The state dict of a whole file, as against a shard of a model."""

    def __init__(self, file: Path, weights: Mapping[str, object]) -> None:
        super().__init__(weights)
        self.file = file


_PASSES: Final = 25
"""In about how many parts the weights of a file are copied, each from a mapping of its own."""

_INDEX: Final = ".safetensors.index.json"

_ZIP_MAGIC: Final = b"PK\x03\x04"


def find_checkpoint_file(path: Path) -> Path | None:
    """Return the one file of a checkpoint, or the index of several; None if there is none here.

    :param path: a file, or a folder as fairseq2 writes it (``pp_00/tp_00/sdp_00.pt``), or with
        ``*.safetensors``; several of them have an index, ``*.safetensors.index.json``.
    """
    if path.is_file():
        return path
    files = list(path.glob("pp_*/tp_*/sdp_*.pt")) or list(path.glob("*" + _INDEX))
    files = files or list(path.glob("*.safetensors"))
    return files[0] if len(files) == 1 else None


def open_checkpoint(file: Path) -> dict[str, object]:
    """Return the state dict of a file, mapped into memory; only tensors are unpickled.

    :raises CheckpointError: the file is missing, cut off, or no checkpoint.
    """
    try:
        mappable = _can_map(file)
    except FileNotFoundError:
        raise CheckpointError(f"{file} is not found.") from None
    except OSError as ex:
        raise CheckpointError(f"{file} cannot be read: {ex.strerror or ex}.") from None
    try:
        content = _open_safetensors(file) if _is_safetensors(file) else _open_torch(file, mappable)
    except Exception as ex:  # torch's unpickler raises anything on a file that torch did not write
        raise CheckpointError(f"{file} cannot be read: {_reason(ex)}.") from None
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{file} cannot be read: it holds a {type(content).__name__}, and named tensors are"
            " expected."
        )
    return unwrap_state_dict(content)


def iter_weights(file: Path, convert: Converter) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of a model by its own names.

    :param convert: gets a ``FileWeights``, and raises what there is to say against the file before
        any weight is read.
    :raises CheckpointError: the file cannot be read.
    """
    source = outline(open_checkpoint(file))
    weights = convert(FileWeights(file, source))
    origins = _find_origins(weights, source)
    if any(not old and cast(Tensor, weights[name]).is_meta for name, old in origins.items()):
        # The converter computes with numbers that an outline does not have.
        source = from_eight_bits(open_checkpoint(file))
        weights = convert(FileWeights(file, source))
        origins = _find_origins(weights, source)
    sizes = {name: cast(Tensor, weights[name]).nbytes for name, old in origins.items() if old}
    groups = _group(file, sizes)
    yield from [(name, cast(Tensor, weights[name])) for name, old in origins.items() if not old]
    del weights
    for group in groups:
        del source  # before the file is mapped again
        source = open_checkpoint(file)
        for name in group:
            yield name, cast(Tensor, read_weight(source, str(origins[name])))


def _find_origins(
    weights: Mapping[str, object], source: Mapping[str, object]
) -> dict[str, str | None]:
    """Return the name of each weight in its file, or None where it was computed."""
    by_identity = {id(weight): name for name, weight in source.items()}
    return {name: by_identity.get(id(weight)) for name, weight in weights.items()}


def check_fit(
    file: Path, weights: Mapping[str, object], expected: Mapping[str, Tensor], model: str
) -> None:
    """Check names, shapes and kinds of numbers against those of a model.

    :param expected: the state dict of the model; the first difference in its order is reported.
    :raises CheckpointError: they differ.
    """
    differences = [_difference(name, weights.get(name), shape) for name, shape in expected.items()]
    found = [difference for difference in differences if difference is not None][:1]
    extra = next((name for name in weights if name not in expected), None)
    if extra is not None:
        found.append(f"{extra} {_shape(weights[extra])} is in the checkpoint only")
    if not found:
        return
    theirs, ours = describe_kind(weights), describe_kind(expected)
    kind = f", and holds {theirs}" if theirs is not None and theirs != ours else ""
    raise CheckpointError(f"{file} does not fit {model}{kind}: {', and '.join(found)}.")


def _difference(name: str, weight: object, expected: Tensor) -> str | None:
    """Return how a weight differs from what the model expects, or None if it does not."""
    wanted = _shape(expected)
    if weight is None:
        return f"{name} {wanted} is in the model, but not in the checkpoint"
    if not isinstance(weight, Tensor):
        return f"{name} is {_shape(weight)} in the checkpoint, but {wanted} in the model"
    if weight.shape != expected.shape:
        return f"{name} is {_shape(weight)} in the checkpoint, but {wanted} in the model"
    if expected.is_floating_point() and not weight.is_floating_point():
        kinds = [str(tensor.dtype).removeprefix("torch.") for tensor in (weight, expected)]
        return f"{name} is of type {kinds[0]} in the checkpoint, but {kinds[1]} in the model"
    return None


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _group(file: Path, sizes: Mapping[str, int]) -> list[list[str]]:
    """Cut the weights into groups of consecutive ones, to be copied from one mapping each."""
    limit = sum(sizes.values()) if not _can_map(file) else sum(sizes.values()) // _PASSES
    groups: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if room < size or not groups:
            groups.append([])
            room = limit
        groups[-1].append(name)
        room -= size
    return groups


def _is_safetensors(file: Path) -> bool:
    return file.name.endswith((".safetensors", _INDEX))


def _can_map(file: Path) -> bool:
    """Tell whether the file's tensors can be mapped; those of torch before 1.6 cannot."""
    with file.open("rb") as stream:
        return stream.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC or _is_safetensors(file)


def _open_safetensors(file: Path) -> dict[str, Tensor]:
    if file.name.endswith(_INDEX):
        names = set(json.loads(file.read_text("utf-8"))["weight_map"].values())
        # They lie beside the index, and nowhere else.
        parts = [_open_safetensors(file.parent / Path(name).name) for name in sorted(names)]
        return {name: weight for part in parts for name, weight in part.items()}
    with safe_open(file, framework="pt") as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118


def _open_torch(file: Path, mappable: bool) -> object:
    # A fairseq1 checkpoint holds its command line, too; a namespace is harmless.
    with torch.serialization.safe_globals([Namespace]):
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mappable)


def _reason(ex: Exception) -> str:
    """Say in a few words why a file cannot be read."""
    text = str(ex).partition("\n")[0].rstrip(".")
    forbidden = re.search(r"GLOBAL ([\w.]+)", str(ex))
    if forbidden is not None:
        return f"it holds {forbidden[1]}, and only tensors are unpickled"
    if isinstance(ex, SafetensorError | OSError) or "PytorchStreamReader" in text:
        return f"it is cut off or damaged ({text})"
    return text if isinstance(ex, RuntimeError) else "it is no archive of tensors"
