"""The configuration of the recipes that use a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fairseq2.recipe.config import (
    CommonSection,
    EvaluatorSection,
    GangSection,
    GeneratorSection,
    ReferenceModelSection,
    TokenizerSection,
)
from fairseq2.utils.validation import Validatable, ValidationResult

from wavellama.model.config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.pipeline.options import TranscribeOptions
from wavellama.tasks.config import AsrDatasetSection, DecodingSection
from wavellama.transcript.options import WriterOptions


@dataclass(kw_only=True)
class InferenceConfig:
    """What the recipes that use a trained model have in common."""

    recipe: str
    """Which recipe the file is for."""

    model: ReferenceModelSection = field(
        default_factory=lambda: ReferenceModelSection(name="last_checkpoint")
    )
    dataset: AsrDatasetSection = field(default_factory=lambda: AsrDatasetSection(max_bad_share=1.0))
    """The data set; by default bad audio is listed, however much there is of it."""

    tokenizer: TokenizerSection = field(default_factory=lambda: TokenizerSection())
    gang: GangSection = field(default_factory=lambda: GangSection())
    seq2seq_generator: DecodingSection = field(default_factory=lambda: DecodingSection())
    common: CommonSection = field(default_factory=lambda: CommonSection(no_sweep_dir=True))


@dataclass(kw_only=True)
class EvalConfig(InferenceConfig, Validatable):
    """The configuration of ``eval``."""

    recipe: str = "eval"
    evaluator: EvaluatorSection = field(default_factory=lambda: EvaluatorSection())

    def validate(self) -> ValidationResult:
        """Check that a data set is named."""
        result = ValidationResult()
        self.dataset.check_named(result)
        return result


@dataclass(kw_only=True)
class TranscribeConfig(InferenceConfig, Validatable):
    """The configuration of ``transcribe``."""

    recipe: str = "transcribe"

    files: Sequence[Path] | None = None
    """Audio files, and folders of them, to transcribe as the command ``wavellama transcribe`` does,
    in place of ``dataset``, ``generator`` and ``seq2seq_generator``. None: the data set is
    transcribed."""

    formats: Sequence[str] = field(default_factory=lambda: ["txt"])
    """What to write of each of the files, beside ``transcripts.jsonl``."""

    layout: WriterOptions | None = None
    """How subtitles are laid out; None: in two lines of 42 columns."""

    options: TranscribeOptions = field(default_factory=lambda: TranscribeOptions())
    """How to transcribe the files."""

    examples: Path | None = None
    """A table of audio files and their texts, which a zero-shot model reads before each of the
    files."""

    generator: GeneratorSection = field(default_factory=lambda: GeneratorSection())

    def validate(self) -> ValidationResult:
        """Check that either files or a data set are named, with the sections that go with them."""
        result = ValidationResult()
        words = self.options.hotwords
        if len(words) > 1 and all(len(word) == 1 and word.isascii() for word in words):
            result.add_error(
                f"`options.hotwords` is a list of words, but holds letters: [{''.join(words)}] is"
                " one word."
            )
        if self.files is None:
            self.dataset.check_named(result)
            return result
        plain = TranscribeConfig()
        if self.seq2seq_generator.config == Wav2Vec2LlamaBeamSearchConfig():  # as structured
            plain.seq2seq_generator.config = self.seq2seq_generator.config
        for name in ("dataset", "generator", "seq2seq_generator"):
            if getattr(self, name) != getattr(plain, name):
                result.add_error(
                    f"`{name}` is about data sets and has no effect on `files`; leave it out, and"
                    " use `options`."
                )
        return result
