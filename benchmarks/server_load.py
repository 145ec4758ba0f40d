"""Many clients at a server: whether all texts are right, how late they are, and how much it does.

``python benchmarks/server_load.py --url http://127.0.0.1:8000 --clients 64 --secs 300`` asks for
clips of 1 to 60 s of recorded speech (the packaged corpus, joined) in the name of so many clients,
each of which asks again as soon as it has its answer. First each clip is asked for alone. It prints

* how many answers there were, and how many of them were errors, or not the text of the clip alone;
* the median and the 95th percentile of the time until an answer, by the length of the clips;
* the seconds of audio that were transcribed per second;
* with ``--pid``, the server's memory twenty times meanwhile.

``--secs-per-clip`` fixes the length of all clips. The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from random import Random
from statistics import quantiles
from threading import Event
from time import monotonic, sleep
from typing import Any, Final

import httpx2
import numpy as np
import soundfile
from numpy.typing import NDArray

from wavellama.audio.load import load_audio
from wavellama.units import SAMPLE_RATE

NUM_CLIPS: Final = 24
LENGTHS: Final = (1.0, 60.0)
BINS: Final = (5.0, 20.0, 60.0)
"""Up to how many seconds clips count as of one length."""

NUM_LOOKS: Final = 20
"""How often the server's memory is looked at."""


@dataclass(frozen=True)
class Clip:
    """What is asked for."""

    secs: float
    data: bytes
    text: str = ""


@dataclass
class Counts:
    """What came of it."""

    latencies: list[tuple[float, float]] = field(default_factory=list)
    """Seconds of audio, and seconds until the answer."""

    num_wrong: int = 0
    num_refused: int = 0
    num_failed: int = 0


def read_speech() -> NDArray[np.float32]:
    """Return the packaged corpus, joined. (T)."""
    folder = Path(str(files("wavellama.assets") / "corpora/mini/audio"))
    return np.concatenate([load_audio(path).numpy() for path in sorted(folder.rglob("*.ogg"))])


def make_clips(count: int, secs: float | None) -> list[Clip]:
    """Return clips of recorded speech, their lengths spread evenly on a scale of powers."""
    speech = read_speech()
    low, high = np.log(LENGTHS)
    lengths = np.exp(np.linspace(low, high, count)) if secs is None else [secs] * count
    draw = Random(0)
    clips = []
    for length in lengths:
        num_samples = int(length * SAMPLE_RATE)
        begin = draw.randrange(max(1, len(speech) - num_samples))
        out = io.BytesIO()
        soundfile.write(out, speech[begin : begin + num_samples], SAMPLE_RATE, format="WAV")
        clips.append(Clip(float(length), out.getvalue()))
    return clips


def ask(client: httpx2.Client, clip: Clip, form: dict[str, str]) -> httpx2.Response:
    """Ask for a transcription."""
    files = {"file": ("clip.wav", clip.data, "audio/wav")}
    return client.post("/v1/audio/transcriptions", files=files, data=form)


def run_client(
    client: httpx2.Client, clips: Sequence[Clip], form: dict[str, str], until: float, seed: int
) -> Counts:
    """Ask again and again until some time."""
    draw, counts = Random(seed), Counts()
    while monotonic() < until:
        clip, begin = draw.choice(clips), monotonic()
        try:
            reply = ask(client, clip, form)
        except httpx2.HTTPError:
            counts.num_failed += 1
            continue
        if reply.status_code == 429:
            counts.num_refused += 1
            sleep(float(reply.headers["Retry-After"]))
        elif reply.status_code != 200:
            counts.num_failed += 1
        else:
            counts.latencies.append((clip.secs, monotonic() - begin))
            counts.num_wrong += reply.json()["text"] != clip.text
    return counts


def watch_memory(pid: int | None, secs: float, is_over: Event) -> list[int]:
    """Return how many MiB a process takes, from time to time until it is over."""
    looks: list[int] = []
    while pid is not None and not is_over.wait(secs / NUM_LOOKS):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        looks.append(round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20))
    return looks


def summarise(all_counts: Sequence[Counts], secs: float) -> dict[str, Any]:
    """Return the figures."""
    latencies = [pair for counts in all_counts for pair in counts.latencies]
    figures: dict[str, Any] = {
        "answers": len(latencies),
        "wrong": sum(counts.num_wrong for counts in all_counts),
        "refused": sum(counts.num_refused for counts in all_counts),
        "failed": sum(counts.num_failed for counts in all_counts),
        "audio_secs_per_sec": round(sum(audio for audio, _ in latencies) / secs, 2),
    }
    for low, high in zip((0.0, *BINS), (*BINS, float("inf")), strict=True):
        found = [latency for audio, latency in latencies if low < audio <= high]
        figures |= summarise_latencies(found, f"latency of {low:g} to {high:g} s")
    return figures | summarise_latencies([latency for _, latency in latencies], "latency")


def summarise_latencies(latencies: Sequence[float], name: str) -> dict[str, Any]:
    """Return the median and the 95th percentile, where there are any."""
    if len(latencies) < 2:
        return {}
    cuts = quantiles(latencies, n=20)
    return {name: [round(cuts[9], 2), round(cuts[18], 2)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--key", default="none")
    parser.add_argument("--language", help="of all clips")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--secs", type=float, default=300.0)
    parser.add_argument("--secs-per-clip", type=float)
    parser.add_argument("--pid", type=int, help="of the server")
    args = parser.parse_args()
    form = {"language": args.language} if args.language else {}
    headers = {"Authorization": f"Bearer {args.key}"}
    limits = httpx2.Limits(max_connections=args.clients + 1)
    with httpx2.Client(base_url=args.url, headers=headers, timeout=600, limits=limits) as client:
        clips = [
            Clip(clip.secs, clip.data, ask(client, clip, form).raise_for_status().json()["text"])
            for clip in make_clips(NUM_CLIPS, args.secs_per_clip)
        ]
        begin, is_over = monotonic(), Event()
        with ThreadPoolExecutor(args.clients + 1) as pool:
            until = begin + args.secs
            memory = pool.submit(watch_memory, args.pid, args.secs, is_over)
            asked = [
                pool.submit(run_client, client, clips, form, until, i) for i in range(args.clients)
            ]
            counts = [one.result() for one in asked]
            is_over.set()
        figures = summarise(counts, monotonic() - begin)
    figures |= {"clients": args.clients, "memory_mib": memory.result()}
    for name, value in figures.items():
        print(f"{name}: {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
