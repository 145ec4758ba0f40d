"""How fast decoding is: seconds per prompt and per step, memory, and how near to the limit.

``python benchmarks/decode.py`` builds a model with random weights and times whole searches, from
embedded prompts to tokens, in which EOS is impossible. Beside ours, in turn within each round, so
that whatever else the machine does meets all alike, it times:

* ``stock``: fairseq2's decoder modules and incremental state as its beam search uses them: each
  beam reads the prompt, and the whole state is reordered at each step. Rows of one length share a
  state; fairseq2 cannot hold several lengths in one, so each has its own. (fairseq2's beam search
  is worse: it feeds all but the shortest prompt token by token.) The search around it is ours.
* ``reference``: omnilingual-asr 0.2.0 in another interpreter (``--reference-python``), with
  ``omnilingual-asr==0.2.0 torchaudio==2.8.0 pyarrow==20.0.0`` installed; always on the CPU, with
  weights of ``--dtype``. What it runs is described in ``decode_reference.py``.
* ours with another beam, prompt or form of the weights (``--beside beam=1 prompt=1000
  weights=int8``), under that name.

The figures of each are medians over the rounds after the first one, which warms up:

* ``prefill_s``: until the first token's log-probabilities of every row are there.
* ``step_s``: for each further token, search included; ``total_s``: for all.
* ``peak_bytes``: what the process takes beyond what it held before, at most.
* ``cache_bytes``: keys and values at the end, reserved space included.
* ``bandwidth_share``: the share of ``step_s`` that reading the decoder's weights once takes at the
  speed of the machine's memory, measured in each round. It cannot exceed 1.
* ``times_ours``: ``total_s`` by that of ours.
* ``faster``: how often ``total_s`` goes into that of the reference.

With ``--json`` the last line of stdout is one JSON object: the settings, the figures of ours, and
under their names those of the others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Final

import wavellama  # noqa: F401  # isort: skip  # before fairseq2, for which it loads libsndfile

import torch
from fairseq2.models.llama import LLaMAConfig
from fairseq2.nn.utils.module import reset_non_persistent_buffers, to_empty
from fairseq2.runtime.config_registry import get_config
from fairseq2.runtime.dependency import get_dependency_resolver
from torch import Tensor
from torch.nn import Module

from wavellama.decoding.engine_view import find_engine
from wavellama.decoding.prompt_search import create_search
from wavellama.engine import Engine, EngineStepDecoder, WeightForm
from wavellama.errors import ConfigError
from wavellama.model.config import Wav2Vec2LlamaConfig
from wavellama.model.factory import create_wav2vec2_llama_model
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.search.beam import BeamSearch
from wavellama.search.constraints import BannedTokens
from wavellama.search.greedy import GreedySearch

if TYPE_CHECKING:
    from benchmarks.decode_contenders import (
        Contender,
        DecoderFactory,
        Figures,
        InProcess,
        Memory,
        StockStepDecoder,
        start_reference,
        synchronize,
    )
    from benchmarks.decode_settings import Settings, option, parse
else:  # this folder is where a script is looked for, and no package
    from decode_contenders import (
        Figures,
        InProcess,
        Memory,
        StockStepDecoder,
        start_reference,
        synchronize,
    )
    from decode_settings import Settings, option, parse

NO_TOKEN: Final = -1
"""What no token is."""


# The model and what it reads


def create_model(settings: Settings) -> Wav2Vec2LlamaModel:
    """Create a random model whose decoder has the proportions of the published ones."""
    config = get_config(get_dependency_resolver(), Wav2Vec2LlamaConfig, "tiny")
    config.wav2vec2_asr_config.target_vocab_size = settings.vocab
    config.llama_config = LLaMAConfig(
        model_dim=settings.model_dim,
        max_seq_len=settings.max_len,
        vocab_size=settings.vocab,
        pad_idx=config.pad_idx,
        num_layers=settings.layers,
        num_attn_heads=settings.heads,
        num_key_value_heads=settings.heads,
        ffn_inner_dim=settings.model_dim,
    )
    torch.set_default_dtype(settings.torch_dtype)
    with torch.device("meta"):
        model = create_wav2vec2_llama_model(config)
    torch.set_default_dtype(torch.float32)
    to_empty(model, torch.device(settings.device))
    reset_non_persistent_buffers(model)
    fill_randomly(model)
    return model.eval()


@torch.no_grad()
def fill_randomly(model: Module) -> None:
    """Give matrices random values of a scale that keeps activations in range, vectors ones."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=parameter.size(-1) ** -0.5)
        else:
            parameter.fill_(1.0)


def create_contexts(settings: Settings) -> list[Tensor]:
    """Create each row's embedded prompt. *Shape of each:* (S, M)."""
    device, dtype = torch.device(settings.device), settings.torch_dtype
    shapes = [(length, settings.model_dim) for length in settings.prompt_lens]
    return [torch.randn(shape, device=device, dtype=dtype) * shape[1] ** -0.5 for shape in shapes]


def create_endless_search(model: Wav2Vec2LlamaModel, beam: int) -> BeamSearch | GreedySearch:
    """Create a search that only its number of tokens ends."""
    if beam == 1:  # without constraints, which keep greedy search from running ahead
        return GreedySearch(eos_idx=NO_TOKEN)
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=beam, repetition_guard=False)
    eos_idx = model.target_vocab_info.eos_idx
    assert eos_idx is not None, "checked by the model's constructor"
    return create_search(config, model, constraints=[BannedTokens([eos_idx])])


def create_engine(model: Wav2Vec2LlamaModel, settings: Settings) -> tuple[Engine, int | None]:
    """Create our engine; also return what its form of the weights takes beside the model's."""
    memory = Memory(torch.device(settings.device))
    memory.start()
    try:
        engine = find_engine(model, settings.weights)
    except ConfigError as ex:
        sys.exit(str(ex))
    assert engine is not None, "the model's decoder is a plain Llama decoder"
    return engine, memory.held_bytes()


def weight_bytes(model: Wav2Vec2LlamaModel, form: WeightForm) -> int:
    """Return how many bytes of weights a step reads."""
    modules = (model.llama_decoder, model.final_proj)
    weights = [weight for module in modules for weight in module.parameters()]
    rounded = {"native": None, "int8": 1.0, "int4": 5 / 8}[form]  # a scale and a zero per 32
    return sum(
        w.nbytes if rounded is None or w.ndim == 1 else round(w.numel() * rounded) for w in weights
    )


# Measuring


def create_contenders(
    model: Wav2Vec2LlamaModel, engine: Engine, settings: Settings, beside: Mapping[str, Settings]
) -> dict[str, Contender]:
    """Create those that run in this process.

    :param engine: of the settings' own form.
    """

    def create(decoder: DecoderFactory, settings: Settings) -> InProcess:
        search, contexts = create_endless_search(model, settings.beam), create_contexts(settings)
        return InProcess(decoder, search, contexts, settings.new_tokens)

    def ours(engine: Engine) -> DecoderFactory:
        return lambda contexts: EngineStepDecoder(engine, contexts)

    def stock(contexts: Sequence[Tensor]) -> StockStepDecoder:
        return StockStepDecoder(model, contexts, settings.beam)

    others = {
        name: create(ours(create_engine(model, other)[0]), other) for name, other in beside.items()
    }
    return {"ours": create(ours(engine), settings), "stock": create(stock, settings), **others}


def reference_options(settings: Settings) -> list[str]:
    """Return the settings as options of ``decode_reference.py``."""
    names = ("model_dim", "layers", "heads", "vocab", "max_len", "new_tokens", "beam")
    pairs = [(option(name), str(getattr(settings, name))) for name in (*names, "dtype", "threads")]
    prompt = ["--prompt", *map(str, settings.prompt_lens)]
    return [word for pair in pairs for word in pair] + prompt


def measure_bandwidth(device: torch.device) -> float:
    """Return bytes per second, of copying (read and written) or of summing, whichever is more."""
    source = torch.ones(2**27, device=device)  # 512 MiB: no cache holds it
    target = torch.empty_like(source)
    copy_secs = fastest(lambda: target.copy_(source), device)
    sum_secs = fastest(source.sum, device)
    return source.nbytes * max(2 / copy_secs, 1 / sum_secs)


def fastest(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that the fastest of a few repetitions takes."""
    seconds = []
    for _ in range(4):
        synchronize(device)
        begin = perf_counter()
        work()
        synchronize(device)
        seconds.append(perf_counter() - begin)
    return min(seconds)


def run_once(contender: Contender) -> Figures:
    """Run a contender and read its peak of memory."""
    contender.memory.start()
    figures = contender.run()
    return replace(figures, peak_bytes=contender.memory.peak_bytes())


def run_rounds(
    contenders: Mapping[str, Contender], settings: Settings
) -> tuple[dict[str, Figures], float]:
    """Let all contenders run in turn, round after round.

    :returns: the medians of each, and that of the memory's bytes per second.
    """
    runs: dict[str, list[Figures]] = {name: [] for name in contenders}
    bandwidths = []
    for round_nr in range(settings.runs + 1):
        for name, contender in contenders.items():
            if name == "reference" and round_nr > (settings.reference_runs or settings.runs):
                continue
            runs[name].append(run_once(contender))
            seconds = runs[name][-1].total_s
            print(f"round {round_nr}, {name}: {seconds:.3f} s", file=sys.stderr, flush=True)
        bandwidths.append(measure_bandwidth(torch.device(settings.device)))
    return {name: Figures.median_of(own[1:]) for name, own in runs.items()}, median(bandwidths)


# Reporting


def create_rows(
    figures: Mapping[str, Figures], limits: Mapping[str, float]
) -> dict[str, dict[str, float | None]]:
    """Return what is reported of each.

    :param limits: the seconds that reading the weights once takes.
    """
    ours = figures["ours"].total_s
    reference = figures["reference"].total_s if "reference" in figures else None
    return {
        name: {
            **asdict(own),
            "bandwidth_share": limits[name] / own.step_s,
            "times_ours": own.total_s / ours,
            "faster": reference and reference / own.total_s,
        }
        for name, own in figures.items()
    }


def print_table(rows: Mapping[str, Mapping[str, float | None]]) -> None:
    names = list(rows["ours"])
    print(f"{'':16}" + "".join(f"{name:>16}" for name in names))
    for contender, row in rows.items():
        cells = ["-" if (value := row[name]) is None else f"{value:.4g}" for name in names]
        print(f"{contender:16}" + "".join(f"{cell:>16}" for cell in cells))


def main() -> None:
    settings, args = parse(sys.argv[1:], __doc__)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    model = create_model(settings)
    engine, engine_bytes = create_engine(model, settings)
    with ExitStack() as stack:
        contenders = create_contenders(model, engine, settings, args.beside)
        if args.without_stock:
            del contenders["stock"]
        if args.reference_python:
            reference = start_reference(args.reference_python, reference_options(settings))
            contenders["reference"] = stack.enter_context(reference)
        figures, bandwidth = run_rounds(contenders, settings)
    limits = dict.fromkeys(figures, weight_bytes(model, "native") / bandwidth)
    own = {
        name: weight_bytes(model, each.weights) / bandwidth
        for name, each in {"ours": settings, **args.beside}.items()
    }
    rows = create_rows(figures, limits | own)
    print_table(rows)
    machine = {"bandwidth": bandwidth, "engine_bytes": engine_bytes, "torch": torch.__version__}
    if args.json:
        print(json.dumps({**asdict(settings), **machine, **rows.pop("ours"), **rows}))


if __name__ == "__main__":
    main()
