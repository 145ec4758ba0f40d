"""Checkpoints rewritten in fairseq2's names, as a torch archive or as safetensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, cast

import torch
from fairseq2.device import CPU
from fairseq2.gang import create_fake_gangs
from fairseq2.model_checkpoint import (
    CorruptModelCheckpointError,
    ModelCheckpointLoadOptions,
    get_model_checkpoint_loader,
)
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from wavellama.checkpoints.eight_bits import from_eight_bits, to_eight_bits
from wavellama.checkpoints.fetch import local_path
from wavellama.checkpoints.hub import find_model
from wavellama.checkpoints.interop import rename_fairseq1
from wavellama.checkpoints.lora import Adapter
from wavellama.checkpoints.peft import read_adapter, write_peft
from wavellama.checkpoints.reading import find_checkpoint_file, open_checkpoint
from wavellama.checkpoints.trained_run import read_run
from wavellama.checkpoints.transformers_folder import is_transformers_folder
from wavellama.checkpoints.whisper import (
    convert_whisper,
    is_ctranslate2,
    is_whisper,
    read_ctranslate2,
)
from wavellama.errors import CheckpointError, ConfigError
from wavellama.files import replacing

Writer: TypeAlias = Callable[[dict[str, Tensor], Path], None]

WRITERS: Final[Mapping[str, Writer]] = {
    ".pt": torch.save,
    ".safetensors": partial(save_file, metadata={"format": "pt"}),
}
"""What a converted checkpoint may be, by the end of its name."""


def convert_checkpoint(
    source: Path, target: Path, *, int8: bool = False, merge: bool = False
) -> int:
    """Write the weights of ``source`` to ``target``, and return how many tensors they are.

    The target appears when it is complete, and replaces what had its name. fairseq1's names become
    fairseq2's; of a Whisper model, in any form that is published, the encoder stays, with the names
    that it has in ours. An adapter is merged with its base, or written as it is in PEFT's form.

    :param source: a checkpoint file, the checkpoint of a training step, a folder of Transformers,
        an adapter in PEFT's form, or the output directory of a training run, of which the best
        checkpoint is taken, or the last if there are no scores.
    :param target: a file whose name ends in ``.pt`` or ``.safetensors``; of an adapter that is not
        to be merged, a new folder.
    :param int8: whether large weights are written in 8 bits; else all keep their data types.
    :param merge: whether ``source`` is an adapter to be merged with its base.
    :raises ConfigError: the target's name has another end, the run has no checkpoint, or there is
        no adapter to merge.
    :raises CheckpointError: the source cannot be read, or the target not written; or the base of an
        adapter is not found.
    """
    folder = _find_step(source) if source.is_dir() else source
    adapter = read_adapter(folder, get_model_checkpoint_loader())
    if adapter is not None and not merge:
        return _write_adapter(adapter, source, target)
    if adapter is None and merge:
        raise ConfigError(f"{source} holds no adapter, so there is nothing to merge.")
    write = WRITERS.get(target.suffix)
    if write is None:
        raise ConfigError(f"{target} must end in {' or '.join(WRITERS)}, which tells its format.")
    weights = _check_tensors(source, _rename(_read(folder)))
    _write(to_eight_bits(weights) if int8 else weights, target, write)
    return len(weights)


def _write(stored: dict[str, Tensor], target: Path, write: Writer) -> None:
    try:
        target.parent.stat()  # a folder that is not there was not meant
        with replacing(target) as file:
            file.touch()
            mode = file.stat().st_mode  # of new files; safetensors makes them private
            write(stored, file)
            file.chmod(mode)
    except (OSError, RuntimeError, SafetensorError) as ex:
        reason = getattr(ex, "strerror", None) or str(ex).strip().partition("\n")[0]
        raise CheckpointError(f"{target} cannot be written: {reason}.") from None


def _write_adapter(adapter: Adapter, source: Path, target: Path) -> int:
    if target.suffix in WRITERS:
        raise ConfigError(
            f"{source} holds an adapter of {adapter.base.name}: `--merge` writes the whole model;"
            " a folder as the target gets the adapter in PEFT's form."
        )
    return write_peft(adapter, target)


def _rename(weights: dict[str, object]) -> dict[str, object]:
    return convert_whisper(weights) if is_whisper(weights) else rename_fairseq1(weights)


def _read(path: Path) -> dict[str, object]:
    """Return the weights in a file or folder; those of an adapter merged with its base's."""
    if is_transformers_folder(path):
        return dict(find_model(path).read_weights())
    loader = get_model_checkpoint_loader()
    adapter = read_adapter(path, loader)
    if adapter is not None:
        base = from_eight_bits(_rename(_read(adapter.base.find())))
        return dict(adapter.merge(cast("dict[str, Tensor]", base).items()))
    file = find_checkpoint_file(path)
    if file is not None or not path.is_dir():
        return _open(file or path)
    if (path / "pp_00" / "tp_01").exists():
        raise CheckpointError(f"{path} is cut for tensor parallelism, which is not understood.")
    options = ModelCheckpointLoadOptions(gangs=create_fake_gangs(CPU), mmap=True)
    try:
        return dict(loader.lazy_load(path, {}, options))
    except CorruptModelCheckpointError as ex:
        raise CheckpointError(str(ex)) from None


def _open(file: Path) -> dict[str, object]:
    if file.is_file() and is_ctranslate2(file):
        return dict(read_ctranslate2(file))
    return open_checkpoint(file)


def _find_step(folder: Path) -> Path:
    """Return the folder of the weights: of a step, or of the step to take from a run."""
    if (folder / "model" / "pp_00").is_dir():
        return folder / "model"
    if (folder / "pp_00").is_dir() or find_checkpoint_file(folder) is not None:
        return folder
    return local_path(read_run(folder).load_card().field("checkpoint").as_uri())


def _check_tensors(source: Path, weights: Mapping[str, object]) -> dict[str, Tensor]:
    """Return the weights, each with memory of its own, which safetensors insists on."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, weight in weights.items():
        if not isinstance(weight, Tensor):
            raise CheckpointError(f"{source} holds other than named tensors: {name} is none.")
        memory = weight.untyped_storage()
        shared = memory.data_ptr() in seen or memory.nbytes() != weight.nbytes
        seen.add(memory.data_ptr())
        tensors[name] = weight.clone().contiguous() if shared else weight.contiguous()
    if not tensors:
        raise CheckpointError(f"{source} holds no tensors.")
    return tensors
