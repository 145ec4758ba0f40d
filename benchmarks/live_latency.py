"""How soon the text of a real recording stays, phrase by phrase, and what it costs in errors.

``python benchmarks/live_latency.py [MODEL]`` feeds the 53 seconds of the split ``sonnet`` of the
mini corpus to a live session, as they were recorded, 100 ms at a time. A piece arrives when its
last sample was spoken, and waits until those before it are done; computing is processor time of
one thread, so that other programs count little. It prints the text of each phrase with the end of
its speech and the seconds from there until the text was there for good; then the character error
rates of the live text and of the recording as a file. The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
from importlib.resources import files
from pathlib import Path
from statistics import median
from time import process_time

import torch
from torch import Tensor

from wavellama import ASRInferencePipeline, Segment, TranscribeOptions
from wavellama.audio.load import load_audio
from wavellama.data.manifest import read_manifest
from wavellama.metrics.error_rates import count_edits, score
from wavellama.pipeline.options import DEFAULT_MODEL
from wavellama.text.normalize import normalize_text
from wavellama.units import samples_to_seconds, seconds_to_samples

PIECE_SAMPLES = seconds_to_samples(0.1)


def listen(
    pipeline: ASRInferencePipeline, audio: Tensor, options: TranscribeOptions
) -> list[tuple[Segment, float]]:
    """Return what was said, and when the text was there on the clock of the audio, in seconds."""
    session, found = pipeline.live(options), []
    heard = ready = 0.0
    for piece in torch.split(audio, PIECE_SAMPLES):
        heard += samples_to_seconds(len(piece))
        began = process_time()
        updates = session.feed(piece)
        ready = max(ready, heard) + process_time() - began
        found += [(segment, ready) for update in updates for segment in update.segments]
    began = process_time()
    last = session.finish()
    ready += process_time() - began
    return found + [(segment, ready) for segment in last.segments]


def error_rate(reference: str, text: str) -> float:
    """Return the share of wrong characters."""
    return float(score([count_edits(normalize_text(reference), normalize_text(text))])["cer"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default=DEFAULT_MODEL, metavar="CARD|RUN_DIR")
    parser.add_argument("--chunk-secs", type=float, metavar="S", help="the longest utterance")
    args = parser.parse_args()
    torch.set_num_threads(1)
    manifest = Path(str(files("wavellama.assets") / "corpora/mini/manifest.tsv"))
    lines = [line for line in read_manifest(manifest).utterances if line.split == "sonnet"]
    pipeline = ASRInferencePipeline(args.model, device="cpu", dtype=torch.float32)
    options = TranscribeOptions(lang="eng_Latn", chunk_secs=args.chunk_secs)
    found = listen(pipeline, load_audio(lines[0].audio), options)
    (whole,) = pipeline.stream_results([lines[0].audio], options)
    for segment, ready in found:
        print(f"{segment.end:7.2f} +{ready - segment.end:.2f}  {segment.text.strip()}")
    reference = " ".join(line.text for line in lines)
    delays = [ready - segment.end for segment, ready in found]
    figures = {
        "phrases": len(found),
        "seconds_until_stable": {"median": median(delays), "most": max(delays)},
        "live_cer": error_rate(reference, "".join(segment.text for segment, _ in found)),
        "file_cer": error_rate(reference, whole.text),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
