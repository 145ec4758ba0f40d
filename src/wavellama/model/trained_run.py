"""The output directory of a training run, used in place of a model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from wavellama.errors import ConfigError


@dataclass(frozen=True)
class TrainedRun:
    """What a training run left behind."""

    checkpoint_dir: Path

    checkpoint: str
    """The checkpoint to use: ``best_checkpoint`` where validation gave scores, else the last."""

    tokenizer: str | None
    """The tokenizer's card; None if it was given by its file."""


def find_trained_run(model: str) -> TrainedRun | None:
    """Return the run in the directory ``model``, or None if there is no such directory.

    :raises ConfigError: the directory holds no checkpoint.
    """
    folder = Path(model)
    if not folder.is_dir():
        return None
    checkpoints = folder / "checkpoints"
    steps = [path for path in checkpoints.glob("step_*") if path.is_dir()]
    if not (checkpoints / "model.yaml").is_file() or not steps:
        raise ConfigError(
            f"{folder} holds no training run with a checkpoint: there is no"
            f" {checkpoints / 'model.yaml'} with a step_N beside it."
        )
    scored = any((checkpoints / "scores" / f"{step.name}.txt").is_file() for step in steps)
    name = "best_checkpoint" if scored else "last_checkpoint"
    return TrainedRun(checkpoints, name, _tokenizer_name(folder / "config.yaml"))


def _tokenizer_name(config_file: Path) -> str | None:
    if not config_file.is_file():
        return None
    config = YAML(typ="safe").load(config_file.read_text("utf-8"))
    section = config.get("tokenizer") if isinstance(config, Mapping) else None
    name = section.get("name") if isinstance(section, Mapping) else None
    return name if isinstance(name, str) else None
