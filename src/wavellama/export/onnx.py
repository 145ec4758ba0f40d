"""Models as ONNX graphs, for onnxruntime and for sherpa-onnx."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import torch
from fairseq2.data.tokenizers import Tokenizer
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrModel
from torch import Tensor
from torch.export import Dim
from torch.nn import Module

from wavellama.checkpoints.hub import ModelSource, check_recognises
from wavellama.errors import ConfigError
from wavellama.export.graphs import (
    CtcGraph,
    CtcOfLanguage,
    PrefillGraph,
    StepGraph,
    check_encoder,
)
from wavellama.export.vocabulary import read_vocabulary
from wavellama.files import write_text
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.units import SAMPLE_RATE

_OPSET: Final = 18

_LARGEST_FILE: Final = 1_900_000_000
"""Bytes of weights beyond which they lie beside the graph: a file of ONNX ends at 2 GiB."""


class Graph(NamedTuple):
    """What is traced, with its inputs and which of their dimensions may have any size."""

    module: Module
    inputs: Mapping[str, tuple[Tensor, tuple[int, ...]]]
    outputs: Sequence[str]


def write_onnx(source: ModelSource, folder: Path, *, int8: bool = False) -> list[Path]:
    """Write a model's graphs and tables into a folder, and return the files.

    A CTC model becomes ``ctc.onnx``, a decoder model ``prefill.onnx`` and ``step.onnx``, beside
    ``ctc.onnx`` where it has a CTC head.

    :param int8: whether matrices are written in 8 bits.
    :raises ConfigError: the model cannot be written, or a package is missing.
    """
    _check_packages()
    model, tokens = _load(source)
    audio = {"audio": (torch.randn(2, SAMPLE_RATE), (0, 1))}
    told: Any = {**audio, "language": (torch.tensor([0]), ())}
    graphs: dict[str, Graph] = {}
    if isinstance(model, Wav2Vec2AsrModel) or model.ctc_head is not None:
        graphs["ctc"] = Graph(CtcGraph(model), told, ["logits"])
    if isinstance(model, Wav2Vec2LlamaModel):
        prefill, step = PrefillGraph(model), StepGraph(model)
        graphs["prefill"] = Graph(prefill, told, ["logits", "cache"])
        weights = step.decoder.weights
        head_width = len(weights.layers[0].key) // weights.num_key_value_heads
        cache = torch.randn(2 * len(weights.layers), 2, weights.num_key_value_heads, 9, head_width)
        inputs = {
            "token": (torch.tensor([4, 5]), (0,)),
            "cache": (cache, (1, 3)),
        }
        graphs["step"] = Graph(step, inputs, ["logits", "grown"])
    for name, graph in graphs.items():
        _write_graph(graph, folder / f"{name}.onnx", int8=int8)
    if isinstance(model, Wav2Vec2LlamaModel) and model.lang_mapping:
        rows = (f"{code} {row}\n" for code, row in model.lang_mapping.items())
        write_text(folder / "languages.txt", "".join(rows))
    _write_tokens(tokens, folder)
    return sorted(folder.iterdir())


def write_sherpa(
    source: ModelSource, folder: Path, language: str | None = None, *, int8: bool = False
) -> list[Path]:
    """Write the CTC part of a model for sherpa-onnx's ``omnilingual-asr`` models.

    :param language: what a CTC head that reads a language is told, for good.
    :raises ConfigError: the model has no CTC part, cannot be written, or a package is missing.
    :raises UnknownLanguageError: the model does not know the language.
    """
    _check_packages()
    model, tokens = _load(source)
    if isinstance(model, Wav2Vec2LlamaModel) and model.ctc_head is None:
        raise ConfigError("sherpa-onnx reads CTC models, and this model has no CTC head.")
    table = model.lang_mapping if isinstance(model, Wav2Vec2LlamaModel) else None
    if table is None and language is not None:
        raise ConfigError("This model reads no language; leave out --language.")
    row = table.row(language) if table is not None else 0
    module = CtcOfLanguage(CtcGraph(model), row)
    audio = {"audio": (torch.randn(2, SAMPLE_RATE), (0, 1))}
    notes = {
        "model_type": "omnilingual-asr",
        "vocab_size": str(len(tokens)),
        "sample_rate": str(SAMPLE_RATE),
        "version": "1",
    }
    name = "model.int8.onnx" if int8 else "model.onnx"
    _write_graph(Graph(module, audio, ["logits"]), folder / name, int8=int8, notes=notes)
    _write_tokens(tokens, folder)
    return sorted(folder.iterdir())


def _check_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as ex:
        raise ConfigError(
            f"{ex.name} is not installed; `pip install 'wavellama[export]'` installs it."
        ) from None


def _load(source: ModelSource) -> tuple[Wav2Vec2LlamaModel | Wav2Vec2AsrModel, list[str]]:
    check_recognises(source.family.kls)
    config: Any = source.load_config()
    check_encoder(getattr(config, "wav2vec2_asr_config", config).encoder_config)
    tokenizer: Tokenizer = source.load_tokenizer()
    model: Any = source.load(device="cpu").eval().requires_grad_(requires_grad=False)
    return model, read_vocabulary(tokenizer, config.target_vocab_size)


def _write_graph(
    graph: Graph, file: Path, *, int8: bool, notes: Mapping[str, str] | None = None
) -> None:
    """Trace a graph and write it; weights beyond 1.9 GB lie beside it."""
    import onnx

    tensors = tuple(tensor for tensor, _ in graph.inputs.values())
    sizes = tuple(dict.fromkeys(free, Dim.DYNAMIC) for _, free in graph.inputs.values())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            graph.module.eval(),
            tensors,
            dynamo=True,
            opset_version=_OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=sizes,
            verbose=False,
        )
    program.model.metadata_props.update(notes or {})
    program.model.producer_name = "wavellama"
    file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=file.parent) as folder:
        part = Path(folder) / file.name
        size = sum(value.const_value.nbytes for value in program.model.graph.initializers.values())
        program.save(part, external_data=size > _LARGEST_FILE)
        if int8:
            _quantize(part)
        onnx.checker.check_model(part)
        for written in Path(folder).iterdir():
            written.replace(file.parent / written.name)


def _quantize(file: Path) -> None:
    """Rewrite a graph with matrices in 8 bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = file.rename(file.with_name("float32.onnx"))
    quantize_dynamic(whole, file, op_types_to_quantize=["MatMul"], weight_type=QuantType.QUInt8)
    for left in file.parent.glob("float32.onnx*"):
        left.unlink()


def _write_tokens(tokens: Sequence[str], folder: Path) -> None:
    """Write each token with its number; a space is written as sentencepiece does."""
    lines = (f"{token.replace(' ', '▁')} {i}\n" for i, token in enumerate(tokens))
    write_text(folder / "tokens.txt", "".join(lines))
