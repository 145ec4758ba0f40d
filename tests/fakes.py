"""Helpers shared by tests: small models, batches, golden cases, and decoders made of tables.

Shapes: N rows, T samples, S target tokens, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, cast

import torch
from fairseq2.data.tokenizers import Tokenizer
from fairseq2.data.tokenizers.char import load_char_tokenizer
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.runtime.config_registry import get_config
from fairseq2.runtime.dependency import get_dependency_resolver
from fairseq2.utils.structured import StandardValueConverter
from safetensors.torch import load_file
from torch import Tensor

from wavellama.model.config import Wav2Vec2LlamaConfig
from wavellama.model.factory import create_wav2vec2_llama_model
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.outputs import DecoderInputs, ForwardOutput
from wavellama.text.languages import languages

GOLDEN = Path(__file__).parent / "golden"

EOS = 2
"""The end token of every model here."""


# Configurations and models


def arch_config(arch: str, overrides: Mapping[str, Any] | None = None) -> Wav2Vec2LlamaConfig:
    """Return an architecture's configuration with ``overrides`` merged over it, as cards do."""
    config = get_config(get_dependency_resolver(), Wav2Vec2LlamaConfig, arch)
    converter = StandardValueConverter()
    base = cast("dict[str, Any]", converter.unstructure(config))
    merged = converter.structure(merge(base, overrides or {}), Wav2Vec2LlamaConfig)
    return cast("Wav2Vec2LlamaConfig", merged)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; what is not a mapping is replaced."""
    merged = dict(deepcopy(base))
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(cast("Mapping[str, Any]", old), value) if both else value
    return merged


def create_model(
    config: Wav2Vec2LlamaConfig,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    sharpness: float = 1.0,
) -> Wav2Vec2LlamaModel:
    """Create a random model in eval mode.

    :param sharpness: what the output layer is multiplied by; a plain random model says next to
        nothing, so that no two hypotheses differ by much.
    """
    torch.manual_seed(seed)
    model = create_wav2vec2_llama_model(config).eval()
    with torch.no_grad():
        model.final_proj.weight.mul_(sharpness)
    if dtype == torch.float64:
        return model.double()
    for parameter in model.parameters():  # not `model.to`: fairseq2's rotary tables stay float32
        parameter.data = parameter.data.to(dtype)
    return model


def tiny_model(
    overrides: Mapping[str, Any] | None = None, *, arch: str = "tiny", **kwargs: Any
) -> Wav2Vec2LlamaModel:
    """Create a random model of a small architecture."""
    return create_model(arch_config(arch, overrides), **kwargs)


SMALL: Mapping[str, Any] = {
    "wav2vec2_asr_config": {
        "target_vocab_size": 12,
        "encoder_config": {
            "model_dim": 16,
            "feature_dim": 8,
            "feature_extractor_layer_descs": [
                [8, 10, 5], [8, 3, 2], [8, 3, 2], [8, 3, 2], [8, 3, 2], [8, 2, 2], [8, 2, 2]
            ],
            "num_encoder_layers": 1,
            "num_encoder_attn_heads": 2,
            "ffn_inner_dim": 16,
            "pos_conv_kernel_size": 4,
            "num_pos_conv_groups": 2,
        },
    },
    "llama_config": {
        "model_dim": 16,
        "num_layers": 1,
        "num_attn_heads": 2,
        "num_key_value_heads": 2,
        "ffn_inner_dim": 16,
        "ffn_inner_dim_multiple_of": 8,
        "vocab_size": 12,
    },
}  # fmt: skip
"""Overrides of ``tiny`` that make it smaller still."""

LID: Mapping[str, Any] = {
    "model_type": "LLM_ASR_LID",
    "n_special_tokens": 1,
    "lang_embeddings_p": 0.5,
}
"""Overrides that turn an LLM_ASR configuration into an LLM_ASR_LID one."""


@cache
def small_model(*, lid: bool = False, dtype: torch.dtype = torch.float64) -> Wav2Vec2LlamaModel:
    """Return a shared small model in eval mode; do not change it."""
    overrides = merge(SMALL, LID) if lid else SMALL
    return tiny_model(overrides, dtype=dtype, sharpness=4.0)


def loss_of(model: Wav2Vec2LlamaModel, batch: Seq2SeqBatch) -> Tensor:
    """Return the loss of ``batch``."""
    loss = model(batch)
    assert isinstance(loss, Tensor)
    return loss


def outputs_of(model: Wav2Vec2LlamaModel, batch: Seq2SeqBatch) -> ForwardOutput:
    """Return all that ``forward`` can say about ``batch``."""
    output = model(batch, return_logits=True)
    assert isinstance(output, ForwardOutput)
    return output


def decoder_inputs_of(model: Wav2Vec2LlamaModel, batch: Seq2SeqBatch) -> DecoderInputs:
    """Return what the decoder reads of ``batch``."""
    inputs = model(batch, return_decoder_inputs=True)
    assert isinstance(inputs, DecoderInputs)
    return inputs


# Batches


@dataclass(frozen=True)
class Utterances:
    """Rows from which batches in any order and of any number of rows are made."""

    waveforms: list[Tensor] = field(repr=False)
    targets: list[list[int]]
    langs: Sequence[str | None] | None = None

    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """More metadata: one entry per row."""

    def batch(self, order: Sequence[int] | None = None, **kwargs: Any) -> Seq2SeqBatch:
        """Return the rows in ``order`` (all, by default) as one batch."""
        order = range(len(self.waveforms)) if order is None else order
        langs = None if self.langs is None else [self.langs[i] for i in order]
        more = {name: [rows[i] for i in order] for name, rows in self.columns.items()}
        return make_batch(
            *([self.waveforms[i] for i in order], [self.targets[i] for i in order], langs),
            more=more,
            **kwargs,
        )


def make_batch(
    waveforms: Sequence[Tensor],
    targets: Sequence[Sequence[int]] | None = None,
    langs: Sequence[str | None] | None = None,
    *,
    column: str = "lang",
    more: Mapping[str, Sequence[Any]] | None = None,
    padding: float = 0.0,
) -> Seq2SeqBatch:
    """Return a batch of waveforms and token ids.

    :param more: further columns of metadata.
    :param padding: the value of samples beyond a row's end; nothing may depend on it.
    """
    targets = [[4]] * len(waveforms) if targets is None else targets
    rows = [torch.as_tensor(target) for target in targets]
    columns = {**({} if langs is None else {column: list(langs)}), **(more or {})}
    return Seq2SeqBatch(
        torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True, padding_value=padding),
        [len(waveform) for waveform in waveforms],
        torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=1),
        [len(row) for row in rows],
        example=columns or None,
    )


def make_waveforms(
    lens: Sequence[int], *, seed: int = 0, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Return waveforms of noise with zero mean and unit variance."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, generator=generator, dtype=torch.float64).to(dtype) for n in lens]


# Golden data


@dataclass(frozen=True)
class GoldenCase:
    """One case of ``tests/golden``: a model, three rows, and what is known about them."""

    name: str
    facts: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    state_dict: Mapping[str, Tensor]

    @property
    def utterances(self) -> Utterances:
        """The rows."""
        lens, target_lens = self.facts["source_seq_lens"], self.facts["target_seq_lens"]
        seqs, targets = self.tensors["source_seqs"], self.tensors["target_seqs"].tolist()
        return Utterances(
            [row[:n] for row, n in zip(seqs, lens, strict=True)],
            [row[:n] for row, n in zip(targets, target_lens, strict=True)],
            self.facts["langs"],
            self._columns(),
        )

    def _columns(self) -> dict[str, Sequence[Any]]:
        if self.name == "streaming":
            return {name: self.facts[name] for name in ("text_words_merged", "word_duration")}
        if self.name != "zero_shot":
            return {}
        return {
            f"context_{kind}": [
                {
                    "seqs": self.tensors[f"context_{kind}_{row}"],
                    "seq_lens": self.facts[f"context_{kind}_lens_{row}"],
                }
                for row in range(3)
            ]
            for kind in ("audio", "text")
        }

    def config(self) -> Wav2Vec2LlamaConfig:
        """Return the case's configuration, over the architecture ``tiny``."""
        return arch_config("tiny", self.facts["config"])

    def model(self) -> Wav2Vec2LlamaModel:
        """Return the model, strictly loaded, in eval mode."""
        model = create_wav2vec2_llama_model(self.config())
        model.load_state_dict(dict(self.state_dict), strict=True)
        if self.name == "streaming":
            model.text_encoder = golden_tokenizer().create_encoder()
        return model.eval()


@cache
def golden_case(name: str) -> GoldenCase:
    """Read a golden case; a missing file is an error."""
    folder = GOLDEN / name
    state_dict = torch.load(folder / "model.pt", map_location="cpu", weights_only=True)["model"]
    facts = json.loads((folder / "case.json").read_text("utf-8"))
    if "lang_embeddings.weight" in state_dict:  # the languages that were published then
        num_languages = len(state_dict["lang_embeddings.weight"]) - 1
        facts["config"]["languages"] = [*languages()][:num_languages]
    return GoldenCase(name, facts, load_file(folder / "tensors.safetensors"), state_dict)


@cache
def golden_tokenizer() -> Tokenizer:
    """Return the tokenizer of the golden cases."""
    return load_char_tokenizer(GOLDEN / "tokenizer.model", None)


@cache
def golden_model(name: str) -> Wav2Vec2LlamaModel:
    """Return the shared model of a golden case; do not change it."""
    return golden_case(name).model()


# Decoders made of tables

LogProbs = Callable[[tuple[int, ...]], Tensor]
"""From the tokens of one hypothesis to the log-probabilities of the next one. (V)."""


@dataclass
class TableDecoder:
    """A ``StepDecoder`` whose rows are functions of the tokens so far; checks how it is used."""

    rows: Sequence[LogProbs]
    """One function per row."""

    eos_idx: int = EOS

    hypotheses: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    """Row number and tokens of each live hypothesis."""

    num_steps: int = 0
    """The number of calls of ``step``."""

    widths: list[int] = field(default_factory=list)
    """The number of hypotheses at each step."""

    def prefill(self) -> Tensor:
        """Start with one empty hypothesis per row."""
        self.hypotheses = [(i, ()) for i in range(len(self.rows))]
        return self._log_probs()

    def reorder(self, parents: list[int]) -> None:
        """Replace the list; rows must stay together and in order."""
        self.hypotheses = [self.hypotheses[parent] for parent in parents]
        row_numbers = [row for row, _ in self.hypotheses]
        assert row_numbers == sorted(row_numbers), f"rows are mixed up: {row_numbers}"

    def step(self, tokens: list[int]) -> Tensor:
        """Append one token to each hypothesis."""
        assert len(tokens) == len(self.hypotheses)
        assert tokens, "a step without hypotheses"
        assert self.eos_idx not in tokens, "a finished hypothesis was continued"
        pairs = zip(self.hypotheses, tokens, strict=True)
        self.hypotheses = [(row, (*so_far, token)) for (row, so_far), token in pairs]
        self.num_steps += 1
        self.widths.append(len(tokens))
        return self._log_probs()

    def _log_probs(self) -> Tensor:
        return torch.stack([self.rows[row](tokens) for row, tokens in self.hypotheses])


def table_row(table: Tensor, order: int = 1) -> LogProbs:
    """Return a row whose next token depends on its last ``order`` tokens.

    :param table: log-probabilities. *Shape:* (V + 1, ..., V + 1, V) with ``order`` state axes,
        where index V stands for "no token yet".
    """
    start = table.size(-1)

    def log_probs(tokens: tuple[int, ...]) -> Tensor:
        state = ((start,) * order + tokens)[-order:]
        return table[state]

    return log_probs


def random_table(
    vocab_size: int, order: int = 1, *, seed: int = 0, sharpness: float = 1.5
) -> Tensor:
    """Return random log-probabilities for ``table_row``."""
    generator = torch.Generator().manual_seed(seed)
    shape = (vocab_size + 1,) * order + (vocab_size,)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64) * sharpness
    return torch.log_softmax(logits, -1)


def prefix_row(vocab_size: int, seed: int, sharpness: float = 1.5) -> LogProbs:
    """Return a row whose next token depends on all tokens so far, so that no two paths tie."""

    def log_probs(tokens: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(hash((seed, *tokens)) % 2**63)
        logits = torch.randn(vocab_size, generator=generator, dtype=torch.float64)
        return torch.log_softmax(logits * sharpness, -1)

    return log_probs


def scripted_row(tokens: Sequence[int], vocab_size: int = 12, p: float = 0.9) -> LogProbs:
    """Return a row that writes ``tokens``, each with probability ``p``, and then anything."""

    def log_probs(so_far: tuple[int, ...]) -> Tensor:
        probs = torch.full((vocab_size,), (1 - p) / (vocab_size - 1), dtype=torch.float64)
        probs[tokens[min(len(so_far), len(tokens) - 1)]] = p
        return probs.log()

    return log_probs


@dataclass(frozen=True)
class Ending:
    """One complete sequence of an exhaustive enumeration."""

    tokens: tuple[int, ...]
    """Without EOS."""

    logprobs: tuple[float, ...]
    finished: bool

    def score(self, *, length_norm: bool = False) -> float:
        """Return its score."""
        total = sum(self.logprobs)
        return total / len(self.logprobs) if length_norm else total


def enumerate_paths(row: LogProbs, max_len: int, vocab_size: int, eos: int = EOS) -> list[Ending]:
    """Return every sequence that ends with EOS or at ``max_len`` tokens."""
    words = [token for token in range(vocab_size) if token != eos]
    return [
        path
        for length in range(max_len + 1)
        for tokens in product(words, repeat=length)
        for path in _endings(row, tokens, max_len, eos)
    ]


def _endings(row: LogProbs, tokens: tuple[int, ...], max_len: int, eos: int) -> Iterator[Ending]:
    emitted = tokens if len(tokens) == max_len else (*tokens, eos)
    logprobs = tuple(float(row(emitted[:i])[token]) for i, token in enumerate(emitted))
    yield Ending(tokens, logprobs, finished=len(tokens) < max_len)
