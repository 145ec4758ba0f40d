"""Where a model comes from: a card or a training run, by its name; and fairseq2's hub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from fairseq2.assets import AssetCard, get_asset_store
from fairseq2.data.tokenizers import Tokenizer, load_tokenizer
from fairseq2.device import CPU, Device
from fairseq2.gang import create_fake_gangs
from fairseq2.models import ModelFamily, ModelHubAccessor, get_model_family_name
from fairseq2.models import load_model as load_fairseq2_model
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrModel
from fairseq2.runtime.dependency import get_dependency_resolver
from torch import Tensor
from torch.nn import Module

from wavellama.checkpoints.family import CheckedModelFamily
from wavellama.checkpoints.fetch import CHECKSUM_FIELD
from wavellama.checkpoints.peft import read_peft
from wavellama.checkpoints.trained_run import TrainedRun, read_run
from wavellama.checkpoints.transformers_folder import (
    is_transformers_folder,
    read_transformers_folder,
)
from wavellama.errors import ConfigError, UnknownNameError
from wavellama.model.config import WAV2VEC2_LLAMA_FAMILY, Wav2Vec2LlamaConfig
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.options import read_options, refuse
from wavellama.text.languages import LanguageTable
from wavellama.transcript.calibration import (
    CONFIDENCE_FILE,
    Confidence,
    parse_confidence,
    read_confidence,
)

get_wav2vec2_llama_model_hub = ModelHubAccessor(
    WAV2VEC2_LLAMA_FAMILY, Wav2Vec2LlamaModel, Wav2Vec2LlamaConfig
)


@dataclass(frozen=True)
class ModelSource:
    """A model card, or a training run in place of one: a model and what belongs to it."""

    card: AssetCard
    """The card itself, or that of the run's checkpoint."""

    run: TrainedRun | None = None
    """The training run; None for a card."""

    @property
    def family(self) -> ModelFamily:
        """fairseq2's family of the model.

        :raises AssetCardNotValidError: the card names none.
        :raises ModelFamilyNotKnownError: no package brings that family.
        """
        name = get_model_family_name(self.card)
        return get_dependency_resolver().resolve(ModelFamily, key=name)

    def load(
        self,
        *,
        device: Device | str | None = None,
        dtype: torch.dtype | None = None,
        mmap: bool = False,
    ) -> Module:
        """Load the model; see ``load_model``."""
        device = torch.device(device) if isinstance(device, str) else device
        if device is None or device.type != "meta":
            return load_fairseq2_model(self.card, device=device, dtype=dtype, mmap=mmap)
        gangs = create_fake_gangs(CPU)
        return self.family.create_new_model(
            self.load_config(), gangs, dtype or torch.float32, True, True
        )

    def read_weights(self) -> dict[str, Tensor]:
        """Return the weights by the model's names, in the data types of the checkpoint.

        :raises ConfigError: the card names no checkpoint, or one that nothing can fetch.
        :raises CheckpointError: the checkpoint is missing, damaged, or of another model.
        """
        gangs, family = create_fake_gangs(CPU), self.family
        if not isinstance(family, CheckedModelFamily):
            raise ConfigError(f"Models of the family {family.name} are loaded by fairseq2 alone.")
        path = family.fetcher.fetch(self.card, gangs)
        return dict(family.iter_checkpoint(path, self.load_config(), gangs, True, True))

    def load_config(self) -> object:
        """Return the configuration that the model is built from."""
        return self.family.get_model_config(self.card)

    @property
    def tokenizer_name(self) -> str | None:
        """The card of the model's tokenizer, if one is known."""
        if self.run is not None:
            return self.run.tokenizer
        fields = ("tokenizer_ref", "tokenizer_family")
        return self.card.name if any(map(self.card.has_field, fields)) else None

    def load_tokenizer(self) -> Tokenizer:
        """Load the model's tokenizer.

        :raises ConfigError: a run's tokenizer was given by a file, not by a card.
        :raises AssetCardError: the model's card names none.
        :raises AssetDownloadError: the tokenizer cannot be downloaded.
        """
        if self.run is None:
            return load_tokenizer(self.card)
        if self.run.tokenizer is None:
            raise ConfigError(
                f"{self.run.folder} does not name the card of its tokenizer; give `tokenizer`."
            )
        return load_tokenizer(self.run.tokenizer)

    def read_confidence(self) -> Confidence:
        """Return how the confidence of the model's words is calibrated; not at all, if nobody has.

        :raises ConfigError: a run's ``confidence.json``, or a card's field ``confidence``, is none.
        """
        if self.run is not None:
            return read_confidence(self.run.folder / CONFIDENCE_FILE)
        field = self.card.maybe_get_field("confidence")
        if field is None:
            return Confidence()
        return parse_confidence(field.value, f"the card {self.card.name}")

    def read_search(self) -> Wav2Vec2LlamaBeamSearchConfig:
        """Return the search that suits the model: the card's field ``search``; else one beam.

        :raises ConfigError: the field is no search.
        """
        field = self.card.maybe_get_field("search")
        given = {} if field is None else field.value
        given = {"nbest": 1, **given} if isinstance(given, Mapping) else given
        try:
            search = read_options(Wav2Vec2LlamaBeamSearchConfig, given, "search")
            refuse(search.find_faults())
        except ConfigError as ex:
            raise ConfigError(f"`search` of the card {self.card.name} is impossible: {ex}") from ex
        return search

    @property
    def max_audio_secs(self) -> float | None:
        """The longest audio that the model was trained on, in seconds; None if not known."""
        return self._lengths("max_audio_secs")

    @property
    def typical_audio_secs(self) -> float | None:
        """What nine tenths of the training audio do not exceed, in seconds; None if not known."""
        return self._lengths("typical_audio_secs")

    def _lengths(self, name: str) -> float | None:
        """Return what the run, or a field of the card, says of the audio of the training."""
        if self.run is not None:
            return cast("float | None", getattr(self.run, name))
        field = self.card.maybe_get_field(name)
        return None if field is None else float(field.as_(float))

    @property
    def languages(self) -> LanguageTable:
        """The languages that the model knows, told without loading it; none if it takes none.

        :raises ConfigError: the file of languages cannot be read.
        """
        config = self.family.get_model_config(self.card)
        if isinstance(config, Wav2Vec2LlamaConfig):
            return config.language_table
        return LanguageTable({})


def find_model(name: AssetCard | Path | str) -> ModelSource:
    """Return the model card, the training run, or the folder of Transformers, that a name means.

    A card goes before a folder of its name in the current directory; ``./name`` means the folder.
    ``~`` is the home directory. A folder may also hold an adapter in PEFT's form, which means its
    base model with the adapter merged.

    :param name: a card, its name, or a folder: the output directory of a training run, what
        Transformers saved, or an adapter; a path means a folder.
    :raises UnknownNameError: there is no such card; the error names near ones.
    :raises ConfigError: the name is empty, or the directory holds no run with a checkpoint.
    :raises AssetMetadataError: the ``model.yaml`` of the run, or a score beside it, cannot be read.
    """
    if isinstance(name, AssetCard):
        return ModelSource(name)
    if isinstance(name, Path):
        name = f"{name}{os.sep}"
    if not name.strip():
        raise ConfigError("The model's name is empty; name a card, or a training run's directory.")
    card = _find_card(name)
    if card is not None:
        return ModelSource(card)
    if _is_folder(name):
        return _read_folder(Path(os.path.expanduser(name)))
    names = get_asset_store().asset_names
    raise UnknownNameError("model card", name, {n.rstrip("@") for n in names} - {name})


def find_absolute_name(name: str) -> str:
    """Return the name by which ``find_model`` finds the same model from any directory."""
    if _find_card(name) is None and _is_folder(name):
        return os.path.abspath(os.path.expanduser(name))
    return name


def _find_card(name: str) -> AssetCard | None:
    card = get_asset_store().maybe_retrieve_card(name)
    return card if card is not None and card.has_field("model_family") else None


def _is_folder(name: str) -> bool:
    return os.sep in name or os.path.isdir(os.path.expanduser(name))


def _read_folder(folder: Path) -> ModelSource:
    if is_transformers_folder(folder):
        return ModelSource(read_transformers_folder(folder))
    peft = read_peft(folder)
    if peft is not None:
        base = find_model(peft.base.name)
        card = _drop_checksums(base.card)
        fields = {**card.metadata, "checkpoint": str(folder.resolve())}
        return ModelSource(AssetCard(card.name, fields, card.base), base.run)
    run = read_run(folder)
    return ModelSource(run.load_card(), run)


def _drop_checksums(card: AssetCard) -> AssetCard:
    """Return the card without what it, or one it builds on, says of the file of its checkpoint."""
    base = None if card.base is None else _drop_checksums(card.base)
    dropped = (CHECKSUM_FIELD, "checkpoint_path")
    fields = {key: value for key, value in card.metadata.items() if key not in dropped}
    return AssetCard(card.name, fields, base)


def check_recognises(kls: type[Module]) -> None:
    """Refuse models of a class that does not recognise speech: a ConfigError."""
    if not issubclass(kls, Wav2Vec2LlamaModel | Wav2Vec2AsrModel):
        raise ConfigError(
            f"A {kls.__name__} does not recognise speech; need a model of the family"
            " wav2vec2_llama or wav2vec2_asr."
        )


def load_model(
    card: AssetCard | Path | str,
    *,
    device: Device | str | None = None,
    dtype: torch.dtype | None = None,
    mmap: bool = False,
    kind: type[Module] = Module,
) -> Module:
    """Load the model of a card, or of a training run, with fairseq2's ``load_model``.

    On the meta device the model is built without weights, and no checkpoint is looked for.

    :param card: as in ``find_model``, whose errors are raised, too.
    :param mmap: whether to map the checkpoint into memory; those of speech models always are.
    :param kind: what the model has to be, which is found out before its checkpoint is fetched.
    :raises ConfigError: the card names no checkpoint, or one that nothing can fetch, or the model
        is of another kind.
    :raises CheckpointError: the checkpoint is missing, cannot be downloaded, is damaged, or is of
        another model.
    :raises AssetCardError: another field of the card (family, architecture, configuration, path) is
        missing or wrong.
    """
    source = find_model(card)
    if not issubclass(source.family.kls, kind):
        name = card if isinstance(card, str) else card.name
        raise ConfigError(f"{name} is a {source.family.kls.__name__}, not a {kind.__name__}.")
    return source.load(device=device, dtype=dtype, mmap=mmap)
