"""The configuration of the recipes that use a trained model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fairseq2.recipe.config import (
    CommonSection,
    EvaluatorSection,
    GangSection,
    GeneratorSection,
    ReferenceModelSection,
    SupportsStructure,
    TokenizerSection,
)
from fairseq2.runtime.dependency import DependencyResolver
from typing_extensions import override

from wavellama.errors import ConfigError
from wavellama.faults import Checked
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.options import check_value, read_options
from wavellama.pipeline.devices import default_device, default_dtype
from wavellama.pipeline.options import TranscribeOptions
from wavellama.tasks.config import AsrDatasetSection, DecodingSection
from wavellama.transcript.options import WriterOptions


@dataclass(kw_only=True)
class InferenceConfig:
    """What the recipes that use a trained model have in common."""

    recipe: str
    """Which recipe the file is for."""

    model: ReferenceModelSection = field(
        default_factory=lambda: ReferenceModelSection(
            name="last_checkpoint", dtype=default_dtype(default_device())
        )
    )
    """The model; by default with weights of the type that the command line takes."""

    dataset: AsrDatasetSection = field(default_factory=lambda: AsrDatasetSection(max_bad_share=1.0))
    """The data set; by default bad audio is listed, however much there is of it."""

    tokenizer: TokenizerSection = field(default_factory=lambda: TokenizerSection())
    gang: GangSection = field(default_factory=lambda: GangSection())
    seq2seq_generator: DecodingSection = field(default_factory=lambda: DecodingSection())
    common: CommonSection = field(default_factory=lambda: CommonSection(no_sweep_dir=True))

    def check_model(self) -> None:
        """Check that a model is named, be it by the folder of its checkpoints alone.

        :raises ConfigError: it is not. The recipes that ship name none, and can be printed.
        """
        is_named = self.model != InferenceConfig(recipe="").model
        if not is_named and self.common.assets.prev_checkpoint_dir is None:
            raise ConfigError("`model` names no model; give `model.name`, or `--model CARD|DIR`.")


@dataclass(kw_only=True)
class EvalConfig(InferenceConfig, Checked):
    """The configuration of ``eval``."""

    recipe: str = "eval"
    evaluator: EvaluatorSection = field(default_factory=lambda: EvaluatorSection())

    @override
    def find_faults(self) -> Iterator[str]:
        yield from self.dataset.find_unnamed()


@dataclass(kw_only=True)
class TranscribeConfig(InferenceConfig, SupportsStructure, Checked):
    """The configuration of ``transcribe``."""

    recipe: str = "transcribe"
    files: object = None
    """Audio files, and folders of them, to transcribe as the command ``wavellama transcribe`` does,
    in place of ``dataset``, ``generator`` and ``seq2seq_generator``. None: the data set is
    transcribed."""

    formats: object = field(default_factory=lambda: ["txt"])
    """What to write of each of the files, beside ``transcripts.jsonl``."""

    layout: object = None
    """How subtitles are laid out: ``WriterOptions``; None: in two lines of 42 columns."""

    options: object = field(default_factory=lambda: TranscribeOptions())
    """How to transcribe the files: ``TranscribeOptions``, of which a file gives a mapping."""

    examples: Path | None = None
    """A table of audio files and their texts, which a zero-shot model reads before each of the
    files."""

    generator: GeneratorSection = field(default_factory=lambda: GeneratorSection())

    @override
    def structure(self, resolver: DependencyResolver) -> None:
        """Make options of mappings, whose values nobody has converted before they are checked."""
        for name in ("files", "formats"):
            if getattr(self, name) is not None:
                setattr(self, name, check_value(name, getattr(self, name), tuple[str, ...]))
        self.options = read_options(TranscribeOptions, self.options, "options")
        if self.layout is not None:
            self.layout = read_options(WriterOptions, self.layout, "layout")

    @override
    def find_faults(self) -> Iterator[str]:
        if self.files is None:
            yield from self.dataset.find_unnamed()
            return
        plain = TranscribeConfig()
        if self.seq2seq_generator.config == Wav2Vec2LlamaBeamSearchConfig():  # as structured
            plain.seq2seq_generator.config = self.seq2seq_generator.config
        for name in ("dataset", "generator", "seq2seq_generator"):
            if getattr(self, name) != getattr(plain, name):
                yield (
                    f"`{name}` is about data sets and has no effect on `files`; leave it out, and"
                    " use `options`."
                )
