"""How fast speech is found: ours beside silero-vad's own function, with the same weights.

``python benchmarks/vad.py`` repeats the sonnet of the mini corpus for ``--minutes`` and looks for
speech in it with one thread, in turn with ``silero_vad.get_speech_timestamps``. It prints the
median seconds of ``--rounds`` rounds, and how many regions have the same ends to the sample. The
last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from importlib.resources import files
from statistics import median
from time import perf_counter
from typing import Any, TypeAlias

import torch

from wavellama.audio.load import load_audio
from wavellama.audio.vad import detect_speech
from wavellama.units import SAMPLE_RATE

Span: TypeAlias = "tuple[int, int]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=60, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sonnet = load_audio(str(files("wavellama.assets") / "corpora/mini/audio/sonnet.ogg"))
    num_samples = args.minutes * 60 * SAMPLE_RATE
    audio = sonnet.repeat(-(-num_samples // len(sonnet)))[:num_samples]
    silero_vad: Any = import_module("silero_vad")  # which says nothing of types
    model = silero_vad.load_silero_vad()
    ours, theirs = set[Span](), set[Span]()
    secs: dict[str, list[float]] = {"ours": [], "silero": []}
    for _ in range(args.rounds):
        begin = perf_counter()
        ours = {(region.start, region.end) for region in detect_speech(audio)[0]}
        secs["ours"].append(perf_counter() - begin)
        begin = perf_counter()
        regions = silero_vad.get_speech_timestamps(audio, model)
        secs["silero"].append(perf_counter() - begin)
        theirs = {(region["start"], region["end"]) for region in regions}
    found = {name: median(values) for name, values in secs.items()}
    counts = {"regions": len(ours), "regions_of_silero": len(theirs), "same": len(ours & theirs)}
    print(f"{found['ours']:.2f} s, silero {found['silero']:.2f} s; {counts}")
    print(json.dumps({**vars(args), **found, **counts}))


if __name__ == "__main__":
    main()
