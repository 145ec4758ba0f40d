"""Play a file to the live session as if it were spoken now, and show what it makes of it.

python examples/live_file.py FILE [MODEL [LANG]]
"""

from __future__ import annotations

import sys

import torch

from wavellama import ASRInferencePipeline, TranscribeOptions
from wavellama.audio.load import load_audio

PIECE = 1_600
"""Samples at a time: a tenth of a second."""


def main(file: str, model: str = "wavellama_small", lang: str | None = None) -> None:
    pipeline = ASRInferencePipeline(model, dtype=torch.float32)
    session = pipeline.live(TranscribeOptions(lang=lang))
    audio = load_audio(file)
    for begin in range(0, len(audio), PIECE):
        for update in session.feed(audio[begin : begin + PIECE]):
            if update.stable:
                print(f"{update.time:7.2f}  {update.stable.strip()}")
            elif update.tentative:
                print(f"{update.time:7.2f}  ({update.tentative.strip()} ...)")
    print(f"   end   {session.finish().stable.strip()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
