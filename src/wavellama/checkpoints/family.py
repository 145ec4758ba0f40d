"""The model families, with loading that checks a checkpoint before it takes any memory.

fairseq2's own loading reads a checkpoint whole, next to the model, and compares the two when all
is copied. The families here differ in three points: the checkpoint is fetched by ``fetch`` (it
resumes, and verifies checksums), read by ``reading`` (mapped into memory, checked first; weights
in 8 bits become floats), and converted by ``interop``, which knows fairseq1's self-supervised
encoders. fairseq2's own families of wav2vec 2.0 encoders and CTC models are replaced, so that
their published cards have this, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import torch
from fairseq2.assets import AssetCard, AssetConfigLoader
from fairseq2.device import CPU
from fairseq2.gang import Gangs, create_fake_gangs, get_current_gangs
from fairseq2.model_checkpoint import (
    CorruptModelCheckpointError,
    ModelCheckpointLoader,
    ModelCheckpointLoadOptions,
)
from fairseq2.models import ModelFamily, StandardModelFamily
from fairseq2.models.wav2vec2 import (
    WAV2VEC2_FAMILY,
    Wav2Vec2Config,
    Wav2Vec2Model,
    apply_ac_to_wav2vec2,
    apply_fsdp_to_wav2vec2,
    create_wav2vec2_model,
)
from fairseq2.models.wav2vec2.asr import (
    WAV2VEC2_ASR_FAMILY,
    Wav2Vec2AsrConfig,
    Wav2Vec2AsrModel,
    apply_ac_to_wav2vec2_asr,
    apply_fsdp_to_wav2vec2_asr,
    create_wav2vec2_asr_model,
)
from fairseq2.runtime.dependency import (
    DependencyContainer,
    DependencyLookup,
    DependencyResolver,
    wire_object,
)
from torch import Tensor
from torch.nn import Module
from typing_extensions import override

from wavellama.checkpoints.fetch import CheckpointFetcher
from wavellama.checkpoints.interop import (
    convert_ctc_state_dict,
    convert_ssl_state_dict,
    convert_state_dict,
)
from wavellama.checkpoints.peft import read_adapter
from wavellama.checkpoints.reading import FileWeights, check_fit, find_checkpoint_file, iter_weights
from wavellama.errors import CheckpointError
from wavellama.fairseq2_private import register_or_replace
from wavellama.model.config import WAV2VEC2_LLAMA_FAMILY, Wav2Vec2LlamaConfig
from wavellama.model.factory import create_wav2vec2_llama_model
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.sharding import apply_fsdp, apply_layerwise_checkpointing, compile_decoder

_Converter: TypeAlias = "Callable[..., dict[str, object]]"


class CheckedModelFamily(StandardModelFamily):  # type: ignore[misc]
    """fairseq2's family, which is marked final but cannot be composed: its parts call each other.

    Weights are always unpickled as tensors only and mapped into memory, whatever ``mmap`` and
    ``restrict`` say.
    """

    fetcher: CheckpointFetcher

    @override
    def load_model(
        self,
        card: AssetCard,
        gangs: Gangs,
        dtype: torch.dtype,
        config: object | None,
        load_rank0_only: bool,
        mmap: bool,
    ) -> Module:
        """Load the model of a card.

        :raises ConfigError: the card names no checkpoint, or one that nothing can fetch.
        :raises CheckpointError: the checkpoint is missing, damaged, or of another model.
        """
        if config is None:
            config = self.get_model_config(card)  # a wrong card is known before gigabytes have come
        path = self.fetcher.fetch(card, gangs)
        try:
            return self.load_custom_model(path, config, gangs, dtype, load_rank0_only, mmap, True)
        except (FileNotFoundError, CorruptModelCheckpointError) as ex:
            raise CheckpointError(f"The checkpoint of {card.name} cannot be loaded: {ex}") from ex


@final
class CheckedLoader(ModelCheckpointLoader):
    """Reads a checkpoint that is one file by ``reading``, and any other as fairseq2 does."""

    def __init__(self, other: ModelCheckpointLoader) -> None:
        """:param other: fairseq2's loader."""
        self._other = other

    @override
    def lazy_load(
        self,
        path: Path,
        shard_dims: Mapping[str, int],
        options: ModelCheckpointLoadOptions | None = None,
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the weights by the model's names; those of an adapter are merged with its base's.

        :raises CheckpointError: the one file cannot be read, or is of another model; or the base of
            an adapter is not found.
        """
        adapter = read_adapter(path, self._other)
        if adapter is not None:
            return adapter.merge(self.lazy_load(adapter.base.find(), shard_dims, options))
        options = options or ModelCheckpointLoadOptions()
        gangs, convert = options.gangs or get_current_gangs(), options.state_dict_converter or dict
        file = find_checkpoint_file(path) if gangs.root.size == gangs.dp.size else None
        if file is not None:
            return iter_weights(file, convert)
        return self._other.lazy_load(path, shard_dims, replace(options, mmap=True, restrict=True))

    @override
    def supports_path(self, path: Path) -> bool:
        """Tell whether there is a checkpoint that can be read."""
        return find_checkpoint_file(path) is not None or self._other.supports_path(path)


_PATH_FIELD: Final = "languages"
"""The field of a model's configuration that may be a path."""


@final
class CardConfigLoader(AssetConfigLoader):
    """fairseq2's loader, for which the path of ``languages`` starts at the folder of the card."""

    def __init__(self, loader: AssetConfigLoader) -> None:
        self._loader = loader

    @override
    def load(self, card: AssetCard, base_config: object, config_key: str) -> object:
        return self._loader.load(_anchor(card, config_key), base_config, config_key)


def _anchor(card: AssetCard, config_key: str) -> AssetCard:
    """Return the card, and those it builds on, with the path of each below that card's folder."""
    base = None if card.base is None else _anchor(card.base, config_key)
    config, folder = card.metadata.get(config_key), card.metadata.get("__base_path__")
    metadata = dict(card.metadata)
    if isinstance(config, Mapping) and isinstance(folder, Path):
        path = config.get(_PATH_FIELD)
        if isinstance(path, str) and not path.startswith("${"):  # a variable of fairseq2's
            metadata[config_key] = {**config, _PATH_FIELD: str(folder / Path(path).expanduser())}
    return AssetCard(card.name, metadata, base)


@dataclass(frozen=True, kw_only=True)
class FamilyParts:
    """What makes a family; see ``register_model_family`` of fairseq2."""

    name: str
    kls: type[Module]
    config_kls: type[object]
    factory: Callable[[Any], Module]
    converter: _Converter
    fsdp_applier: Callable[..., Module]
    layerwise_ac_applier: Callable[..., Module]
    compiler: Callable[..., None] | None = None

    def create(self, resolver: DependencyResolver) -> ModelFamily:
        """Create the family."""

        def convert(state_dict: dict[str, object], config: object) -> dict[str, object]:
            """Convert a state dict; that of a whole file must fit the model."""
            weights = self.converter(state_dict, config)
            if isinstance(state_dict, FileWeights):
                cpu = create_fake_gangs(CPU)
                expected = family.create_new_model(config, cpu, torch.float32, True, True)
                kind = f"a {self.name} model of this kind"
                check_fit(state_dict.file, weights, expected.state_dict(), kind)
            return weights

        family = wire_object(
            resolver,
            CheckedModelFamily,
            name=self.name,
            kls=self.kls,
            configs=DependencyLookup(resolver, self.config_kls),
            factory=self.factory,
            checkpoint_loader=CheckedLoader(resolver.resolve(ModelCheckpointLoader)),
            supports_meta=True,
            restrict=True,
            asset_config_loader=CardConfigLoader(resolver.resolve(AssetConfigLoader)),
            state_dict_converter=convert,
            shard_specs=None,
            compiler=self.compiler,
            fsdp_applier=self.fsdp_applier,
            layerwise_ac_applier=self.layerwise_ac_applier,
        )
        family.fetcher = CheckpointFetcher.create(resolver)
        return family


FAMILIES: Final = (
    FamilyParts(
        name=WAV2VEC2_LLAMA_FAMILY,
        kls=Wav2Vec2LlamaModel,
        config_kls=Wav2Vec2LlamaConfig,
        factory=create_wav2vec2_llama_model,
        converter=convert_state_dict,
        fsdp_applier=apply_fsdp,
        layerwise_ac_applier=apply_layerwise_checkpointing,
        compiler=compile_decoder,
    ),
    FamilyParts(
        name=WAV2VEC2_FAMILY,
        kls=Wav2Vec2Model,
        config_kls=Wav2Vec2Config,
        factory=create_wav2vec2_model,
        converter=convert_ssl_state_dict,
        fsdp_applier=apply_fsdp_to_wav2vec2,
        layerwise_ac_applier=apply_ac_to_wav2vec2,
    ),
    FamilyParts(
        name=WAV2VEC2_ASR_FAMILY,
        kls=Wav2Vec2AsrModel,
        config_kls=Wav2Vec2AsrConfig,
        factory=create_wav2vec2_asr_model,
        converter=convert_ctc_state_dict,
        fsdp_applier=apply_fsdp_to_wav2vec2_asr,
        layerwise_ac_applier=apply_ac_to_wav2vec2_asr,
    ),
)


def register_families(container: DependencyContainer) -> None:
    """Register our family, and put ours in the place of fairseq2's two."""
    for parts in FAMILIES:
        register_or_replace(container, ModelFamily, parts.name, parts.create)
