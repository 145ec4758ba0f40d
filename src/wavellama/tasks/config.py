"""The configuration of the recipes: fairseq2's sections and our own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast, get_args

import torch
from fairseq2.recipe.component import ComponentManager
from fairseq2.recipe.config import (
    AdamWConfig,
    CommonSection,
    DatasetSection,
    GangSection,
    LRSchedulerSection,
    MixedPrecisionConfig,
    ModelSection,
    OptimizerSection,
    RegimeSection,
    Seq2SeqGeneratorSection,
    SupportsStructure,
    TokenizerSection,
    TrainerSection,
)
from fairseq2.runtime.dependency import DependencyResolver
from typing_extensions import override

from wavellama.data.manifest_dataset import MANIFEST_ASR_FAMILY
from wavellama.data.mixing import Betas
from wavellama.data.parquet.dataset import PARQUET_ASR_FAMILY
from wavellama.data.parquet.files import holds_parquet
from wavellama.data.plan import ExampleSource, ReaderOptions
from wavellama.decoding.component import BEAM_GENERATOR
from wavellama.faults import Checked, within
from wavellama.model.lora import LoraConfig
from wavellama.model.loss import Objective
from wavellama.model.masking import NO_MASKER, MaskerFactory
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.model.spectral import SpectralAugment
from wavellama.options import check_value, read_options
from wavellama.tasks.adapters import ModelAdapter
from wavellama.tasks.stopping import EarlyStoppingSection

CTC_METRICS: Final = {"nll_loss": "ctc_loss", "cer": "ctc_cer", "wer": "ctc_wer"}
"""What validation measures of the decoder, and the same of the CTC head."""


@dataclass(kw_only=True)
class AsrDatasetSection(Checked, DatasetSection, SupportsStructure):
    """The data set, by ``name`` or ``path``, its splits, and how they are read."""

    path: Path | None = None
    """A manifest or a folder with manifests; or parquet files in the published layout."""

    train_split: str = "train"
    valid_split: str = "dev"
    """The split to validate on; eval and transcribe read it, too."""

    languages: object = ()
    """The languages to read, such as [ita_Latn]; none named: all."""

    min_audio_secs: float = 0.1
    """Shorter utterances are left out."""

    max_audio_secs: float = 30.0
    """Longer utterances are left out."""

    batch_audio_secs: float = 40.0
    """The most audio in a batch in seconds, padding included."""

    beta_corpus: float | None = within("[0, inf)", None)
    """Train: 1 reads corpora by their hours, 0 all alike (the exponent of ``data.mixing``)."""

    beta_language: float | None = within("[0, inf)", None)
    """Train: the same of the languages of a corpus; neither given: every row once per epoch."""

    short_first: bool = False
    """Train: whether the first epoch goes from short utterances to long ones."""

    examples_from: str = "language"
    """Whether the context examples of ZERO_SHOT models share the ``speaker`` or the ``language``
    of the utterance; they are drawn from the same split."""

    max_bad_share: float = 0.02
    """The share of unusable utterances above which the run stops."""

    max_unwritable_share: float = 0.1
    """The share of characters without a token above which training does not start."""

    @override
    def structure(self, resolver: DependencyResolver) -> None:
        """Open a path as a data set of the family that lies there; check the languages."""
        self.languages = check_value("dataset.languages", self.languages, tuple[str, ...])
        if self.path is not None:
            is_parquet = holds_parquet(self.path)
            self.name, self.family = None, PARQUET_ASR_FAMILY if is_parquet else MANIFEST_ASR_FAMILY
            given = self.config_overrides if isinstance(self.config_overrides, dict) else {}
            self.config_overrides = {**given, "path": str(self.path)}

    @override
    def find_faults(self) -> Iterator[str]:
        if not 0.0 <= self.min_audio_secs < self.max_audio_secs:
            yield (
                f"`min_audio_secs` ({self.min_audio_secs:g}) must be at least 0 and less than"
                f" `max_audio_secs` ({self.max_audio_secs:g})."
            )
        if self.examples_from not in get_args(ExampleSource):
            yield f"`examples_from` must be speaker or language, but is {self.examples_from}."
        if self.batch_audio_secs < self.max_audio_secs:
            yield (
                f"`batch_audio_secs` ({self.batch_audio_secs:g}) must be at least `max_audio_secs`"
                f" ({self.max_audio_secs:g}), or the longest utterance fits no batch."
            )
        yield from super().find_faults()

    @property
    def betas(self) -> Betas | None:
        """How corpora and languages are mixed in training, if they are."""
        if self.beta_corpus is None and self.beta_language is None:
            return None
        return Betas(corpus=self.beta_corpus, language=self.beta_language)

    def find_unnamed(self) -> Iterator[str]:
        """Yield a fault if the section names no data set."""
        if self.name is None and self.family is None and self.path is None:
            yield "`dataset` names no data set; give `dataset.name` or `dataset.path`."

    def reader_options(self, output_dir: Path, split: str, adapter: ModelAdapter) -> ReaderOptions:
        """Return how to read a split from start to end, with the metadata that a model needs.

        :param output_dir: where to list bad audio, and to draw how the data are mixed.
        """
        return ReaderOptions(
            num_examples=adapter.num_examples,
            examples_from=cast("ExampleSource", self.examples_from),
            language_column=adapter.language_column_name,
            model_languages=adapter.languages,
            failures_path=output_dir / f"bad_audio.{split}.jsonl",
            max_bad_share=self.max_bad_share,
            shares_path=output_dir / "mixture.png",
            languages=cast("tuple[str, ...]", self.languages),
            batch_audio_secs=self.batch_audio_secs,
            min_audio_secs=self.min_audio_secs,
            max_audio_secs=self.max_audio_secs,
        )


@dataclass(kw_only=True)
class MaskerSection(SupportsStructure):
    """The feature masker of training, by name."""

    name: str = NO_MASKER
    """``standard``, ``none``, or the name under which another package registered its own."""

    config: object = field(default_factory=dict)
    """The masker's own configuration."""

    @override
    def structure(self, resolver: DependencyResolver) -> None:
        """Turn the plain mapping of a YAML file into the masker's configuration."""
        manager = resolver.resolve(ComponentManager)
        self.config = manager.structure_component_config(MaskerFactory, self.name, self.config)


@dataclass(kw_only=True)
class DecodingSection(Seq2SeqGeneratorSection):
    """The generator that decodes batches, by name.

    Its configuration is empty by default, so that ours is not merged with that of another one.
    """

    name: str = BEAM_GENERATOR
    config: object = field(default_factory=dict)

    @override
    def structure(self, resolver: DependencyResolver) -> None:
        """Make our own configuration of a mapping whose values nobody has converted before."""
        if self.name == BEAM_GENERATOR:
            key = "seq2seq_generator.config"
            self.config = read_options(Wav2Vec2LlamaBeamSearchConfig, self.config, key)
        super().structure(resolver)


@dataclass(kw_only=True)
class AugmentSection(Checked):
    """What training changes in the audio; nothing by default."""

    speeds: Sequence[float] = field(default_factory=list)
    """Speeds to draw from for each utterance, such as [0.9, 1.0, 1.1]."""

    concat_p: float = within("[0, 1]", 0.0)
    """The probability of joining an utterance with another one of its language."""

    spectral: SpectralAugment = field(default_factory=lambda: SpectralAugment())
    """Warping and masking of filter banks (models that compute them)."""

    @override
    def find_faults(self) -> Iterator[str]:
        if any(not 0.5 <= speed <= 2.0 for speed in self.speeds):
            yield f"`speeds` must lie in [0.5, 2]: {list(self.speeds)}."
        yield from super().find_faults()


@dataclass(kw_only=True)
class FreezeSection(Checked):
    """What stays as it is for the first steps; -1 means for the whole run."""

    encoder_steps: int = 0
    """For how many steps front end and encoder are frozen."""

    decoder_steps: int = 0
    """For how many steps the decoder, its embeddings and projections are frozen."""

    encoder_layers: int = within("[0, inf)", 0)
    """How many of the encoder's lower layers are frozen for the whole run, and with any of them
    the front end."""

    @override
    def find_faults(self) -> Iterator[str]:
        yield from super().find_faults()
        for name in ("encoder_steps", "decoder_steps"):
            if (number := getattr(self, name)) < -1:
                yield f"`{name}` must be a number of steps, or -1: {number}."
        if self.encoder_steps != 0 and self.decoder_steps != 0:
            yield (
                f"With `encoder_steps` {self.encoder_steps} and `decoder_steps`"
                f" {self.decoder_steps} the first step trains nothing; one of them must be 0."
            )


@dataclass(kw_only=True)
class TrainConfig(Checked):
    """The configuration of ``train``."""

    recipe: str = "train"
    """Which recipe the file is for."""

    model: ModelSection = field(default_factory=lambda: ModelSection())
    dataset: AsrDatasetSection = field(default_factory=lambda: AsrDatasetSection())
    tokenizer: TokenizerSection = field(default_factory=lambda: TokenizerSection())
    masker: MaskerSection | None = None
    """The feature masker; None keeps the one that the model's own configuration asks for."""

    gang: GangSection = field(default_factory=lambda: GangSection())
    trainer: TrainerSection = field(
        default_factory=lambda: TrainerSection(mixed_precision=MixedPrecisionConfig(mode="off"))
    )
    optimizer: OptimizerSection = field(
        default_factory=lambda: OptimizerSection(config=AdamWConfig(lr=1e-3, impl="fused"))
    )
    lr_scheduler: LRSchedulerSection = field(default_factory=lambda: LRSchedulerSection())
    regime: RegimeSection = field(
        default_factory=lambda: RegimeSection(
            num_steps=5, score_metric="cer", publish_metrics_every_n_steps=1
        )
    )
    objective: Objective = field(default_factory=lambda: Objective())
    augment: AugmentSection = field(default_factory=lambda: AugmentSection())
    freeze: FreezeSection = field(default_factory=lambda: FreezeSection())

    lora: LoraConfig | None = None
    """The adapters that are trained instead of the model's own weights; None: no adapters."""

    early_stopping: EarlyStoppingSection | None = None
    """When to end the run before its last step; None: never."""

    encoder_from: str | None = None
    """A model card whose encoder a new model starts with."""

    seq2seq_generator: DecodingSection = field(default_factory=lambda: DecodingSection())
    """The generator with which validation decodes."""

    common: CommonSection = field(default_factory=lambda: CommonSection(no_sweep_dir=True))

    @override
    def find_faults(self) -> Iterator[str]:
        yield from self.dataset.find_unnamed()
        if self.gang.tensor_parallel_size > 1:
            yield (
                "`gang.tensor_parallel_size` must be 1: not every part of the models can be split;"
                " `trainer.data_parallelism: fsdp` shares out the memory."
            )
        if self.objective.ctc_weight == 1.0:
            yield from self._ctc_only_faults()
        if self.early_stopping is not None:
            yield from self._early_stopping_faults()
        if self.lora is not None:
            yield from self._lora_faults()

    def _lora_faults(self) -> Iterator[str]:
        if self.model.name is None and self.model.path is None:
            yield "`lora` adapts a model that exists: give `model.name`."
        mode = self.trainer.mixed_precision.mode
        if self.model.dtype != torch.float32 and mode == "off":
            yield (
                "Adapters have weights in float32; where the base has `model.dtype`"
                f" {self.model.dtype}, set `trainer.mixed_precision.mode: auto`."
            )

    def _ctc_only_faults(self) -> Iterator[str]:
        metric = self.regime.score_metric
        if metric in CTC_METRICS:
            yield (
                f"`regime.score_metric` is {metric}, but with `objective.ctc_weight: 1` the decoder"
                f" is not run and has none; choose {CTC_METRICS[metric]}."
            )
        if self.freeze.encoder_steps != 0:
            yield (
                "With `objective.ctc_weight: 1` only encoder and CTC head are trained, so"
                f" `freeze.encoder_steps` must be 0: {self.freeze.encoder_steps}."
            )

    def _early_stopping_faults(self) -> Iterator[str]:
        regime = self.regime
        if regime.score_metric is None:
            yield "`early_stopping` needs a `regime.score_metric`, such as cer."
        if regime.validate_every_n_steps is None and regime.validate_every_n_data_epochs is None:
            yield "`early_stopping` needs `regime.validate_every_n_steps`."
