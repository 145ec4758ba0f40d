"""What a step of finetuning takes: all weights, adapters (LoRA), and adapters of the decoder alone.

    python benchmarks/finetune_memory.py wavellama_small          # measured, on this CPU
    python benchmarks/finetune_memory.py --computed omniASR_LLM_300M_v2 omniASR_LLM_7B_v2

Measured are the bytes of all tensors (weights, gradients, moments, activations) at the peak of the
third step of AdamW on one batch, by torch's profiler, with activation checkpointing unless
``--keep-activations`` is given. Computed are
the bytes of weights, gradients and moments; activations are left out.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, cast

import torch
from fairseq2.datasets import Seq2SeqBatch
from torch.nn import Module
from torch.optim import AdamW, Optimizer
from torch.profiler import ProfilerActivity, profile, record_function

from wavellama.checkpoints.hub import load_model
from wavellama.model.cpu_training import speed_up
from wavellama.model.lora import LoraConfig, add_adapters
from wavellama.model.loss import Objective, TrainingLoss
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.sharding import apply_layerwise_checkpointing
from wavellama.units import SAMPLE_RATE

MOMENTS: Final = 8
"""Bytes of AdamW's two moments of a weight in float32."""


@dataclass(frozen=True)
class Way:
    """A way to finetune."""

    dtype: torch.dtype = torch.float32
    lora: LoraConfig | None = None


DECODER: Final = LoraConfig(targets=[r"llama_decoder\.layers\..*_proj"])

WAYS: Final[Mapping[str, Way]] = {
    "all weights": Way(),
    "LoRA": Way(lora=LoraConfig()),
    "LoRA, bf16 base": Way(torch.bfloat16, LoraConfig()),
    "LoRA of the decoder": Way(lora=DECODER),
    "LoRA of the decoder, bf16 base": Way(torch.bfloat16, DECODER),
}


def prepare(name: str, way: Way, device: str = "cpu") -> Wav2Vec2LlamaModel:
    """Load a model as a recipe would train it."""
    model = cast("Wav2Vec2LlamaModel", load_model(name, device=device, dtype=way.dtype))
    if way.lora is not None:
        add_adapters(model, way.lora)
    if device == "cpu":
        speed_up(model.encoder)
    return model


def computed_bytes(model: Module) -> int:
    """Return the bytes of weights, and of gradients and moments of those that are trained."""
    return sum(
        p.nbytes + (p.requires_grad and p.nbytes + MOMENTS * p.numel()) for p in model.parameters()
    )


def measured_mib(name: str, way: Way, audio_secs: float, keeps_activations: bool) -> float:
    """Return the peak of what all tensors take in a step, in MiB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        model = prepare(name, way).train()
        if not keeps_activations:
            apply_layerwise_checkpointing(model, 1)
        optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
        batch = _batch(audio_secs)
        for step in range(3):
            with record_function(f"step {step}"):
                _step(model, optimizer, batch, way)
            gc.collect()  # checkpointed layers leave cycles
    return _peak(profiler) / 2**20


def _step(model: Module, optimizer: Optimizer, batch: Seq2SeqBatch, way: Way) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=way.dtype != torch.float32):
        loss = cast("TrainingLoss", model(batch, objective=Objective()))
    torch.autograd.backward(loss.total)
    optimizer.step()
    optimizer.zero_grad()


def _peak(profiler: profile) -> int:
    """Return the bytes of all tensors at the peak of the last step."""
    with TemporaryDirectory() as folder:
        profiler.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(folder, "trace.json").read_text())["traceEvents"]
    start = next(event["ts"] for event in events if event.get("name") == "step 2")
    changes: list[tuple[float, int]] = sorted(
        (event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"
    )
    totals = accumulate(size for _, size in changes)
    return max(total for (time, _), total in zip(changes, totals, strict=True) if time >= start)


def _batch(audio_secs: float) -> Seq2SeqBatch:
    """Return a batch of one second of noise, and ten tokens, per row."""
    num_rows = max(int(audio_secs), 1)
    audio = torch.randn(num_rows, SAMPLE_RATE)
    texts = torch.randint(4, 100, (num_rows, 10))
    example = {"lang": [None] * num_rows}
    sizes = [SAMPLE_RATE] * num_rows, [10] * num_rows
    return Seq2SeqBatch(audio, sizes[0], texts, sizes[1], example=example)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="CARD")
    parser.add_argument("--computed", action="store_true")
    parser.add_argument("--audio-secs", type=float, default=8.0)
    parser.add_argument("--keep-activations", action="store_true")
    parser.add_argument("--way", choices=WAYS, help="measure one way, in this process")
    args = parser.parse_args()
    if args.way is not None:
        way = WAYS[args.way]
        print(measured_mib(args.models[0], way, args.audio_secs, args.keep_activations))
        return
    print("| way |", " | ".join(args.models), "|\n|---|" + "--:|" * len(args.models))
    for name, way in WAYS.items():
        print(
            f"| {name} |", " | ".join(_cell(model, name, way, args) for model in args.models), "|"
        )


def _cell(model: str, name: str, way: Way, args: argparse.Namespace) -> str:
    if args.computed:
        return f"{computed_bytes(prepare(model, way, 'meta')) / 1e9:.1f} GB"
    command = [sys.executable, __file__, model, "--way", name, "--audio-secs", str(args.audio_secs)]
    command += ["--keep-activations"] if args.keep_activations else []
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return f"{float(result.stdout.splitlines()[-1]):.0f} MiB"


if __name__ == "__main__":
    main()
