"""Checkpoints from which a run goes on with another number of processes, or sharded otherwise.

fairseq2 writes a file for each process, and looks for the same files again. What is in them:

* ``data_reader/dp_*``: the position in the epoch, the same in each;
* ``trainer/rank_*``: step, schedule and loss scale, the same in each; metrics, which begin anew;
  and the state of torch's generator;
* ``model`` and ``optimizer``, ``sdp_*``: one file, or with FSDP2 one for each process, which holds
  a part of each weight and of each moment, as ``torch.chunk`` cuts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from fairseq2.checkpoint import CheckpointDir, CheckpointNotFoundError, StandardCheckpointManager
from fairseq2.device import CPU
from fairseq2.file_system import FileSystem
from fairseq2.gang import Gang, Gangs
from fairseq2.io import CorruptFileError, TensorFileLoader, TensorFileLoadOptions
from fairseq2.logging import log
from fairseq2.recipe import RecipeContext
from fairseq2.runtime.dependency import DependencyResolver, wire_object
from torch import Tensor
from torch.distributed.tensor import DTensor
from typing_extensions import override

from wavellama.errors import CheckpointError

if TYPE_CHECKING:
    from fairseq2.typing import Stateful
    from torch.optim import Optimizer


class AnyWorldCheckpoints(StandardCheckpointManager):  # type: ignore[misc]
    """fairseq2's manager (marked final), for which the processes may be others than before.

    As many processes as before, sharded as before, load what fairseq2 loads.
    """

    resolver: DependencyResolver

    @override
    def load_trainer_state(self, step_nr: int, trainer: Stateful) -> None:
        """Load the trainer's state; a new process keeps its generator, seeded with its rank."""
        try:
            super().load_trainer_state(step_nr, trainer)
        except CheckpointNotFoundError:
            log.info("This process is new; it takes the state of the first one.")
            generators = trainer.state_dict()["_rng_bag"]
            state = self._read(step_nr, "trainer/rank_00.pt")
            trainer.load_state_dict({**state, "_rng_bag": generators})

    @override
    def load_data_reader_state(self, step_nr: int, data_reader: Stateful) -> None:
        """Load the position, which all processes have saved alike."""
        try:
            super().load_data_reader_state(step_nr, data_reader)
        except CheckpointNotFoundError:
            data_reader.load_state_dict(self._read(step_nr, "data_reader/dp_00.pt"))

    @override
    def load_model_state(self, step_nr: int, model: Stateful) -> None:
        shards = self._read_other_shards(step_nr, "model")
        if not shards:
            super().load_model_state(step_nr, model)
            return
        gang = self.resolver.resolve(Gangs).sdp
        own = RecipeContext(self.resolver).get_model().state_dict()
        model.load_state_dict(redeal_weights(shards, own, gang))

    @override
    def load_optimizer_state(self, step_nr: int, optimizer: Stateful) -> None:
        shards = self._read_other_shards(step_nr, "optimizer")
        if not shards:
            super().load_optimizer_state(step_nr, optimizer)
            return
        gang = self.resolver.resolve(Gangs).sdp
        groups = cast("Optimizer", optimizer).param_groups
        weights: list[Tensor] = [weight for group in groups for weight in group["params"]]
        states = [shard["state"] for shard in shards]
        state = {
            index: {
                name: _redeal_moment([own[index][name] for own in states], weights[index], gang)
                for name in states[0][index]
            }
            for index in states[0]
        }
        optimizer.load_state_dict({**shards[0], "state": state})

    def _read_other_shards(self, step_nr: int, kind: str) -> list[dict[str, Any]]:
        """Return what each process had of a model or optimizer; nothing if each finds its own."""
        gangs = self.resolver.resolve(Gangs)
        folder = f"{kind}/pp_{gangs.pp.rank:02d}/tp_{gangs.tp.rank:02d}"
        files = self.resolver.resolve(FileSystem)
        names = [file.name for file in files.glob(self._step_dir(step_nr) / folder, "sdp_*.pt")]
        if len(names) == gangs.sdp.size:
            return []
        log.info("The {} was saved by {} process(es); it is dealt out anew.", kind, len(names))
        return [self._read(step_nr, f"{folder}/{name}") for name in sorted(names)]

    def _read(self, step_nr: int, file: str) -> dict[str, Any]:
        """:raises CheckpointError: the file is damaged."""
        path = self._step_dir(step_nr) / file
        options = TensorFileLoadOptions(map_location=CPU, mmap=True, restrict=False)
        try:
            return self.resolver.resolve(TensorFileLoader).load(path, options)
        except CorruptFileError as ex:
            raise CheckpointError(f"{path} is damaged and cannot be read.") from ex

    def _step_dir(self, step_nr: int) -> Path:
        folder = self.resolver.resolve(CheckpointDir).path
        return (folder or self.resolver.resolve(Path) / "checkpoints") / f"step_{step_nr}"


def create_checkpoint_manager(resolver: DependencyResolver) -> AnyWorldCheckpoints:
    """Create what takes the place of fairseq2's manager in training."""
    folder = resolver.resolve(CheckpointDir).path
    manager = wire_object(resolver, AnyWorldCheckpoints, checkpoint_dir=folder)
    manager.resolver = resolver
    return manager


def redeal_weights(
    shards: Sequence[Mapping[str, Tensor]], own: Mapping[str, Tensor], gang: Gang
) -> dict[str, object]:
    """Return what a process has of the weights that others had shared out.

    :param own: the weights of this run; those that are sharded are ``DTensor``.
    :raises CheckpointError: the weights have other names or shapes.
    """
    for name in sorted(shards[0].keys() ^ own.keys()):
        where = "the checkpoint" if name in shards[0] else "this run's model"
        raise CheckpointError(
            f"{name} is in {where} only: a run goes on with the model that it began with."
        )
    state: dict[str, object] = {}
    for name, target in own.items():
        whole = join_shards([shard[name] for shard in shards], target)
        state[name] = cut_shard(whole, gang) if isinstance(target, DTensor) else whole
    return state


def join_shards(parts: Sequence[Tensor], target: Tensor) -> Tensor:
    """Return the whole of a tensor that each process had a part of, or all of it.

    :param target: what it is loaded into, which may be sharded itself.
    :raises CheckpointError: the whole has not its shape.
    """
    tensors = [part.to_local() if isinstance(part, DTensor) else part for part in parts]
    whole = tensors[0] if tensors[0].shape == target.shape else torch.cat(tensors)
    if whole.shape != target.shape:
        raise CheckpointError(
            f"A tensor of the checkpoint has the shape {tuple(whole.shape)}, but this run's has"
            f" {tuple(target.shape)}: a run goes on with the model that it began with."
        )
    return whole


def cut_shard(whole: Tensor, gang: Gang) -> Tensor:
    """Return the part of a tensor that a process has."""
    parts = whole.chunk(gang.size)
    return parts[gang.rank].clone() if gang.rank < len(parts) else whole[:0].clone()


def _redeal_moment(parts: Sequence[Any], weight: Tensor, gang: Gang) -> object:
    """Return this process's part of a moment of a weight; a number of steps is not cut."""
    if not isinstance(parts[0], Tensor) or parts[0].ndim == 0:
        return parts[0]
    whole = join_shards(parts, weight)
    if not isinstance(weight, DTensor):
        return whole
    shape, stride = weight.shape, weight.stride()
    local = cut_shard(whole, gang)
    return DTensor.from_local(
        local, weight.device_mesh, weight.placements, shape=shape, stride=stride
    )
