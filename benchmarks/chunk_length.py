"""How the length of pieces changes the errors of long files.

``python benchmarks/chunk_length.py RUN_DIR --data DIR --chunk-seconds 12 6 4`` joins held-out
sentences of one language at a time, as ``live.py`` does, and transcribes each of these streams as
one file, cut in silences into pieces of at most so many seconds. It prints the character error
rates with intervals of 95 %, beside that of the sentences as files of their own, and by how much
they are higher; the last line is a JSON object.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from wavellama import ASRInferencePipeline, TranscribeOptions
from wavellama.units import SAMPLE_RATE

if TYPE_CHECKING:
    from benchmarks import live

    from wavellama.metrics.error_rates import Edits
else:  # this folder is where a script is looked for, and no package
    import live


def transcribe_joined(
    pipeline: ASRInferencePipeline, streams: Sequence[live.Stream], chunk_secs: float
) -> list[Edits]:
    """Transcribe each stream as one file, and count the edits of each sentence."""
    edits: list[Edits] = []
    for stream in streams:
        options = TranscribeOptions(lang=live.lang_for(pipeline, stream), chunk_secs=chunk_secs)
        audio = {"waveform": stream.audio, "sample_rate": SAMPLE_RATE}
        (transcript,) = pipeline.stream_results(audio, options)
        edits += live.sentence_edits(stream.texts, transcript.text)
    return edits


def main() -> None:
    parser = live.create_parser(__doc__)
    parser.add_argument("--chunk-seconds", type=float, nargs="+", default=[12, 6, 4], metavar="S")
    args = parser.parse_args()
    pipeline = ASRInferencePipeline(args.run_dir, device="cpu", dtype=torch.float32)
    streams = live.create_streams(live.read_sentences(args), random.Random(args.seed))
    alone = live.transcribe_files(pipeline, streams)
    figures = {"alone": live.error_rate(alone)}
    for secs in args.chunk_seconds:
        joined = transcribe_joined(pipeline, streams, secs)
        figures[f"{secs:g} s"] = {
            **live.error_rate(joined),
            "more_than_alone": live.difference(joined, alone),
        }
    for name, own in figures.items():
        print(f"{name:8}{json.dumps(own)}")
    print(json.dumps({**vars(args), "data": str(args.data), **figures}))


if __name__ == "__main__":
    main()
