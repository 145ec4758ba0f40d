"""Adapters on disk: in the form of the library PEFT, or in the checkpoints of a run.

PEFT's form is a folder of a configuration and a file of tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fairseq2.device import CPU
from fairseq2.gang import create_fake_gangs
from fairseq2.model_checkpoint import ModelCheckpointLoader, ModelCheckpointLoadOptions
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wavellama.checkpoints.lora import Adapter, BaseWeights, read_note
from wavellama.errors import CheckpointError
from wavellama.files import replacing, write_text

CONFIG_FILE: Final = "adapter_config.json"
WEIGHTS_FILE: Final = "adapter_model.safetensors"

_PREFIX: Final = "base_model.model."

_NAMES: Final = {".lora_A": ".lora_A.weight", ".lora_B": ".lora_B.weight"}
"""The ends of our names of an adapter's weights, and PEFT's."""

_OTHER_KINDS: Final = ("use_dora", "use_rslora", "alpha_pattern", "fan_in_fan_out", "lora_bias")
"""What in a configuration of PEFT makes an adapter that computes something else."""

_SHA256: Final = "base_sha256"
"""Where among the metadata of the tensors the digest of the base's weights stands."""


def read_adapter(path: Path, loader: ModelCheckpointLoader) -> Adapter | None:
    """Return the adapter in a folder; None if there is none.

    :param path: the ``model`` folder of a step of a run, or an adapter in PEFT's form.
    :param loader: fairseq2's, which reads what its trainer saves.
    :raises CheckpointError: the adapter cannot be read, or is of a kind that is not known here.
    """
    note = read_note(path.parent.parent) if path.name == "model" else None
    found = read_peft(path)
    if found is not None or note is None:
        return found
    base, config = note
    options = ModelCheckpointLoadOptions(gangs=create_fake_gangs(CPU), mmap=True, restrict=True)
    return Adapter(base, config["alpha"], dict(loader.lazy_load(path, {}, options)))


def read_peft(folder: Path) -> Adapter | None:
    """Return the adapter in a folder of PEFT's form; None if it is none.

    :raises CheckpointError: it cannot be read, or is no plain LoRA adapter.
    """
    if not (folder / CONFIG_FILE).is_file():
        return None
    try:
        config = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            digest = (file.metadata() or {}).get(_SHA256)
    except (OSError, ValueError, SafetensorError) as ex:
        raise CheckpointError(f"The adapter in {folder} cannot be read: {ex}.") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder / CONFIG_FILE} is no configuration of an adapter.")
    _check_kind(config, folder)
    weights = {_our_name(name): weight for name, weight in found.items()}
    base = BaseWeights(config["base_model_name_or_path"], None, digest)
    return Adapter(base, config["lora_alpha"], weights)


def _check_kind(config: Mapping[str, Any], folder: Path) -> None:
    other = [key for key in _OTHER_KINDS if config.get(key)]
    if config.get("peft_type") != "LORA" or other:
        kind = other[0] if other else config.get("peft_type")
        raise CheckpointError(f"{folder} holds an adapter of another kind than LoRA: {kind}.")
    if not isinstance(config.get("lora_alpha"), int | float):
        raise CheckpointError(f"{folder / CONFIG_FILE} has no number as its `lora_alpha`.")
    if not config.get("base_model_name_or_path"):
        raise CheckpointError(
            f"{folder / CONFIG_FILE} does not say which model the adapter is for: set"
            " `base_model_name_or_path` to its card."
        )


def write_peft(adapter: Adapter, folder: Path) -> int:
    """Write an adapter, and return of how many tensors; a masker is left out.

    The folder appears when it is complete. PEFT counts adapted projections, which are none of
    torch's ``Linear``, among its ``target_parameters``.

    :raises CheckpointError: there is such a folder already, or it cannot be written.
    """
    weights = {n: w.contiguous() for n, w in adapter.weights.items() if not n.startswith("masker.")}
    metadata = {"format": "pt"}
    if adapter.base.sha256 is not None:
        metadata[_SHA256] = adapter.base.sha256
    try:
        with replacing(folder) as part:
            part.mkdir()
            ends = {n: ".weight" if n.endswith(tuple(_NAMES)) else "" for n in weights}
            theirs = {_PREFIX + n + ends[n]: w for n, w in weights.items()}
            save_file(theirs, part / WEIGHTS_FILE, metadata)
            config = _describe(adapter, weights)
            write_text(part / CONFIG_FILE, f"{json.dumps(config, indent=2)}\n")
    except OSError as ex:
        raise CheckpointError(f"{folder} cannot be written: {ex.strerror or ex}.") from None
    return len(weights)


def _describe(adapter: Adapter, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    adapted = [name.removesuffix(".lora_A") for name in weights if name.endswith(".lora_A")]
    others = [name for name in weights if not name.endswith(tuple(_NAMES))]
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": adapter.base.name,
        "inference_mode": True,
        "r": len(weights[f"{adapted[0]}.lora_A"]),
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [],
        "target_parameters": [f"{name}.weight" for name in adapted],
        "modules_to_save": sorted({name.rpartition(".")[0] for name in others}) or None,
    }


def _our_name(name: str) -> str:
    name = name.removeprefix(_PREFIX)
    ends = {theirs: ours for ours, theirs in _NAMES.items() if name.endswith(theirs)}
    return next((name.removesuffix(theirs) + ours for theirs, ours in ends.items()), name)
