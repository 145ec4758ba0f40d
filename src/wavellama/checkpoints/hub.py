"""fairseq2's hub of this model family, and a loader that also knows the meta device."""

from __future__ import annotations

from pathlib import Path

import torch
from fairseq2.assets import AssetCard, AssetStore, StandardAssetStore
from fairseq2.checkpoint import ModelMetadataLoader
from fairseq2.data.tokenizers import Tokenizer, load_tokenizer
from fairseq2.device import Device
from fairseq2.gang import create_fake_gangs
from fairseq2.models import ModelFamily, ModelHubAccessor, get_model_family_name
from fairseq2.models import load_model as load_fairseq2_model
from fairseq2.runtime.dependency import get_dependency_resolver
from torch.nn import Module

from wavellama.checkpoints.trained_run import TrainedRun, find_trained_run
from wavellama.errors import ConfigError, UnknownNameError
from wavellama.model.config import WAV2VEC2_LLAMA_FAMILY, Wav2Vec2LlamaConfig
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.transcript.calibration import (
    CONFIDENCE_FILE,
    Confidence,
    parse_confidence,
    read_confidence,
)

get_wav2vec2_llama_model_hub = ModelHubAccessor(
    WAV2VEC2_LLAMA_FAMILY, Wav2Vec2LlamaModel, Wav2Vec2LlamaConfig
)


def load_model(
    card: AssetCard | str,
    *,
    device: Device | str | None = None,
    dtype: torch.dtype | None = None,
    mmap: bool = False,
) -> Module:
    """Load the model of a card, or of a training run, with fairseq2's ``load_model``.

    On the meta device the model is built without weights, and no checkpoint is looked for.

    :param card: a card, its name, or the output directory of a training run.
    :param device: where the weights go; by default torch's default device.
    :param dtype: the type of the weights; by default torch's default type.
    :param mmap: whether to map the checkpoint into memory; those of speech models always are.
    :raises UnknownNameError: there is no such card; the error names near ones.
    :raises ConfigError: the directory holds no run with a checkpoint, or the card names no
        checkpoint, or one that nothing can fetch.
    :raises CheckpointError: the checkpoint is missing, cannot be downloaded, is damaged, or is of
        another model.
    :raises AssetCardError: another field of the card (family, architecture, configuration, path) is
        missing or wrong.
    :raises AssetMetadataError: the ``model.yaml`` of the run, or a score beside it, cannot be read.
    """
    device = torch.device(device) if isinstance(device, str) else device
    card = _find_card(card) if isinstance(card, str) else card
    if device is None or device.type != "meta":
        return load_fairseq2_model(card, device=device, dtype=dtype, mmap=mmap)
    family = get_dependency_resolver().resolve(ModelFamily, key=get_model_family_name(card))
    gangs = create_fake_gangs(torch.device("cpu"))
    return family.create_new_model(
        family.get_model_config(card), gangs, dtype or torch.float32, True, True
    )


def load_model_tokenizer(name: str) -> Tokenizer:
    """Load the tokenizer of a model card, or of a training run.

    :param name: the name of a card, or the output directory of a training run.
    :raises ConfigError: the directory holds no run with a checkpoint, or the run's tokenizer was
        given by a file, not by a card.
    :raises TokenizerNotKnownError: there is no such card.
    :raises AssetDownloadError: the tokenizer cannot be downloaded.
    """
    run = find_trained_run(name)
    if run is None:
        return load_tokenizer(name)
    if run.tokenizer is None:
        raise ConfigError(f"{name} does not name the card of its tokenizer; give `tokenizer`.")
    return load_tokenizer(run.tokenizer)


def max_audio_secs(name: str) -> float | None:
    """Return the longest audio that the model of a training run was trained on, in seconds.

    :param name: the output directory of a training run, or the name of a card, for which it is not
        known (None).
    :raises ConfigError: the directory holds no run with a checkpoint.
    """
    run = find_trained_run(name)
    return None if run is None else run.max_audio_secs


def load_confidence(name: str) -> Confidence:
    """Return how the confidence of a model's words is calibrated.

    It is stored in a run's ``confidence.json``, or in the card's field ``confidence``; a model
    without either has the confidence of no calibration.

    :param name: the name of a card, or the output directory of a training run.
    :raises UnknownNameError: there is no such card.
    :raises ConfigError: the directory holds no run with a checkpoint, or what is stored is no
        calibration.
    """
    if find_trained_run(name) is not None:
        return read_confidence(Path(name) / CONFIDENCE_FILE)
    field = _find_card(name).maybe_get_field("confidence")
    return Confidence() if field is None else parse_confidence(field.value, f"the card {name}")


def load_run_card(run: TrainedRun) -> AssetCard:
    """Return the card of the checkpoint to use of a training run.

    :raises AssetMetadataError: the ``model.yaml`` of the run, or a score beside it, cannot be read.
    """
    provider = get_dependency_resolver().resolve(ModelMetadataLoader).load(run.checkpoint_dir)
    return StandardAssetStore([provider]).retrieve_card(run.checkpoint)


def _find_card(name: str) -> AssetCard:
    run = find_trained_run(name)
    if run is not None:
        return load_run_card(run)
    store = get_dependency_resolver().resolve(AssetStore)
    card = store.maybe_retrieve_card(name)
    if card is None or not card.has_field("model_family"):
        raise UnknownNameError(
            "model card", name, {n.rstrip("@") for n in store.asset_names} - {name}
        )
    return card
