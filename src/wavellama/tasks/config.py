"""The configuration of the recipes: fairseq2's sections and our own."""

from __future__ import annotations

from dataclasses import dataclass, field

from fairseq2.models.wav2vec2 import Wav2Vec2Masker
from fairseq2.recipe.component import ComponentManager
from fairseq2.recipe.config import (
    AdamWConfig,
    CommonSection,
    DatasetSection,
    EvaluatorSection,
    GangSection,
    GeneratorSection,
    LRSchedulerSection,
    MixedPrecisionConfig,
    ModelSection,
    OptimizerSection,
    ReferenceModelSection,
    RegimeSection,
    Seq2SeqGeneratorSection,
    SupportsStructure,
    TokenizerSection,
    TrainerSection,
)
from fairseq2.runtime.dependency import DependencyResolver
from fairseq2.utils.validation import ValidationResult
from typing_extensions import override

from wavellama.data.reader import ReaderOptions
from wavellama.decoding.generator import BEAM_GENERATOR
from wavellama.model.config import WAV2VEC2_LLAMA_FAMILY, Wav2Vec2LlamaBeamSearchConfig
from wavellama.model.masking import NO_MASKER, NoMaskerConfig


@dataclass(kw_only=True)
class AsrDatasetSection(DatasetSection):
    """The data set, its splits, and how they are read."""

    train_split: str = "train"
    """The split to train on."""

    valid_split: str = "dev"
    """The split to validate on; eval and transcribe read it, too."""

    min_audio_secs: float = 0.1
    """Shorter utterances are left out."""

    max_audio_secs: float = 30.0
    """Longer utterances are left out."""

    batch_audio_secs: float = 40.0
    """The most audio in a batch in seconds, padding included."""

    @override
    def validate(self) -> ValidationResult:
        """Check that the limits of length leave room for an utterance."""
        result = super().validate()
        if not 0.0 <= self.min_audio_secs < self.max_audio_secs:
            result.add_error(
                f"`min_audio_secs` ({self.min_audio_secs:g}) must be at least 0 and less than"
                f" `max_audio_secs` ({self.max_audio_secs:g})."
            )
        if self.batch_audio_secs < self.max_audio_secs:
            result.add_error(
                f"`batch_audio_secs` ({self.batch_audio_secs:g}) must be at least `max_audio_secs`"
                f" ({self.max_audio_secs:g}), or the longest utterance fits no batch."
            )
        return result

    def reader_options(self) -> ReaderOptions:
        """Return how to read a split from start to end."""
        return ReaderOptions(
            batch_audio_secs=self.batch_audio_secs,
            min_audio_secs=self.min_audio_secs,
            max_audio_secs=self.max_audio_secs,
        )


@dataclass(kw_only=True)
class MaskerSection(SupportsStructure):
    """The feature masker of training, by name."""

    name: str = NO_MASKER
    """``standard``, ``none``, or the name under which another package registered its own."""

    config: object = field(default_factory=lambda: NoMaskerConfig())
    """The masker's own configuration."""

    @override
    def structure(self, resolver: DependencyResolver) -> None:
        """Turn the plain mapping of a YAML file into the masker's configuration."""
        manager = resolver.resolve(ComponentManager)
        self.config = manager.structure_component_config(Wav2Vec2Masker, self.name, self.config)


def _generator_section() -> Seq2SeqGeneratorSection:
    return Seq2SeqGeneratorSection(name=BEAM_GENERATOR, config=Wav2Vec2LlamaBeamSearchConfig())


def _toy_dataset() -> AsrDatasetSection:
    return AsrDatasetSection(name="toy_tones")


def _toy_tokenizer() -> TokenizerSection:
    return TokenizerSection(name="toy_tokenizer")


@dataclass(kw_only=True)
class TrainConfig:
    """The configuration of ``train``; the defaults train a toy model."""

    recipe: str = "train"
    """Which recipe the file is for."""

    model: ModelSection = field(
        default_factory=lambda: ModelSection(family=WAV2VEC2_LLAMA_FAMILY, arch="tiny_lid")
    )
    dataset: AsrDatasetSection = field(default_factory=_toy_dataset)
    tokenizer: TokenizerSection = field(default_factory=_toy_tokenizer)
    masker: MaskerSection | None = None
    """The feature masker; None keeps the one that the model's own configuration asks for."""

    gang: GangSection = field(default_factory=lambda: GangSection())
    trainer: TrainerSection = field(
        default_factory=lambda: TrainerSection(mixed_precision=MixedPrecisionConfig(mode="off"))
    )
    optimizer: OptimizerSection = field(
        default_factory=lambda: OptimizerSection(config=AdamWConfig(lr=1e-3))
    )
    lr_scheduler: LRSchedulerSection = field(default_factory=lambda: LRSchedulerSection())
    regime: RegimeSection = field(
        default_factory=lambda: RegimeSection(
            num_steps=5, score_metric="cer", publish_metrics_every_n_steps=1
        )
    )
    seq2seq_generator: Seq2SeqGeneratorSection = field(default_factory=_generator_section)
    """The generator with which validation decodes."""

    common: CommonSection = field(default_factory=lambda: CommonSection(no_sweep_dir=True))


@dataclass(kw_only=True)
class EvalConfig:
    """The configuration of ``eval``."""

    recipe: str = "eval"
    """Which recipe the file is for."""

    model: ReferenceModelSection = field(
        default_factory=lambda: ReferenceModelSection(name="last_checkpoint")
    )
    dataset: AsrDatasetSection = field(default_factory=_toy_dataset)
    tokenizer: TokenizerSection = field(default_factory=_toy_tokenizer)
    gang: GangSection = field(default_factory=lambda: GangSection())
    evaluator: EvaluatorSection = field(default_factory=lambda: EvaluatorSection())
    seq2seq_generator: Seq2SeqGeneratorSection = field(default_factory=_generator_section)
    common: CommonSection = field(default_factory=lambda: CommonSection(no_sweep_dir=True))


@dataclass(kw_only=True)
class TranscribeConfig:
    """The configuration of ``transcribe``."""

    recipe: str = "transcribe"
    """Which recipe the file is for."""

    model: ReferenceModelSection = field(
        default_factory=lambda: ReferenceModelSection(name="last_checkpoint")
    )
    dataset: AsrDatasetSection = field(default_factory=_toy_dataset)
    tokenizer: TokenizerSection = field(default_factory=_toy_tokenizer)
    gang: GangSection = field(default_factory=lambda: GangSection())
    generator: GeneratorSection = field(default_factory=lambda: GeneratorSection())
    seq2seq_generator: Seq2SeqGeneratorSection = field(default_factory=_generator_section)
    common: CommonSection = field(default_factory=lambda: CommonSection(no_sweep_dir=True))
