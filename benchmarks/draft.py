"""How far CTC drafts carry: tokens per call of the decoder, agreement, and the time of a search.

``python benchmarks/draft.py RUN_DIR --data DIR`` decodes the held-out utterances of a data set with
a trained model that has a CTC head, twice in turn: greedily, and greedily with the head's text as
the draft. It prints whether the texts are the same, the tokens emitted per call of the decoder, the
edit distance between the head's text and the decoder's as a share of the latter, and the ratio of
the two searches' times (prefill included, encoder not). The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import cast

import wavellama  # isort: skip  # before fairseq2, for which it loads libsndfile

import jiwer
import torch
from fairseq2.datasets import DataReader, Seq2SeqBatch
from fairseq2.gang import create_fake_gangs

from wavellama.checkpoints.hub import find_model
from wavellama.data.manifest_dataset import ManifestDatasetConfig, open_manifest_dataset
from wavellama.data.plan import ReaderOptions
from wavellama.decoding.ctc import ctc_drafts
from wavellama.decoding.engine_view import find_engine
from wavellama.engine import EngineStepDecoder, EngineVerifier
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.search.greedy import GreedySearch
from wavellama.search.speculative import SpeculativeSearch


def open_data(run_dir: str, path: Path, args: argparse.Namespace) -> DataReader[Seq2SeqBatch]:
    """Open the utterances to decode."""
    dataset = open_manifest_dataset(ManifestDatasetConfig(path=path))
    options = ReaderOptions(
        batch_audio_secs=args.batch_secs, max_audio_secs=20, languages=tuple(args.languages)
    )
    gangs = create_fake_gangs(torch.device("cpu"))
    return dataset.create_reader(args.split, find_model(run_dir).load_tokenizer(), gangs, options)


@torch.no_grad()
def measure(
    model: Wav2Vec2LlamaModel, reader: DataReader[Seq2SeqBatch], max_draft: int
) -> dict[str, object]:
    """Decode all utterances in both ways."""
    engine = find_engine(model)
    assert engine is not None, "a model of this project has a plain Llama decoder"
    search = SpeculativeSearch(2, max_draft=max_draft)
    seconds = {"greedy": 0.0, "draft": 0.0}
    texts: list[tuple[list[int], list[int]]] = []
    num_equal = 0
    for (batch,) in reader:
        prompt = model.embed_prompt(model.read_batch(batch))
        lens = prompt.layout.seq_lens
        contexts = [seqs[:length] for seqs, length in zip(prompt.seqs, lens, strict=True)]
        drafts = ctc_drafts(model, prompt) or []
        max_lens = [200] * len(lens)
        begin = perf_counter()
        expected = GreedySearch(2).run(EngineStepDecoder(engine, contexts), max_lens)
        middle = perf_counter()
        actual = search.run(EngineVerifier(engine, contexts), max_lens, drafts)
        seconds["greedy"] += middle - begin
        seconds["draft"] += perf_counter() - middle
        for one, other, draft in zip(expected, actual, drafts, strict=True):
            num_equal += one[0].tokens == other[0].tokens
            texts.append((one[0].tokens, draft))
    return {
        "num_utterances": len(texts),
        "num_equal": num_equal,
        "tokens_per_call": search.counts.num_tokens / search.counts.num_calls,
        "disagreement": _distance(texts),
        "speed_ratio": seconds["greedy"] / seconds["draft"],
    }


def _distance(texts: list[tuple[list[int], list[int]]]) -> float:
    """Return the edit distance of the drafts, per token of the texts."""
    pairs = [("".join(map(chr, a)), "".join(map(chr, b))) for a, b in texts if a]
    return jiwer.cer([a for a, _ in pairs], [b for _, b in pairs])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", help="the output directory of a training run")
    parser.add_argument("--data", type=Path, required=True, help="the data set's directory")
    parser.add_argument("--split", default="test")
    parser.add_argument("--languages", nargs="*", default=[])
    parser.add_argument(
        "--batch-secs", type=float, default=1.0, help="audio per batch (%(default)s)"
    )
    parser.add_argument("--max-draft", type=int, default=8, help="guesses per call (%(default)s)")
    args = parser.parse_args()
    model = cast("Wav2Vec2LlamaModel", wavellama.load_model(args.run_dir))
    model.eval()
    reader = open_data(args.run_dir, args.data, args)
    result = measure(model, reader, args.max_draft)
    for name, value in result.items():
        print(name, value)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
