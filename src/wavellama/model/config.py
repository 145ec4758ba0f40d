"""The configuration of the model family ``wav2vec2_llama``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from fairseq2.models.llama import LLaMAConfig
from typing_extensions import override

from wavellama.errors import WavellamaError
from wavellama.faults import Checked, within
from wavellama.model.encoder_config import AsrConfig, default_asr_config
from wavellama.model.frames import encoder_grid, room_for_prompt
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.prompt.parts import Items, find_repeat, num_fixed
from wavellama.prompt.segments import SegmentCutter
from wavellama.prompt.syntax import Syntax
from wavellama.prompt.syntaxes import ModelType, load_syntax, select_syntax
from wavellama.text.languages import LanguageTable, is_code, language_table, read_codes
from wavellama.units import MIN_SAMPLES, SAMPLE_RATE

WAV2VEC2_LLAMA_FAMILY: Final = "wav2vec2_llama"


@dataclass(kw_only=True)
class Wav2Vec2LlamaStreamingConfig(Checked):
    """How a streaming model cuts its audio."""

    is_streaming: bool = False
    segment_secs: float = 15.0
    sample_rate: int = SAMPLE_RATE
    """Samples per second; no other rate is read."""

    n_context_segments: int = 1
    """The number of previous segments that stay in the decoder's context."""

    text_tokenizer: str = ""
    """The tokenizer card that encodes a segment's words in training."""

    min_audio_ms: int = 25
    """A tail not longer than this many milliseconds is dropped."""

    @property
    def cutter(self) -> SegmentCutter:
        """The rule by which audio is cut into segments."""
        return SegmentCutter(
            round(self.segment_secs * self.sample_rate),
            self.min_audio_ms * self.sample_rate // 1000,
        )

    @override
    def find_faults(self) -> Iterator[str]:
        if self.sample_rate != SAMPLE_RATE:
            yield (
                f"`sample_rate` must be {SAMPLE_RATE}, the rate of all audio here, but is"
                f" {self.sample_rate}."
            )
        if self.cutter.min_len < MIN_SAMPLES:
            yield (
                f"`min_audio_ms` ({self.min_audio_ms}) must be at least {MIN_SAMPLES} samples, the"
                " shortest audio that the encoder reads."
            )
        if self.cutter.segment_len <= self.cutter.min_len:
            yield (
                f"`segment_secs` ({self.segment_secs:g}) must be longer than `min_audio_ms`"
                f" ({self.min_audio_ms})."
            )
        if self.n_context_segments < 0:
            yield f"`n_context_segments` must be at least 0, but is {self.n_context_segments}."


def _default_llama_config() -> LLaMAConfig:
    return LLaMAConfig(
        model_dim=512,
        max_seq_len=8192,
        vocab_size=32,
        pad_idx=1,
        num_layers=4,
        num_attn_heads=8,
        num_key_value_heads=8,
        ffn_inner_dim=2048,
    )


@dataclass(kw_only=True)
class Wav2Vec2LlamaConfig(Checked):
    """The configuration of a Wav2Vec2-Llama model.

    The defaults make a small, consistent LLM_ASR model; the published architectures are rows of
    ``assets/archs.yaml``.
    """

    wav2vec2_asr_config: AsrConfig = field(default_factory=default_asr_config)
    """The encoder, the feature masking and the size of the target vocabulary."""

    llama_config: LLaMAConfig = field(default_factory=_default_llama_config)
    """The decoder; ``max_seq_len`` is the longest decoder sequence, context included."""

    model_type: ModelType = ModelType.LLM_ASR
    """Which kind of model, hence which syntax."""

    encoder_stacking: int = 1
    """The number of consecutive encoder frames that become one decoder position."""

    lang_embeddings_p: float = within("[0, 1]", 0.0)
    """The probability with which training shows a row its language (LLM_ASR_LID)."""

    language_column_name: str = "lang"
    """The column of the batch's metadata that holds language codes."""

    languages: Path | list[str] | None = None
    """The codes of the languages that the model knows, in the order of their embeddings: a list, or
    a file with a code in each line, which is read at once. ``None``: the published ones."""

    context_text_only: bool = False
    """If ``True``, the context examples of ZERO_SHOT are text without audio."""

    n_context_examples: int = 0
    n_special_tokens: int = 0
    """The number of special tokens, which is what the syntax declares."""

    bos_idx: int = 0
    pad_idx: int = 1
    eos_idx: int = 2
    unk_idx: int = 3
    beam_search_config: Wav2Vec2LlamaBeamSearchConfig = field(
        default_factory=lambda: Wav2Vec2LlamaBeamSearchConfig()
    )
    streaming_config: Wav2Vec2LlamaStreamingConfig = field(
        default_factory=lambda: Wav2Vec2LlamaStreamingConfig()
    )
    special_token_base: int | None = None
    """The id of the first special token; ``None`` means the target vocabulary size."""

    zero_shot_swapped_bos_eos: bool = True
    """If ``True``, ZERO_SHOT reads EOS before and BOS after its text, as the published model."""

    ctc_head: bool = False
    ctc_head_layers: int = 0
    """Convolutions before that output; with any, it is told the language as the decoder is."""

    language_head_layer: int = 0
    """The encoder's layer on which an output hears the language; 0: there is no such output."""

    syntax: str | None = None
    """A syntax that another package declares, as ``module:NAME``; ``None``: the one that
    ``model_type`` and the form (streaming, text-only, swapped) select."""

    def __post_init__(self) -> None:
        """:raises ConfigError: the file of languages cannot be read."""
        if isinstance(self.languages, Path | str):
            self.languages = read_codes(Path(self.languages))

    @override
    def find_faults(self) -> Iterator[str]:
        asr_vocab, llama_vocab = self.target_vocab_size, self.llama_config.vocab_size
        if asr_vocab != llama_vocab:
            yield (
                f"`wav2vec2_asr_config.target_vocab_size` ({asr_vocab}) and"
                f" `llama_config.vocab_size` ({llama_vocab}) must be equal."
            )
        if self.llama_config.pad_idx != self.pad_idx:
            yield (
                f"`pad_idx` ({self.pad_idx}) and `llama_config.pad_idx`"
                f" ({self.llama_config.pad_idx}) must be equal."
            )
        for name, least in (("encoder_stacking", 1), ("n_context_examples", 0)):
            if (value := getattr(self, name)) < least:
                yield f"`{name}` must be at least {least}, but is {value}."
        yield from super().find_faults()
        yield from self._syntax_faults()
        yield from self._index_faults()
        yield from self._language_faults()

    def _language_faults(self) -> Iterator[str]:
        if self.languages is None:
            return
        codes = list(map(str, cast(list[str], self.languages)))
        if not codes:
            yield "`languages` names no language."
        for code in codes:
            if not is_code(code):
                yield f"`languages` has {code!r}, which is no code such as eng_Latn."
        for code, count in Counter(map(str.lower, codes)).items():
            if count > 1:
                yield f"`languages` has {code} {count} times."

    def _index_faults(self) -> Iterator[str]:
        size = self.target_vocab_size
        for name in ("bos_idx", "pad_idx", "eos_idx", "unk_idx"):
            if not 0 <= getattr(self, name) < size:
                yield f"`{name}` is {getattr(self, name)}, but the vocabulary has {size} tokens."
        base = self.special_token_base
        if base is not None and not 0 <= base <= size:
            yield f"`special_token_base` is {base}, but the vocabulary ends at {size}."

    def _syntax_faults(self) -> Iterator[str]:
        try:
            syntax = self.find_syntax()
        except WavellamaError as ex:
            yield str(ex)
            return
        if self.n_special_tokens != len(syntax.special_tokens):
            yield (
                f"`n_special_tokens` is {self.n_special_tokens}, but the {syntax.name} syntax"
                f" needs {len(syntax.special_tokens)}."
            )
        if self.languages is not None and not syntax.needs_language:
            yield f"`languages` is given, but the {syntax.name} syntax reads no language."
        if syntax.is_streaming:
            yield from self._context_faults(syntax)

    def _context_faults(self, syntax: Syntax) -> Iterator[str]:
        """Check that the longest context of a segment leaves room, even without any texts."""
        settings, limit = self.streaming_config, self.llama_config.max_seq_len
        grid = encoder_grid(self.wav2vec2_asr_config.encoder_config)
        num_frames = grid.num_frames(settings.cutter.segment_len)
        audio_len = -(-num_frames // max(self.encoder_stacking, 1))
        past = find_repeat(syntax.prompt, Items.PAST)
        past_len = audio_len + (0 if past is None else num_fixed(past.parts))
        length = num_fixed(syntax.prompt) + audio_len + settings.n_context_segments * past_len
        if length > room_for_prompt(limit):
            yield (
                f"{settings.n_context_segments} segments of context (`n_context_segments`) of"
                f" {settings.segment_secs:g} seconds (`segment_secs`) and the current one take"
                f" {length} positions without their texts, which leaves no room for a text where"
                f" `llama_config.max_seq_len` is {limit}."
            )

    @property
    def target_vocab_size(self) -> int:
        """The number of tokens that the model can emit."""
        return self.wav2vec2_asr_config.target_vocab_size

    @property
    def language_table(self) -> LanguageTable:
        """The languages that the model knows, with rows; empty where its syntax reads none."""
        if not self.find_syntax().needs_language:
            return LanguageTable({})
        if self.languages is None:
            return language_table()
        return LanguageTable.of(cast(list[str], self.languages))

    def find_syntax(self) -> Syntax:
        """Return the syntax that the model reads; if there is none, it is a ConfigError."""
        if self.syntax is not None:
            return load_syntax(self.syntax)
        return select_syntax(
            self.model_type,
            streaming=self.streaming_config.is_streaming,
            text_only=self.context_text_only,
            swapped_bos_eos=self.zero_shot_swapped_bos_eos,
        )
