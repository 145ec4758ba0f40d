"""What it brings that pieces join the ones that are being decoded, instead of waiting for them.

``python benchmarks/continuous.py --clients 1 8 32`` lets so many clients ask the server's scheduler
for clips of 1 to 60 s (evenly on a scale of powers), each for the next one as soon as it has its
answer, until ``--clips`` of them are done; there is no HTTP. In turn, so that whatever else the
machine does meets both alike, pieces are

* ``waiting``: decoded in batches that are begun when the one before is done;
* ``joining``: read in such batches, and then decoded together with what is there already.

Each text is compared with that of the clip alone. Figures are medians of ``--rounds``: seconds of
audio per second, and per second of the processor, which others on the machine change less.

The clips are recorded speech (the packaged corpus, joined) for ``--model``. With ``--model-dim`` a
decoder of random weights is measured instead, without an encoder: it reads ``--positions-per-sec``
of random numbers and writes ``--tokens-per-sec`` of audio (half to one and a half as many). The
last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import exp, log
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, Final, cast

import wavellama  # noqa: F401  # isort: skip  # before fairseq2, for which it loads libsndfile

import torch
from torch import Tensor

from wavellama import ASRInferencePipeline, TranscribeOptions
from wavellama.audio.chunks import Chunk
from wavellama.decoding.engine_view import find_engine
from wavellama.engine import Engine, EngineStepDecoder
from wavellama.pipeline.inputs import Input
from wavellama.pipeline.jobs import Clip, Job
from wavellama.pipeline.scribes import JoinedScribe, Scribe
from wavellama.search.beam import BeamRun, BeamSearch
from wavellama.search.greedy import GreedyRun, GreedySearch
from wavellama.search.running import SearchRun
from wavellama.search.types import Hypothesis
from wavellama.server.scheduler import Client, Scheduler
from wavellama.transcript.types import Segment
from wavellama.units import SAMPLE_RATE

if TYPE_CHECKING:
    from benchmarks.decode import create_endless_search, create_model
    from benchmarks.decode_settings import Settings
    from benchmarks.server_load import read_speech
else:  # this folder is where a script is looked for, and no package
    from decode import create_endless_search, create_model
    from decode_settings import Settings
    from server_load import read_speech

LENGTHS: Final = (1.0, 60.0)


@dataclass(frozen=True)
class Work:
    """What is asked for."""

    scribe: JoinedScribe[Any]
    create_row: Callable[[float, random.Random], Any]
    """From seconds of audio to a piece."""

    read: Callable[[Any], object]
    """From what the scribe has written to what is compared."""


@dataclass(frozen=True)
class Piece:
    """What a client asks for."""

    secs: float
    row: Any
    alone: object
    """What is written of it alone."""


@dataclass(frozen=True)
class WaitingScribe:
    """Hides that pieces can join."""

    scribe: Scribe[Any]

    def write(self, rows: list[Any]) -> list[Any]:
        """Write pieces together."""
        return self.scribe.write(rows)


# Speech and a model


def speech(card: str, batch_secs: float) -> Work:
    """Return recorded speech, and what writes it down."""
    pipeline = ASRInferencePipeline(card, device="cpu", dtype=torch.float32)
    plan = pipeline.plan(TranscribeOptions(batch_secs=batch_secs))
    assert isinstance(plan.scribe, JoinedScribe)
    samples = torch.from_numpy(read_speech())

    def cut(secs: float, draw: random.Random) -> Clip:
        length = int(secs * SAMPLE_RATE)
        begin = draw.randrange(len(samples) - length)
        return Clip(Job(Input(0, b"")), 0, Chunk(samples[begin : begin + length], 0))

    def text(written: object) -> str:
        assert isinstance(written, Segment)
        return written.text

    return Work(plan.scribe, cut, text)


# Random numbers and a decoder


@dataclass(frozen=True)
class Prompt:
    """What a decoder reads, and how many tokens it writes then."""

    seqs: Tensor
    num_tokens: int


class DecoderScribe:
    """Searches prompts."""

    def __init__(self, engine: Engine, search: BeamSearch | GreedySearch) -> None:
        self._engine, self._search = engine, search

    def write(self, rows: list[Prompt]) -> list[Any]:
        """Search prompts together."""
        return self._start(rows).finish()

    def start(self, rows: list[Prompt]) -> DecoderWriting:
        """Begin to search prompts."""
        return DecoderWriting(self._start(rows), rows)

    @torch.no_grad()
    def _start(self, rows: list[Prompt]) -> BeamRun | GreedyRun:
        decoder = EngineStepDecoder(self._engine, [row.seqs for row in rows])
        return self._search.start(decoder, [row.num_tokens for row in rows])


class DecoderWriting:
    """Prompts that are being searched."""

    def __init__(self, run: BeamRun | GreedyRun, rows: Sequence[Prompt]) -> None:
        self._run, self._rows = cast("SearchRun[Any]", run), dict(enumerate(rows))

    @property
    def clips(self) -> list[Prompt]:
        """Those that are not done."""
        return list(self._rows.values())

    def step(self) -> list[tuple[Prompt, Any]]:
        """Take a step; return those that are done."""
        return [(self._rows.pop(i), found) for i, found in self._run.step().items()]

    def join(self, other: DecoderWriting) -> None:
        """Take over the prompts of another one."""
        begun = self._run.num_begun
        self._run.join(other._run)
        self._rows |= {begun + i: row for i, row in other._rows.items()}

    def leave(self, clips: Sequence[Prompt]) -> None:
        """Forget some of them."""
        gone = {i for i, row in self._rows.items() if any(row is one for one in clips)}
        self._run.leave(gone)
        self._rows = {i: row for i, row in self._rows.items() if i not in gone}


def random_decoder(args: argparse.Namespace) -> Work:
    """Return random prompts, and a decoder of random weights."""
    settings = Settings(
        model_dim=args.model_dim, layers=args.layers, heads=args.model_dim // 128, vocab=args.vocab,
        max_len=8192, prompt=[], batch=1, new_tokens=0, beam=args.beam, dtype=args.dtype,
        weights="native", device="cpu", threads=args.threads, runs=1, reference_runs=0,
    )  # fmt: skip
    model = create_model(settings)
    engine = find_engine(model)
    assert engine is not None

    def embed(secs: float, draw: random.Random) -> Prompt:
        shape = int(secs * args.positions_per_sec) + 3, args.model_dim
        generator = torch.Generator().manual_seed(draw.randrange(2**31))
        seqs = torch.randn(shape, generator=generator) * shape[1] ** -0.5
        return Prompt(seqs, int(secs * args.tokens_per_sec * draw.uniform(0.5, 1.5)) + 1)

    def tokens(written: Sequence[Hypothesis]) -> object:
        return [hypothesis.tokens for hypothesis in written]

    return Work(DecoderScribe(engine, create_endless_search(model, args.beam)), embed, tokens)


# Measuring


def ask_for_all(
    work: Work, scribe: Scribe[Any], pieces: Sequence[Piece], num_clients: int, batch_secs: float
) -> list[object]:
    """Let clients ask for all pieces; return what was written."""
    scheduler = Scheduler(batch_secs)

    def ask(piece: Piece) -> object:
        size = int(piece.secs * SAMPLE_RATE)
        (written,) = scheduler.write(Client("a"), scribe, [piece.row], [size])
        return work.read(written)

    with ThreadPoolExecutor(num_clients) as pool:
        texts = list(pool.map(ask, pieces))
    scheduler.close()
    return texts


def measure(
    work: Work, pieces: Sequence[Piece], num_clients: int, args: argparse.Namespace
) -> dict[str, Any]:
    """Return the figures for so many clients."""
    scribes = {"waiting": WaitingScribe(work.scribe), "joining": work.scribe}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in scribes}
    wrong = dict.fromkeys(scribes, 0)
    for _ in range(args.rounds):
        for name, scribe in scribes.items():
            begin, cpu = perf_counter(), process_time()
            texts = ask_for_all(work, scribe, pieces, num_clients, args.batch_secs)
            times[name].append((perf_counter() - begin, process_time() - cpu))
            wrong[name] += sum(a != b.alone for a, b in zip(texts, pieces, strict=True))
    figures: dict[str, Any] = {"clients": num_clients, "wrong": wrong}
    audio_secs = sum(piece.secs for piece in pieces)
    for place, unit in enumerate(("per_sec", "per_cpu_sec")):
        rates = {
            name: audio_secs / median(one[place] for one in own) for name, own in times.items()
        }
        figures[unit] = {name: round(rate, 3) for name, rate in rates.items()}
        figures[f"gain_{unit}"] = round(rates["joining"] / rates["waiting"], 3)
    return figures


def create_pieces(work: Work, count: int) -> list[Piece]:
    """Return pieces of mixed lengths, each written alone."""
    draw = random.Random(0)
    lengths = [exp(draw.uniform(*map(log, LENGTHS))) for _ in range(count)]
    rows = [work.create_row(secs, draw) for secs in lengths]
    alone = [work.read(*work.scribe.write([row])) for row in rows]
    return list(map(Piece, lengths, rows, alone))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="wavellama_small")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-secs", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--model-dim", type=int, help="of a random decoder, a multiple of 128")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocab", type=int, default=9812)
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--positions-per-sec", type=float, default=25.0)
    parser.add_argument("--tokens-per-sec", type=float, default=12.0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    work = random_decoder(args) if args.model_dim else speech(args.model, args.batch_secs)
    pieces, results = create_pieces(work, args.clips), []
    for num_clients in args.clients:
        results.append(measure(work, pieces, num_clients, args))
        print(results[-1], flush=True)
    print(json.dumps({**vars(args), "results": results}))


if __name__ == "__main__":
    main()
