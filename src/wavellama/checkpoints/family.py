"""The model families, with loading that checks a checkpoint before it takes any memory.

fairseq2's own loading reads a checkpoint whole, next to the model, and compares the two when all
is copied. The families here differ in three points: the checkpoint is fetched by ``fetch`` (it
resumes, and verifies checksums), read by ``checkpoint`` (mapped into memory, checked first), and
converted by ``interop``, which knows fairseq1's self-supervised encoders. fairseq2's own families
of wav2vec 2.0 encoders and CTC models are replaced, so that their published cards have this, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import torch
from fairseq2.assets import AssetCard
from fairseq2.device import CPU
from fairseq2.gang import Gangs, create_fake_gangs
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
from fairseq2.utils.uri import Uri
from torch import Tensor
from torch.nn import Module
from typing_extensions import override

from wavellama.checkpoints.fetch import CheckpointFetcher, local_path
from wavellama.checkpoints.interop import (
    convert_ctc_state_dict,
    convert_ssl_state_dict,
    convert_state_dict,
)
from wavellama.checkpoints.reading import find_checkpoint_file, iter_weights
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
        if gangs.root.rank == 0:
            self.fetcher.fetch(card)
        return super().load_model(card, gangs, dtype, config, load_rank0_only, mmap)

    @override
    def _download_model(self, uri: Uri, gangs: Gangs) -> Path:
        # fairseq2 turns a path into a URI and back, but leaves a blank in it as %20.
        return local_path(uri) if uri.scheme == "file" else super()._download_model(uri, gangs)

    @override
    def _do_iter_checkpoint(
        self,
        path: Path,
        config: object,
        shard_dims: Mapping[str, int] | None,
        gangs: Gangs,
        mmap: bool,
        restrict: bool | None,
    ) -> Iterator[tuple[str, Tensor]]:
        file = find_checkpoint_file(path) if gangs.root.size == gangs.dp.size else None
        if file is None:
            return super()._do_iter_checkpoint(path, config, shard_dims, gangs, True, True)
        cpu = create_fake_gangs(CPU)
        model = self.create_new_model(config, cpu, torch.float32, True, True)
        convert = partial(cast("_Converter", self._state_dict_converter), config=config)
        return iter_weights(file, convert, model.state_dict(), f"a {self.name} model of this kind")


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
        family = wire_object(
            resolver,
            CheckedModelFamily,
            name=self.name,
            kls=self.kls,
            configs=DependencyLookup(resolver, self.config_kls),
            factory=self.factory,
            supports_meta=True,
            restrict=True,
            state_dict_converter=self.converter,
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
        registered = container._registrations.get((ModelFamily, parts.name))
        if registered is None:
            container.register(ModelFamily, parts.create, key=parts.name)
        else:  # fairseq2 has no way to replace what it registered itself
            registered.provider = parts.create
