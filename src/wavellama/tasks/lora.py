"""What a training recipe does where it trains adapters (``lora``) instead of all weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from fairseq2.device import CPU
from fairseq2.gang import create_fake_gangs
from fairseq2.models.utils.checkpoint import set_model_state
from fairseq2.nn.utils.module import reset_non_persistent_buffers, to_empty
from fairseq2.recipe import RecipeContext
from fairseq2.recipe.config import ModelSection
from torch.nn import Module

from wavellama.checkpoints.fetch import CheckpointFetcher
from wavellama.checkpoints.hub import ModelSource
from wavellama.checkpoints.lora import LORA_FILE, BaseWeights, digest_weights, read_note, write_note
from wavellama.checkpoints.trained_run import read_run
from wavellama.errors import ConfigError
from wavellama.model.lora import LoraConfig, add_adapters, leave_out_frozen


def set_lora(
    context: RecipeContext, model: Module, section: ModelSection, config: LoraConfig | None
) -> None:
    """Give a model adapters, which alone are trained and saved; None: it stays as it is.

    A run that goes on gets its base, which its checkpoints do not hold, from where it was.

    :param section: where the base comes from.
    :raises ConfigError: a pattern matches nothing, or the run was begun with other adapters.
    :raises CheckpointError: the base of a run that goes on is not found, or has changed.
    """
    checkpoints, note = context.output_dir / "checkpoints", None
    if context.get_checkpoint_manager().has_checkpoint(exclude_model_only=True):
        note = read_note(checkpoints)
        _check_unchanged(context.output_dir, None if note is None else note[1], config)
    if config is None:
        (checkpoints / LORA_FILE).unlink(missing_ok=True)  # of a run that has saved nothing
        return
    if note is not None:
        _load_base(context, model, note[0])
    elif context.gangs.root.rank == 0:
        write_note(checkpoints, _find_base(context, section), config)
    context.gangs.root.barrier()
    add_adapters(model, config)
    leave_out_frozen(model)


def _check_unchanged(
    folder: Path, noted: dict[str, object] | None, config: LoraConfig | None
) -> None:
    """Check that a run goes on with the adapters that its checkpoints hold.

    :raises ConfigError: it does not; but for the dropout, which may change.
    """
    asked = None if config is None else json.loads(json.dumps(asdict(config)))
    if noted is not None and asked is not None:
        asked["dropout"] = noted["dropout"]
    if asked != noted:
        raise ConfigError(
            f"{folder} holds a run with `lora: {json.dumps(noted)}`, which cannot go on with"
            f" {json.dumps(asked)}: begin a run in another folder."
        )


def _load_base(context: RecipeContext, model: Module, base: BaseWeights) -> None:
    """Load the base of a run that goes on into its model, which has none yet, in each process."""
    source = ModelSource(read_run(context.output_dir).load_card())
    weights = source.family.iter_checkpoint(
        base.find(), source.load_config(), context.gangs, mmap=True, restrict=True
    )
    to_empty(model, context.gangs.root.device)
    set_model_state(model, weights, context.progress_reporter)
    reset_non_persistent_buffers(model)


def _find_base(context: RecipeContext, section: ModelSection) -> BaseWeights:
    """Return the weights that ``section`` has loaded; that it names any is checked before."""
    fetcher = CheckpointFetcher.create(context.resolver)
    path, name = section.path, section.name
    if path is None:
        card = context.asset_store.retrieve_card(str(name))
        path = fetcher.fetch(card, create_fake_gangs(CPU))
    path = path.resolve()
    if (path.parent.parent / "model.yaml").is_file():  # runs/x/checkpoints/step_1/model
        name = str(path.parent.parent.parent)
    return BaseWeights(name or str(path), str(path), digest_weights(path, fetcher))
