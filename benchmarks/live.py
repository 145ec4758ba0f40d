"""Live transcription against transcription of files: what it costs in errors, and how late it is.

``python benchmarks/live.py RUN_DIR --data DIR`` joins held-out sentences of one language at a time,
with digital silence of 0.8 to 1.5 s between them, and feeds the audio live, 100 ms at a time. It
prints

* the character error rate of each stream's whole text, with either normalisation, and that of the
  same sentences as files of their own. Utterances need not be sentences: the joined texts are
  aligned, and each edit counts for the sentence in whose text it lies. Intervals of 95 % resample
  these sentences, those of differences the same ones for both texts;
* the latency: from the end of an utterance, as the voice detection finds it, until its text is
  there, on a clock on which a piece arrives when its last sample was spoken and waits until those
  before it are done. The part of it that is audio was not computing, but waiting to be sure;
* the real-time factor: seconds of computing per second of audio, with and without tentative texts.

Computing is measured in processor time of one thread, so that other programs count little.

The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Final, NamedTuple, TypeAlias, cast

import jiwer
import numpy as np
import torch
from torch import Tensor

from wavellama import ASRInferencePipeline, TranscribeOptions
from wavellama.data.manifest_dataset import ManifestDatasetConfig, open_manifest_dataset
from wavellama.data.utterance import Utterance
from wavellama.metrics.error_rates import NUM_RESAMPLES, Edits, score
from wavellama.pipeline.options import Normalization
from wavellama.text.normalize import normalize_text
from wavellama.units import SAMPLE_RATE, samples_to_seconds, seconds_to_samples

PIECE_SAMPLES: Final = seconds_to_samples(0.1)
PAUSE_SECS: Final = (0.8, 1.5)
TAIL_SECS: Final = 1.5
NEVER: Final = 3600.0
"""Seconds between tentative texts, where there are to be none."""

NORMALIZATIONS: Final[tuple[Normalization, ...]] = ("clip", "causal")

DEMO_LANGUAGES: Final = ("eng_Latn", "fra_Latn", "ita_Latn", "rus_Cyrl", "spa_Latn")


Figures: TypeAlias = "dict[str, object]"


@dataclass(frozen=True)
class Stream:
    """Sentences of a language, one after the other."""

    lang: str
    texts: Sequence[str]
    """As the error rates compare them."""
    clips: Sequence[Tensor]
    audio: Tensor
    """All clips, with pauses. *Shape:* (T)."""


class Delay(NamedTuple):
    """How late the text of an utterance was, in seconds after the end of its speech."""

    audio: float
    total: float


@dataclass
class Live:
    """What a way of transcribing live came to."""

    edits: list[Edits] = field(default_factory=list)
    delays: list[Delay] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    compute_secs: float = 0.0
    num_utterances: int = 0
    num_tentative: int = 0


def create_streams(rows: Sequence[tuple[Utterance, Tensor]], draw: random.Random) -> list[Stream]:
    """Join the sentences of each language, in random order."""
    streams = []
    for lang in sorted({str(row.lang) for row, _ in rows}):
        chosen = [pair for pair in rows if pair[0].lang == lang]
        draw.shuffle(chosen)
        parts: list[Tensor] = []
        for _, waveform in chosen:
            parts += [waveform, torch.zeros(seconds_to_samples(draw.uniform(*PAUSE_SECS)))]
        parts.append(torch.zeros(seconds_to_samples(TAIL_SECS)))
        texts = [normalize_text(row.text) for row, _ in chosen]
        streams.append(Stream(lang, texts, [clip for _, clip in chosen], torch.cat(parts)))
    return streams


def transcribe_files(pipeline: ASRInferencePipeline, streams: Sequence[Stream]) -> list[Edits]:
    """Transcribe each sentence as a file, and count the edits of each."""
    edits: list[Edits] = []
    for stream in streams:
        inputs = [{"waveform": clip, "sample_rate": SAMPLE_RATE} for clip in stream.clips]
        options = TranscribeOptions(lang=lang_for(pipeline, stream))
        texts = [transcript.text for transcript in pipeline.stream_results(inputs, options)]
        edits += sentence_edits(stream.texts, " ".join(texts))
    return edits


def transcribe_live(
    pipeline: ASRInferencePipeline,
    streams: Sequence[Stream],
    normalization: Normalization,
    update_secs: float,
) -> Live:
    """Feed each stream as a microphone would."""
    result = Live()
    for stream in streams:
        options = TranscribeOptions(
            lang=lang_for(pipeline, stream), normalization=normalization, update_secs=update_secs
        )
        result.texts.append(feed(pipeline, stream.audio, options, result))
        result.edits += sentence_edits(stream.texts, result.texts[-1])
    return result


def feed(
    pipeline: ASRInferencePipeline, audio: Tensor, options: TranscribeOptions, result: Live
) -> str:
    """Feed audio piece by piece, keep account of the time, and return the text."""
    session = pipeline.live(options)
    heard = ready = 0.0  # by the microphone's clock: what was spoken, when the program waits again
    for piece in torch.split(audio, PIECE_SAMPLES):
        heard += samples_to_seconds(len(piece))
        begin = process_time()
        updates = session.feed(piece)
        seconds = process_time() - begin
        ready = max(ready, heard) + seconds
        result.compute_secs += seconds
        for update in updates:
            result.num_tentative += not update.segments
            result.delays += [Delay(heard - s.end, ready - s.end) for s in update.segments]
    begin = process_time()
    session.finish()
    result.compute_secs += process_time() - begin
    result.num_utterances += len(session.segments)
    return session.text


def lang_for(pipeline: ASRInferencePipeline, stream: Stream) -> str | None:
    """Return the language of a stream, if the model takes one."""
    syntax = getattr(pipeline.model, "syntax", None)
    return stream.lang if syntax is not None and syntax.needs_language else None


def sentence_edits(texts: Sequence[str], hypothesis: str) -> list[Edits]:
    """Align a text with that of all sentences, and count the character edits within each.

    The space behind a sentence belongs to it.
    """
    reference = " ".join(texts)
    starts = np.cumsum([0] + [len(text) + 1 for text in texts])
    counts = np.zeros(len(texts), dtype=int)
    for place, num_edits in _placed_edits(reference, normalize_text(hypothesis)):
        counts[np.searchsorted(starts, place, "right") - 1] += num_edits
    lens = np.diff(np.minimum(starts, len(reference)))
    return [Edits(int(n), int(length), 0, 0) for n, length in zip(counts, lens, strict=True)]


def _placed_edits(reference: str, hypothesis: str) -> Iterator[tuple[int, int]]:
    """Yield places in a reference, and the number of edits there."""
    (chunks,) = jiwer.process_characters(reference, hypothesis).alignments
    for chunk in chunks:
        if chunk.type == "insert":
            yield min(chunk.ref_start_idx, len(reference) - 1), _span(chunk)
        elif chunk.type != "equal":
            yield from ((place, 1) for place in range(chunk.ref_start_idx, chunk.ref_end_idx))


def _span(chunk: jiwer.AlignmentChunk) -> int:
    return int(chunk.hyp_end_idx - chunk.hyp_start_idx)


def error_rate(edits: Sequence[Edits]) -> Figures:
    """Return the error rate with its interval."""
    scores = score(edits)
    return {"cer": scores["cer"], "ci95": scores["cer_ci95"]}


def difference(edits: Sequence[Edits], base: Sequence[Edits]) -> Figures:
    """Return by how much the error rate is higher than another one of the same sentences."""
    table = np.array(
        [(e.char_edits - b.char_edits, e.num_chars) for e, b in zip(edits, base, strict=True)]
    )
    draws = np.random.default_rng(0).integers(0, len(table), (NUM_RESAMPLES, len(table)))
    sums = table[draws].sum(1)
    low, high = np.percentile(sums[:, 0] / sums[:, 1], [2.5, 97.5])
    return {"cer": float(table[:, 0].sum() / table[:, 1].sum()), "ci95": [low, high]}


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the 95th percentile."""
    median, most = np.quantile(values, [0.5, 0.95])
    return {"median": float(median), "p95": float(most)}


def summarize(live: Live, base: Sequence[Edits], audio_secs: float) -> Figures:
    """Return the figures of one way of transcribing live."""
    return {
        **error_rate(live.edits),
        "more_than_files": difference(live.edits, base),
        "num_utterances": live.num_utterances,
        "num_tentative": live.num_tentative,
        "latency_audio_secs": quantiles([delay.audio for delay in live.delays]),
        "latency_compute_secs": quantiles([delay.total - delay.audio for delay in live.delays]),
        "latency_secs": quantiles([delay.total for delay in live.delays]),
        "real_time_factor": live.compute_secs / audio_secs,
    }


def measure(pipeline: ASRInferencePipeline, streams: Sequence[Stream]) -> Figures:
    """Transcribe the streams in all ways.

    :raises RuntimeError: tentative texts have changed what is stable.
    """
    audio_secs = samples_to_seconds(sum(len(stream.audio) for stream in streams))
    files = transcribe_files(pipeline, streams)
    figures: Figures = {
        "num_sentences": len(files),
        "audio_secs": audio_secs,
        "files": error_rate(files),
    }
    for normalization in NORMALIZATIONS:
        plain = transcribe_live(pipeline, streams, normalization, NEVER)
        tentative = transcribe_live(pipeline, streams, normalization, 1.0)
        if plain.texts != tentative.texts:
            raise RuntimeError("Tentative texts have changed what is stable.")
        figures[normalization] = summarize(plain, files, audio_secs)
        figures[f"{normalization}, tentative"] = summarize(tentative, files, audio_secs)
    return figures


def report(figures: Mapping[str, object]) -> None:
    """Print the figures, those of each way of transcribing as a block."""
    for name, value in figures.items():
        if not isinstance(value, dict):
            print(f"{name}: {value}")
            continue
        print(f"\n{name}")
        for key, figure in cast("Figures", value).items():
            print(f"  {key:22}{json.dumps(figure)}")
    print(json.dumps(figures))


def read_sentences(args: argparse.Namespace) -> list[tuple[Utterance, Tensor]]:
    """Return held-out sentences, in each language as many as are asked for, and their audio. (T)"""
    dataset = open_manifest_dataset(ManifestDatasetConfig(path=args.data))
    found: list[tuple[Utterance, Tensor]] = []
    for lang in args.languages:
        rows = [row for row in dataset.utterances(args.split) if row.lang == lang]
        chosen = random.Random(args.seed).sample(rows, min(len(rows), args.max_per_language))
        found += [(row, dataset.read_audio(row)) for row in chosen]
    return found


def create_parser(about: str) -> argparse.ArgumentParser:
    """Create the parser of what to transcribe with which model.

    :param about: what the program does.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("run_dir", help="the output directory of a training run")
    parser.add_argument("--data", type=Path, required=True, help="the data set's directory")
    parser.add_argument("--split", default="test")
    parser.add_argument("--languages", nargs="+", default=DEMO_LANGUAGES, metavar="CODE")
    parser.add_argument("--max-per-language", type=int, default=10**6, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of the order and the pauses")
    return parser


def main() -> None:
    args = create_parser(__doc__).parse_args()
    torch.set_num_threads(1)  # so that processor time is what a free processor takes
    pipeline = ASRInferencePipeline(args.run_dir, device="cpu", dtype=torch.float32)
    streams = create_streams(read_sentences(args), random.Random(args.seed))
    report(measure(pipeline, streams))


if __name__ == "__main__":
    main()
