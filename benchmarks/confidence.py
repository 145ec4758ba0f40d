"""How far confidence and attention times can be trusted, on speech that neither was fitted to.

``python benchmarks/confidence.py --model RUN_DIR --data DIR [--lang CODE ...]`` calibrates on the
split ``dev`` and judges on ``test``: with one beam, with five, and with five and a CTC head. Then
it compares the times of the words of ``test`` (their true texts) by the decoder's attention with
those by the model's CTC head.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from wavellama.alignment.aligner import Aligner
from wavellama.audio.load import normalize
from wavellama.batch import AsrBatch
from wavellama.checkpoints.hub import ModelSource, find_model
from wavellama.data.manifest_dataset import ManifestDataset, ManifestDatasetConfig
from wavellama.decoding.attention_times import attention_times
from wavellama.decoding.token_texts import word_token_spans
from wavellama.errors import AlignmentError
from wavellama.metrics.confidence import ConfidenceScores
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.tasks.calibrate import (
    MAX_AUDIO_SECS,
    SplitReader,
    calibrate,
    check_decoder,
    recognise_words,
    score_words,
)
from wavellama.tasks.plots import draw_reliability, save_figure
from wavellama.text.words import split_words
from wavellama.transcript.calibration import Confidence

SEARCHES: Final = {
    "1 beam": Wav2Vec2LlamaBeamSearchConfig(nbest=1),
    "5 beams": Wav2Vec2LlamaBeamSearchConfig(nbest=5),
    "5 beams, CTC weight 0.5": Wav2Vec2LlamaBeamSearchConfig(nbest=5, ctc_weight=0.5),
}


def judge_confidence(model_source: ModelSource, source: SplitReader, plot: Path | None) -> None:
    model, tokenizer = check_decoder(model_source.load()), model_source.load_tokenizer()
    first: Confidence | None = None
    for search, config in SEARCHES.items():
        dev = recognise_words(model, tokenizer, source, config)
        own = calibrate(dev, "dev").confidence
        is_first, first = first is None, first or own
        test = recognise_words(model, tokenizer, replace(source, split="test"), config)
        words = [word for utterance in test for word in utterance]
        share = sum(word.is_right for word in words) / len(words)
        print(f"{search}: {len(words)} words, {share:.0%} right")
        for label, confidence in (
            *(("not calibrated", Confidence()), ("calibrated with this search", own)),
            ("calibrated with 1 beam", first),
        ):
            print(f"  {label:28}{_show(score_words(confidence, words))}  {confidence}")
        if is_first and plot is not None:
            systems = {
                "not calibrated": score_words(Confidence(), words),
                "calibrated on dev": score_words(own, words),
            }
            save_figure(draw_reliability(systems, f"{len(words)} words of test, {search}"), plot)


def _show(scores: ConfidenceScores) -> str:
    return f"ECE {scores.ece:.3f}  Brier {scores.brier:.3f}  AUC {scores.auc:.3f}"


def judge_times(model_source: ModelSource, source: SplitReader) -> None:
    starts, ends = np.array(list(_compare_times(model_source, source))).T
    for label, errors in (("begin", abs(starts)), ("end", abs(ends))):
        middle, most = np.quantile(errors, [0.5, 0.9])
        print(
            f"{len(errors)} words {label}: median {middle:.2f} s, 90 % within {most:.2f} s,"
            f" mean {errors.mean():.3f} s"
        )


def _compare_times(model_source: ModelSource, source: SplitReader) -> Iterator[tuple[float, float]]:
    """Yield how much later each word begins and ends by attention than by CTC."""
    model, tokenizer = check_decoder(model_source.load()), model_source.load_tokenizer()
    encode, decode = tokenizer.create_encoder(), tokenizer.create_decoder()
    aligner = Aligner(model, tokenizer)
    dataset = ManifestDataset(ManifestDatasetConfig(path=source.path))
    for utterance in dataset.utterances("test"):
        if utterance.lang not in (source.languages or (utterance.lang,)):
            continue
        waveform, tokens = dataset.read_audio(utterance), encode(utterance.text).tolist()
        try:
            aligned = aligner.align(waveform, utterance.text, utterance.lang)
        except AlignmentError as ex:
            print(f"{utterance.audio} is left out: {ex}")
            continue
        batch = AsrBatch(normalize(waveform)[None], [len(waveform)], [], [utterance.lang])
        times = attention_times(model, batch, tokens)
        words = split_words(decode(torch.tensor(tokens)), utterance.lang)
        spans = word_token_spans(decode, tokens, words)
        for word, span in zip(aligned, spans, strict=True):
            yield times[span.start][0] - word.start, times[span.stop - 1][1] - word.end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, metavar="RUN_DIR", help="with a CTC head")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR")
    parser.add_argument("--lang", nargs="+", default=[], metavar="CODE")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="reliability on test, 1 beam")
    args = parser.parse_args()
    model = find_model(args.model)
    longest = model.max_audio_secs or MAX_AUDIO_SECS
    source = SplitReader(path=args.data, languages=tuple(args.lang), max_audio_secs=longest)
    judge_confidence(model, source, args.plot)
    judge_times(model, source)


if __name__ == "__main__":
    main()
