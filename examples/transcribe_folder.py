"""Print the words of all audio files of a folder, with their times and how sure the model is.

python examples/transcribe_folder.py FOLDER [MODEL [LANG]]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from wavellama import ASRInferencePipeline, TranscribeOptions, TranscriptionError
from wavellama.pipeline.sources import find_files


def main(folder: str, model: str = "wavellama_small", lang: str | None = None) -> int:
    files = [file.path for file in find_files([Path(folder)])]
    pipeline = ASRInferencePipeline(model, dtype=torch.float32)
    options = TranscribeOptions(lang=lang, word_timestamps=True)
    try:
        for transcript in pipeline.stream_results(files, options):
            print(f"{transcript.source} ({transcript.duration:.1f} s)")
            for segment in transcript.segments:
                for word in segment.words:
                    print(f"{word.start:9.2f} {word.end:8.2f} {word.confidence:6.0%}  {word.text}")
    except TranscriptionError as ex:
        print(ex, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
