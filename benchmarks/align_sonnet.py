"""How well a model finds the lines of a sonnet whose times are known.

``python benchmarks/align_sonnet.py --model RUN_DIR`` aligns the 53 seconds of the split ``sonnet``
of the mini corpus in one go, as one text, and compares the beginnings of the 14 lines with those in
the manifest, in two ways. The manifest's lines follow each other without gaps, so each begins
somewhere in the pause after the line before it:

* ``word``: where the first word of the line begins. The pauses count as error, even of a perfect
  alignment.
* ``pause``: the middle of the pause, between the last word before the line and its first word.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from statistics import median

from wavellama import align
from wavellama.checkpoints.hub import find_model
from wavellama.data.manifest import read_manifest
from wavellama.data.utterance import Utterance
from wavellama.data.words import AlignedWord


def read_lines() -> list[Utterance]:
    manifest = Path(str(files("wavellama.assets") / "corpora/mini/manifest.tsv"))
    return [line for line in read_manifest(manifest).utterances if line.split == "sonnet"]


def line_starts(
    lines: Sequence[Utterance], words: Sequence[AlignedWord]
) -> Iterator[tuple[float, float]]:
    """Yield where the first word of each line begins, and the middle of the pause before it."""
    place = 0
    for line in lines:
        start = words[place].start
        yield start, (start + words[place - 1].end) / 2 if place > 0 else start
        place += len(line.text.split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, metavar="CARD|RUN_DIR", help="a CTC model")
    args = parser.parse_args()
    lines = read_lines()
    text = " ".join(line.text for line in lines)
    source = find_model(args.model)
    model, tokenizer = source.load(), source.load_tokenizer()
    words = align(model, tokenizer, lines[0].audio, text, "eng_Latn")
    errors: list[tuple[float, float]] = []
    print("  known   word  error  pause  error  line")
    for line, found in zip(lines, line_starts(lines, words), strict=True):
        known = line.offset or 0.0
        errors.append((abs(found[0] - known), abs(found[1] - known)))
        columns = "".join(f"{start:7.2f}{start - known:+7.2f}" for start in found)
        print(f"{known:7.2f}{columns}  {line.text}")
    for name, column in zip(("word", "pause"), zip(*errors, strict=True), strict=True):
        figures = f"median {median(column):.2f} s, largest {max(column):.2f} s"
        print(f"Error of line starts by {name}: {figures}.")


if __name__ == "__main__":
    main()
