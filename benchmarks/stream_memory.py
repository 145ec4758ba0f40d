"""Whether the memory of a live stream stays the same however long it runs.

``python benchmarks/stream_memory.py`` feeds the speech of the mini corpus, repeated, second by
second to a streaming model with random weights (segments of 15 s, one of them as context). After
2, 5, 10, 20 and 30 minutes of audio it prints the largest resident memory since the stream began,
and the size of the stream's state when serialised. The last line is a JSON object. A random model
does not stop by itself: each segment emits ``--max-new-tokens`` tokens.
"""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.resources import files
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import wavellama  # isort: skip  # before fairseq2, for which it loads libsndfile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavellama.audio.load import load_audio
from wavellama.data.manifest import read_manifest
from wavellama.decoding.streaming import StreamDecoder
from wavellama.units import SAMPLE_RATE, samples_to_seconds, seconds_to_samples

MINUTES = (2, 5, 10, 20, 30)


def create_model(arch: str) -> wavellama.Wav2Vec2LlamaModel:
    """Return a streaming model of an architecture's size with random weights."""
    config = wavellama.get_wav2vec2_llama_model_hub().get_arch_config(arch)
    config.model_type, config.n_special_tokens = wavellama.ModelType.LLM_ASR_LID, 3
    config.streaming_config.is_streaming = True
    config.streaming_config.segment_secs = 15.0
    torch.manual_seed(0)
    return wavellama.get_wav2vec2_llama_model_hub().create_new_model(config).eval()


def read_speech() -> NDArray[np.float32]:
    """Return the recordings of the mini corpus, one after another."""
    manifest = Path(str(files("wavellama.assets") / "corpora/mini/manifest.tsv"))
    recordings = dict.fromkeys(row.audio for row in read_manifest(manifest).utterances)
    speech: NDArray[np.float32] = np.concatenate([load_audio(path) for path in recordings])
    return speech


def read_speech_elsewhere() -> Tensor:
    """Let another process read the speech: what that leaves on the heap would hide growth."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return torch.from_numpy(process.submit(read_speech).result())


def seconds_of(speech: Tensor) -> Iterator[Tensor]:
    """Yield the speech in chunks of one second, again and again."""
    yield from cycle(torch.split(speech, SAMPLE_RATE))


def read_status(field: str) -> int:
    """Return a field of this process' memory in bytes: ``VmHWM`` (the peak) or ``VmRSS``."""
    with open("/proc/self/status") as status:
        (line,) = [line for line in status if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024


def reset_peak() -> None:
    """Let ``VmHWM`` begin anew from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(
    decoder: StreamDecoder, speech: Tensor, minutes: Sequence[int]
) -> Iterator[dict[str, float]]:
    """Feed one stream; yield what it takes after each of ``minutes`` of audio."""
    state = decoder.start("ita_Latn")
    begin, num_samples, num_tokens = perf_counter(), 0, 0
    remaining = [seconds_to_samples(60 * minute) for minute in minutes]
    for chunk in seconds_of(speech):
        num_tokens += sum(len(best.token_logprobs) for best, *_ in decoder.feed(state, chunk))
        num_samples += len(chunk)
        if num_samples >= remaining[0]:
            yield {
                "minutes": samples_to_seconds(num_samples) / 60,
                "segments": state.num_segments,
                "tokens": num_tokens,
                "peak_bytes": read_status("VmHWM"),
                "resident_bytes": read_status("VmRSS"),
                "state_bytes": len(pickle.dumps(state)),
                "seconds": perf_counter() - begin,
            }
            remaining = remaining[1:]
        if not remaining:
            return


def describe(row: dict[str, float]) -> str:
    peak, resident = row["peak_bytes"] / 2**20, row["resident_bytes"] / 2**20
    return (
        f"{row['minutes']:5.1f} min, {row['segments']:4} segments: peak {peak:.1f} MiB,"
        f" resident {resident:.1f} MiB, state {row['state_bytes']} bytes, {row['seconds']:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="transformer_4m", help="model size (%(default)s)")
    parser.add_argument("--minutes", type=int, nargs="+", default=MINUTES, help="when to measure")
    parser.add_argument("--nbest", type=int, default=2, help="beam size (%(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=200, help="per segment (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    search = wavellama.Wav2Vec2LlamaBeamSearchConfig(
        nbest=args.nbest, max_new_tokens=args.max_new_tokens, repetition_guard=False
    )
    decoder = StreamDecoder(create_model(args.arch), search)
    speech, rows = read_speech_elsewhere(), []
    reset_peak()
    loaded = read_status("VmHWM")
    print(f"{loaded / 2**20:.1f} MiB with the model and the speech")
    for row in measure(decoder, speech, args.minutes):
        rows.append(row)
        print(describe(row), flush=True)
    print(json.dumps({"loaded_bytes": loaded, "stream": rows}))


if __name__ == "__main__":
    main()
