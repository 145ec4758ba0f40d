"""What a GPU makes of decoding: torch and this package's engine and search alone, no fairseq2.

python benchmarks/gpu.py --device cuda --out gpu.json        (about eight minutes)
python benchmarks/gpu.py --device cpu --tiny                 (seconds: does it run?)

Weights are random, sizes those of the published models: the decoder that all of them share, and
stand-ins for the smallest and the largest encoder (convolutions and pre-norm layers of torch's
own). It first compares the device with the CPU, on a small decoder in float32, then measures

* reading a prompt of 500 positions, and a step with 1, 8 and 64 rows and 1 and 5 beams, with and
  without recorded steps (CUDA graphs), with the share of the memory's speed that the weights take;
* checking 8 guesses at a time, as drafts do;
* files to text: clips of 10 seconds, 12 tokens for each second, in multiples of real time.

Each figure is the median of ``--rounds`` after one to warm up. Nobody has run it on a GPU yet.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import GELU, Conv1d, LayerNorm, Module, Sequential, TransformerEncoderLayer

from wavellama.engine import DecoderWeights, Engine, EngineStepDecoder, EngineVerifier, LayerWeights
from wavellama.engine.replay import record_cuda_graph
from wavellama.search.beam import BeamSearch, SearchOptions
from wavellama.search.greedy import GreedySearch

NO_TOKEN: Final = -1
SAMPLE_RATE: Final = 16_000
CLIP_SECS: Final = 10
TOKENS_PER_SEC: Final = 12
NUM_GUESSES: Final = 8

CONVOLUTIONS: Final = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
"""Width and stride of the encoder's convolutions: 320 samples make a frame."""

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """The size of a decoder, or of an encoder."""

    layers: int
    width: int
    inner: int
    heads: int
    vocab: int = 0


DECODER: Final = Size(12, 4096, 2816, 8, 10288)
ENCODERS: Final = {"300M": Size(24, 1024, 4096, 16), "7B": Size(128, 2048, 8192, 16)}
TINY: Final = Size(2, 64, 128, 4, 300)
TINY_ENCODERS: Final = {"tiny": Size(2, 64, 128, 4)}


def create_weights(size: Size, dtype: torch.dtype, device: torch.device) -> DecoderWeights:
    """Create a decoder of random weights."""

    def weight(num_outputs: int, num_inputs: int) -> Tensor:
        scale = float(num_inputs**-0.5)
        return torch.randn(num_outputs, num_inputs, dtype=dtype, device=device).mul_(scale)

    def norm() -> Tensor:
        return torch.ones(size.width, dtype=dtype, device=device)

    width, inner = size.width, size.inner
    layers = [
        LayerWeights(
            attention_norm=norm(),
            query=weight(width, width),
            key=weight(width, width),
            value=weight(width, width),
            attention_output=weight(width, width),
            ffn_norm=norm(),
            gate=weight(inner, width),
            up=weight(inner, width),
            down=weight(width, inner),
        )
        for _ in range(size.layers)
    ]
    half = width // size.heads // 2
    steps = torch.arange(8192, device=device)[:, None]
    angles = steps * 10_000.0 ** (-torch.arange(half, device=device) / half)
    rotations = torch.stack([angles.cos(), angles.sin()], -1)
    return DecoderWeights(
        embeddings=weight(size.vocab, width),
        layers=layers,
        norm=norm(),
        output=weight(size.vocab, width),
        rotations=rotations,
        num_heads=size.heads,
        num_key_value_heads=size.heads,
    )


def count_bytes(weights: DecoderWeights) -> int:
    """Return how many bytes of weights a step reads."""
    parts = [part for layer in weights.layers for part in vars(layer).values()]
    return sum(part.nbytes for part in (*parts, weights.norm, weights.output))


class StandInEncoder(Module):
    """Convolutions and layers as the encoder has them; of random weights, without masks."""

    def __init__(self, size: Size, width: int) -> None:
        super().__init__()
        channels = min(512, size.width)
        parts: list[Module] = []
        for i, (kernel, stride) in enumerate(CONVOLUTIONS):
            parts += [Conv1d(1 if i == 0 else channels, channels, kernel, stride), GELU()]
        self.convolutions = Sequential(*parts)
        self.expand = torch.nn.Linear(channels, size.width)
        self.layers = Sequential(
            *(
                TransformerEncoderLayer(
                    *(size.width, size.heads, size.inner),
                    dropout=0.0,
                    activation="gelu",
                    batch_first=True,
                    norm_first=True,
                )
                for _ in range(size.layers)
            )
        )
        self.project = Sequential(LayerNorm(size.width), torch.nn.Linear(size.width, width))

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return the decoder's positions. (N, T) -> (N, S, M)."""
        frames = self.convolutions(waveforms[:, None]).transpose(1, 2)
        projected: Tensor = self.project(self.layers(self.expand(frames)))
        return projected


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(run: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Return the median of the seconds that something takes, after a round to warm up."""
    found = []
    for _ in range(rounds + 1):
        wait(device)
        begin = perf_counter()
        run()
        wait(device)
        found.append(perf_counter() - begin)
    return median(found[1:])


def create_search(beams: int) -> BeamSearch | GreedySearch:
    """Create a search that only its number of tokens ends."""
    if beams == 1:
        return GreedySearch(eos_idx=NO_TOKEN)
    return BeamSearch(SearchOptions(eos_idx=NO_TOKEN, beam_size=beams))


class Bench:
    """Measures on one device, and keeps what it has found."""

    def __init__(self, device: torch.device, rounds: int) -> None:
        self.device, self.rows, self._rounds = device, list[Row](), rounds
        self._bytes_per_sec = math.nan

    def note(self, what: str, **facts: object) -> None:
        """Keep and print a figure."""
        self.rows.append({"what": what, **facts})
        print(what, *(f"{name}={_spell(value)}" for name, value in facts.items()), flush=True)

    def _time(self, run: Callable[[], object]) -> float:
        return timed(run, self.device, self._rounds)

    def measure_memory(self, num_bytes: int) -> None:
        """Measure how fast the memory is read: a sum of one large tensor."""
        values = torch.ones(num_bytes // 4, device=self.device)
        self._bytes_per_sec = values.nbytes / self._time(values.sum)
        self.note("memory", gb_per_sec=self._bytes_per_sec / 1e9)

    def compare_with_cpu(self) -> None:
        """Decode with a small model on the CPU and on the device: tokens and their scores.

        :raises RuntimeError: they differ.
        """
        torch.manual_seed(1)
        weights = create_weights(TINY, torch.float32, torch.device("cpu"))
        prompts = [torch.randn(length, TINY.width) for length in (30, 17, 5)]
        places = moved(weights, self.device)
        for beams in (1, 5):
            expected, found = (
                create_search(beams).run(
                    EngineStepDecoder(Engine(own), [prompt.to(device) for prompt in prompts]),
                    [40] * len(prompts),
                )
                for own, device in ((weights, torch.device("cpu")), (places, self.device))
            )
            for row, other in zip(expected, found, strict=True):
                if [one.tokens for one in row] != [one.tokens for one in other]:
                    raise RuntimeError(f"{beams} beams write other tokens on {self.device}.")
                gap = max(abs(a.score - b.score) for a, b in zip(row, other, strict=True))
                if gap > 1e-3:
                    raise RuntimeError(f"Scores of {beams} beams differ by {gap:.2g}.")
            self.note("equal to the CPU", beams=beams)

    @torch.inference_mode()
    def measure_decoder(self, size: Size, dtype: torch.dtype, num_prompt: int) -> Engine:
        """Measure prompts, steps and guesses; return the engine."""
        weights = create_weights(size, dtype, self.device)
        engine, num_bytes = Engine(weights), count_bytes(weights)
        for rows in (1, 8, 64):
            with self._room(f"{rows} rows"):
                prompts = list(torch.randn(rows, num_prompt, size.width, device=self.device))
                secs = self._time(lambda: EngineStepDecoder(engine, prompts).prefill())  # noqa: B023
                self.note("prompt", rows=rows, positions=num_prompt, ms=1e3 * secs)
                for beams in (1, 5):
                    for replays in (False, True) if self.device.type == "cuda" else (False,):
                        self._measure_step(engine, prompts, beams, num_bytes, replays=replays)
                self._measure_guesses(engine, prompts)
        return engine

    def _measure_step(
        self, engine: Engine, prompts: list[Tensor], beams: int, num_bytes: int, *, replays: bool
    ) -> None:
        record = record_cuda_graph if replays else None
        decoder = EngineStepDecoder(engine, prompts, keeps_width=True, record=record)
        decoder.prefill()
        parents = [row for row in range(len(prompts)) for _ in range(beams)]
        decoder.reorder(parents)
        tokens = [3] * len(parents)
        num_steps = 16

        def run() -> None:
            for _ in range(num_steps):
                decoder.reorder(list(range(len(parents))))
                decoder.step(tokens)

        run()
        step = self._time(run) / num_steps
        share = num_bytes / step / self._bytes_per_sec
        facts = {"rows": len(prompts), "beams": beams, "recorded": replays}
        self.note("step", **facts, ms=1e3 * step, share_of_memory=share)

    def _measure_guesses(self, engine: Engine, prompts: list[Tensor]) -> None:
        verifier = EngineVerifier(engine, prompts)
        verifier.prefill()

        def run() -> None:
            verifier.verify([[3] * NUM_GUESSES] * len(prompts))
            verifier.accept([1] * len(prompts))

        self.note("guesses", rows=len(prompts), guesses=NUM_GUESSES, ms=1e3 * self._time(run))

    @torch.inference_mode()
    def measure_files(
        self, name: str, size: Size, engine: Engine, width: int, dtype: torch.dtype
    ) -> None:
        """Measure clips to texts, with one size of encoder."""
        encoder = StandInEncoder(size, width).to(self.device, dtype).eval()
        num_tokens = CLIP_SECS * TOKENS_PER_SEC
        for rows in (1, 8, 64):
            with self._room(f"{name}, {rows} rows"):
                shape = (rows, CLIP_SECS * SAMPLE_RATE)
                waveforms = torch.randn(shape, device=self.device, dtype=dtype)
                encoding = self._time(lambda: encoder(waveforms))  # noqa: B023
                for beams in (1, 5):
                    search = create_search(beams)

                    def run() -> None:
                        prompts = list(encoder(waveforms))  # noqa: B023
                        decoder = EngineStepDecoder(engine, prompts)
                        search.run(decoder, [num_tokens] * len(prompts))  # noqa: B023

                    secs = self._time(run)
                    facts = {"encoder": name, "rows": rows, "beams": beams}
                    speed = rows * CLIP_SECS / secs
                    self.note("file to text", **facts, encoder_ms=1e3 * encoding, rtfx=speed)

    @staticmethod
    def _room(what: str) -> suppress:
        print(f"-- {what}", flush=True)
        return suppress(torch.cuda.OutOfMemoryError)


def moved(weights: DecoderWeights, device: torch.device) -> DecoderWeights:
    """Return weights on another device."""
    layers = [
        LayerWeights(**{name: part.to(device) for name, part in vars(layer).items()})
        for layer in weights.layers
    ]
    tensors: dict[str, Any] = {
        name: value.to(device) for name, value in vars(weights).items() if isinstance(value, Tensor)
    }
    return replace(weights, layers=layers, **tensors)


def _spell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure everything."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda or cpu (%(default)s)")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: only see whether it runs")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="JSON", help="write the figures there, too")
    args = parser.parse_args(argv)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("torch finds no GPU; `--device cpu --tiny` shows whether the benchmark runs.")
    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    bench = Bench(device, args.rounds)
    bench.note("device", name=name, torch=torch.__version__)
    bench.compare_with_cpu()
    bench.measure_memory(2**22 if args.tiny else 2**31)
    size, encoders = (TINY, TINY_ENCODERS) if args.tiny else (DECODER, ENCODERS)
    dtype = torch.bfloat16
    engine = bench.measure_decoder(size, dtype, 50 if args.tiny else 500)
    for label, encoder in encoders.items():
        bench.measure_files(label, encoder, engine, size.width, dtype)
    if args.out is not None:
        args.out.write_text(json.dumps(bench.rows, indent=1), "utf-8")


if __name__ == "__main__":
    main()
