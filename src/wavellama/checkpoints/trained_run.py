"""The output directory of a training run, used in place of a model card."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final

from fairseq2.assets import AssetCard, StandardAssetStore
from fairseq2.checkpoint import ModelMetadataLoader
from fairseq2.runtime.dependency import get_dependency_resolver

from wavellama.errors import ConfigError
from wavellama.files import write_text
from wavellama.yaml_files import read_yaml

LENGTHS_FILE: Final = "audio_lengths.json"
"""What a run notes of the lengths of its training audio."""


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

    typical_audio_secs: float | None = None
    """What nine tenths of its training audio do not exceed; None if that is not known."""

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
    config = _sections(folder / "config.yaml")
    tokenizer = config.get("tokenizer", {}).get("name")
    max_secs = config.get("dataset", {}).get("max_audio_secs")
    typical_secs = _read_mapping(folder / LENGTHS_FILE).get("p90_secs")
    return TrainedRun(
        folder,
        name,
        tokenizer if isinstance(tokenizer, str) else None,
        float(max_secs) if isinstance(max_secs, int | float) else None,
        float(typical_secs) if isinstance(typical_secs, int | float) else None,
    )


def write_lengths(folder: Path, durations: Iterable[float]) -> None:
    """Note how long the audio is that a run trains on.

    :param durations: of all its utterances, in seconds; one or more.
    """
    in_order = sorted(durations)
    p90_secs = in_order[ceil(0.9 * len(in_order)) - 1]
    write_text(folder / LENGTHS_FILE, f"{json.dumps({'p90_secs': p90_secs})}\n")


def _sections(config_file: Path) -> dict[str, Mapping[str, object]]:
    sections = _read_mapping(config_file).items()
    return {name: section for name, section in sections if isinstance(section, Mapping)}


def _read_mapping(file: Path) -> dict[str, Any]:
    """Return what a file of a run holds; nothing where there is no file."""
    return read_yaml(file) if file.is_file() else {}
