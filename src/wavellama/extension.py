"""The composition root: everything that wavellama adds to fairseq2 is registered here.

fairseq2 calls ``register`` through the entry point ``fairseq2.extension``. It turns a failing
extension into one line of warning, which is right for those of other packages; a half-registered
wavellama would fail later and elsewhere, so the failure is logged here in full before it is passed
on, and ends the command line.
"""

from __future__ import annotations

import logging
import os
import sys

from fairseq2.runtime.dependency import DependencyContainer

from wavellama.plugins import MUST_REGISTER

_log = logging.getLogger(__name__)


def register(container: DependencyContainer) -> None:
    """Register cards, families, architectures, components and metrics.

    :raises SystemExit: this fails in the command line.
    """
    try:
        _register_models(container)
        _register_datasets(container)
        # What recipes alone ask for: importing fairseq2's takes a second and 29 MiB.
        if "fairseq2.recipe" in sys.modules:  # a recipe makes the container
            _register_components(container)
            _register_metrics(container)
            _register_errors(container)
    except Exception as ex:
        _log.exception("wavellama could not register itself with fairseq2.")
        if MUST_REGISTER in os.environ:
            raise SystemExit(1) from ex
        raise


def _register_models(container: DependencyContainer) -> None:
    from fairseq2.composition import register_package_assets, register_tokenizer_family
    from fairseq2.data.tokenizers import Tokenizer

    from wavellama.checkpoints.family import register_families
    from wavellama.checkpoints.transformers_folder import TOKENIZER_FAMILY, load_tokenizer_json
    from wavellama.model.archs import register_archs

    register_package_assets(container, "wavellama.assets.cards")
    register_families(container)
    register_archs(container)
    register_tokenizer_family(
        container, TOKENIZER_FAMILY, Tokenizer, type(None), loader=load_tokenizer_json
    )


def _register_datasets(container: DependencyContainer) -> None:
    from fairseq2.composition import register_dataset_family

    from wavellama.data.manifest_dataset import (
        MANIFEST_ASR_FAMILY,
        ManifestDataset,
        ManifestDatasetConfig,
        open_manifest_dataset,
    )
    from wavellama.data.parquet.dataset import (
        PARQUET_ASR_FAMILY,
        ParquetDataset,
        ParquetDatasetConfig,
    )
    from wavellama.data.toy import TOY_TONES_FAMILY, ToyTones, ToyTonesConfig

    register_dataset_family(container, TOY_TONES_FAMILY, ToyTones, ToyTonesConfig, opener=ToyTones)
    register_dataset_family(
        container,
        MANIFEST_ASR_FAMILY,
        ManifestDataset,
        ManifestDatasetConfig,
        opener=open_manifest_dataset,
    )
    parquet = (PARQUET_ASR_FAMILY, ParquetDataset, ParquetDatasetConfig)
    register_dataset_family(container, *parquet, opener=ParquetDataset)


def _register_components(container: DependencyContainer) -> None:
    from fairseq2.generation import Seq2SeqGenerator
    from fairseq2.recipe.component import register_component
    from torch.optim import Optimizer

    from wavellama.decoding.component import BEAM_GENERATOR, create_generator
    from wavellama.model import masking
    from wavellama.model.adamw_8bit import ADAMW_8BIT, AdamW8BitConfig, create_adamw_8bit
    from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig

    register_component(
        container, Seq2SeqGenerator, BEAM_GENERATOR, Wav2Vec2LlamaBeamSearchConfig, create_generator
    )
    kind = masking.MaskerFactory
    standard = (masking.STANDARD_MASKER, masking.StandardMaskerConfig)
    register_component(container, kind, *standard, masking.standard_masker_factory)
    none = (masking.NO_MASKER, masking.NoMaskerConfig)
    register_component(container, kind, *none, masking.no_masker_factory)
    register_component(container, Optimizer, ADAMW_8BIT, AdamW8BitConfig, create_adamw_8bit)


def _register_metrics(container: DependencyContainer) -> None:
    from fairseq2.metrics import format_as_float, format_as_int
    from fairseq2.metrics.recorders import MetricDescriptor

    for name, title, priority, formatter in (
        ("cer", "Character Error Rate (CER)", 200, format_as_float),
        ("ctc_cer", "CTC Character Error Rate", 201, format_as_float),
        ("ctc_wer", "CTC Word Error Rate", 201, format_as_float),
        ("audio_secs", "Audio Seconds", 820, format_as_int),
        ("audio_secs_per_sec", "Audio Seconds per Second", 811, format_as_float),
        ("num_transcripts", "Transcripts", 820, format_as_int),
    ):
        descriptor = MetricDescriptor(name, title, priority, formatter)
        container.collection.register_instance(MetricDescriptor, descriptor)


def _register_errors(container: DependencyContainer) -> None:
    """Let fairseq2's command line report our errors in one sentence, with our exit code."""
    from fairseq2.logging import log
    from fairseq2.recipe import register_cli_error

    from wavellama import errors

    def report(ex: errors.WavellamaError) -> int:
        log.error("{}", ex)
        return ex.exit_code

    for kls in vars(errors).values():
        if isinstance(kls, type) and issubclass(kls, errors.WavellamaError):
            register_cli_error(container, kls, report)
