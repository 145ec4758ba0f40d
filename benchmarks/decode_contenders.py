"""What ``benchmarks/decode.py`` compares: ways to decode that can be run again and again.

Shapes: N rows, B hypotheses of all rows, S prompt positions, M decoder width, V vocabulary.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import IO, Any, TypeAlias, cast

import wavellama  # noqa: F401  # isort: skip  # before fairseq2, for which it loads libsndfile

import torch
from fairseq2.nn import BatchLayout, IncrementalStateBag
from torch import Tensor
from typing_extensions import override

from wavellama.engine import EngineStepDecoder
from wavellama.libsndfile import bundled_libsndfile
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.search.beam import BeamSearch
from wavellama.search.greedy import GreedySearch
from wavellama.search.types import Follower, StepDecoder

DecoderFactory: TypeAlias = Callable[[Sequence[Tensor]], "EngineStepDecoder | StockStepDecoder"]
"""From the rows' embedded prompts, (S, M) each, to a decoder; called, and timed, in each run."""


@dataclass(frozen=True)
class Figures:
    """What one run took, or the medians of several."""

    prefill_s: float
    step_s: float
    total_s: float
    peak_bytes: float | None = None
    cache_bytes: float | None = None

    @classmethod
    def median_of(cls, runs: Sequence[Figures]) -> Figures:
        """Return the median of each figure, or None where runs lack it."""
        columns = {name: [getattr(run, name) for run in runs] for name in asdict(runs[0])}
        medians: dict[str, Any] = {
            name: None if None in column else median(column) for name, column in columns.items()
        }
        return cls(**medians)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Memory:
    """What a process has taken since ``start``, beyond what it had then.

    On the CPU its resident memory, which Linux alone tells; on a GPU what torch has allocated.
    """

    def __init__(self, device: torch.device, pid: int | str = "self") -> None:
        self._on_gpu = device.type == "cuda"
        self._folder = Path("/proc") / str(pid)
        self._before = 0

    def start(self) -> None:
        """Begin a run: the peak so far is forgotten."""
        return_free_memory()
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        elif sys.platform == "linux":
            (self._folder / "clear_refs").write_text("5")
            self._before = self._status("VmRSS")

    def peak_bytes(self) -> int | None:
        """Return the peak, or None where the system does not tell."""
        if self._on_gpu:
            return torch.cuda.max_memory_allocated() - self._before
        return self._status("VmHWM") - self._before if sys.platform == "linux" else None

    def held_bytes(self) -> int | None:
        """Return what is still held, or None where the system does not tell."""
        return_free_memory()
        if self._on_gpu:
            return torch.cuda.memory_allocated() - self._before
        return self._status("VmRSS") - self._before if sys.platform == "linux" else None

    def _status(self, name: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        values = dict(line.split(":", 1) for line in lines)
        return int(values[name].split()[0]) * 1024  # from "123 kB"


def return_free_memory() -> None:
    """Give memory that this process has freed back to the system."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


class StockStepDecoder(StepDecoder):
    """fairseq2's incremental decoding over all beams.

    It holds ``beam`` hypotheses per row from the prompt on, and expects that no row ever ends.
    """

    def __init__(self, model: Wav2Vec2LlamaModel, contexts: Sequence[Tensor], beam: int) -> None:
        """
        :param contexts: each row's embedded prompt, those of one length adjacent. *Shape of
            each:* (S, M).
        """
        self._model, self._beam = model, beam
        groups = [torch.stack(list(rows)) for _, rows in groupby(contexts, key=len)]
        self._prompts = [group.repeat_interleave(beam, dim=0) for group in groups]
        self._sizes = [len(prompts) for prompts in self._prompts]
        max_num_steps = model.max_generation_length + 1  # fairseq2 counts the next step ahead
        self.state_bags = [IncrementalStateBag(max_num_steps) for _ in groups]
        self._places: Sequence[int] = range(0, sum(self._sizes), beam)

    @override
    def prefill(self) -> Tensor:
        return self._advance(self._prompts)[:: self._beam]

    @override
    def reorder(self, parents: list[int]) -> None:
        device, begin = self._prompts[0].device, 0
        order = torch.tensor([self._places[parent] for parent in parents], device=device)
        for own, state_bag in zip(torch.split(order, self._sizes), self.state_bags, strict=True):
            state_bag.reorder(own - begin)
            begin += len(own)
        self._places = range(len(parents))

    @override
    def step(self, tokens: list[int]) -> Tensor:
        like = self._prompts[0]
        ids = torch.tensor(tokens, device=like.device)[:, None]
        seqs = self._model.embed_text(ids, like.dtype)  # (B, 1, M)
        return self._advance(torch.split(seqs, self._sizes))

    def _advance(self, parts: Sequence[Tensor]) -> Tensor:
        last = []
        for seqs, state_bag in zip(parts, self.state_bags, strict=True):
            hidden = self._model.llama_decoder(seqs, BatchLayout.of(seqs), state_bag=state_bag)
            state_bag.increment_step_nr(seqs.size(1))
            last.append(hidden[:, -1])
        logits = self._model.final_proj(torch.cat(last))
        return torch.log_softmax(logits, dim=-1, dtype=torch.float32)


class TimedStepDecoder(StepDecoder):
    """Notes when another decoder has read the prompts."""

    prefilled_at = 0.0

    def __init__(self, decoder: StepDecoder) -> None:
        self._decoder = decoder

    @override
    def prefill(self) -> Tensor:
        log_probs = self._decoder.prefill()
        synchronize(log_probs.device)
        self.prefilled_at = perf_counter()
        return log_probs

    @override
    def reorder(self, parents: list[int]) -> None:
        self._decoder.reorder(parents)

    @override
    def step(self, tokens: list[int]) -> Tensor:
        return self._decoder.step(tokens)

    @property
    def steps_ahead(self) -> int:
        """How many tokens the decoder follows by itself."""
        return self._decoder.steps_ahead if isinstance(self._decoder, Follower) else 1

    def follow(self, log_probs: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
        """Let the decoder follow the likeliest tokens."""
        assert isinstance(self._decoder, Follower)
        return self._decoder.follow(log_probs, num_tokens)


class InProcess:
    """A decoder of this process under our search."""

    def __init__(
        self,
        create: DecoderFactory,
        search: BeamSearch | GreedySearch,
        contexts: Sequence[Tensor],
        num_tokens: int,
    ) -> None:
        """
        :param search: a search in which no hypothesis ends before its last token.
        :param contexts: each row's embedded prompt. *Shape of each:* (S, M).
        :param num_tokens: how many tokens each row emits, at least 2.
        """
        self._create, self._search = create, search
        self._contexts, self._num_tokens = contexts, num_tokens
        self.memory = Memory(contexts[0].device)

    @torch.no_grad()
    def run(self) -> Figures:
        """Search once.

        :raises RuntimeError: a hypothesis ended early.
        """
        num_tokens = self._num_tokens
        begin = perf_counter()
        decoder = self._create(self._contexts)
        timed = TimedStepDecoder(decoder)
        results = self._search.run(timed, [num_tokens] * len(self._contexts))
        total = perf_counter() - begin
        if {len(hypothesis.tokens) for row in results for hypothesis in row} != {num_tokens}:
            raise RuntimeError(f"A hypothesis ended before its {num_tokens} tokens.")
        prefill = timed.prefilled_at - begin
        step = (total - prefill) / (num_tokens - 1)
        return Figures(prefill, step, total, cache_bytes=_cache_bytes(decoder))


def _cache_bytes(decoder: EngineStepDecoder | StockStepDecoder) -> int:
    if isinstance(decoder, StockStepDecoder):
        return sum(state_bag.capacity_bytes() for state_bag in decoder.state_bags)
    return decoder.cache.num_bytes


class Reference:
    """The reference in an interpreter of its own (``decode_reference.py``)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Wait until the interpreter is ready."""
        self._requests, self._answers = process.stdin, process.stdout
        self.memory = Memory(torch.device("cpu"), process.pid)
        self._read()

    def run(self) -> Figures:
        """Let it search once."""
        print("run", file=self._requests, flush=True)
        return Figures(**self._read())

    def _read(self) -> dict[str, float]:
        line = cast("IO[str]", self._answers).readline()
        if not line:
            sys.exit("The reference's interpreter has ended; its own messages are above.")
        answer: dict[str, float] = json.loads(line)
        return answer


Contender: TypeAlias = InProcess | Reference


@contextmanager
def start_reference(python: str, options: Sequence[str]) -> Iterator[Reference]:
    """Start the reference with the options of ``decode_reference.py``; it ends with the context."""
    script = Path(__file__).with_name("decode_reference.py")
    command = [python, "-I", str(script), *options]
    if library := bundled_libsndfile():
        command += ["--libsndfile", str(library)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield Reference(process)
