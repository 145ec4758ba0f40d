"""The output directory of a training run, used in place of a model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fairseq2.assets import AssetCard, StandardAssetStore
from fairseq2.checkpoint import ModelMetadataLoader
from fairseq2.runtime.dependency import get_dependency_resolver

from wavellama.errors import ConfigError
from wavellama.yaml_files import read_yaml


@dataclass(frozen=True)
class TrainedRun:
    """What a training run left behind."""

    folder: Path

    checkpoint: str
    """The checkpoint to use: ``best_checkpoint`` where validation gave scores, else the last."""

    tokenizer: str | None
    """The tokenizer's card; None if it was given by its file."""

    max_audio_secs: float | None = None
    """The longest audio that the model was trained on; None if that is not known."""

    @property
    def checkpoint_dir(self) -> Path:
        """The folder of all its checkpoints."""
        return self.folder / "checkpoints"

    def load_card(self) -> AssetCard:
        """Return the card of the checkpoint to use.

        :raises AssetMetadataError: ``model.yaml``, or a score beside it, cannot be read.
        """
        provider = get_dependency_resolver().resolve(ModelMetadataLoader).load(self.checkpoint_dir)
        return StandardAssetStore([provider]).retrieve_card(self.checkpoint)


def read_run(folder: Path) -> TrainedRun:
    """Return the run in a folder.

    :raises ConfigError: the folder holds no checkpoint.
    """
    checkpoints = folder / "checkpoints"
    steps = [path for path in checkpoints.glob("step_*") if path.is_dir()]
    if not (checkpoints / "model.yaml").is_file() or not steps:
        raise ConfigError(
            f"{folder} holds no training run with a checkpoint: there is no"
            f" {checkpoints / 'model.yaml'} with a step_N beside it."
        )
    scored = any((checkpoints / "scores" / f"{step.name}.txt").is_file() for step in steps)
    name = "best_checkpoint" if scored else "last_checkpoint"
    config = _read_config(folder / "config.yaml")
    tokenizer = config.get("tokenizer", {}).get("name")
    max_secs = config.get("dataset", {}).get("max_audio_secs")
    return TrainedRun(
        folder,
        name,
        tokenizer if isinstance(tokenizer, str) else None,
        float(max_secs) if isinstance(max_secs, int | float) else None,
    )


def _read_config(config_file: Path) -> dict[str, Mapping[str, object]]:
    """Return the sections of a run's configuration; none where there is no file."""
    if not config_file.is_file():
        return {}
    sections = read_yaml(config_file).items()
    return {name: section for name, section in sections if isinstance(section, Mapping)}
