"""What lower precision of the decoder costs: agreement of tokens, and change of log-probabilities.

``python -m benchmarks.precision [RUN_DIR --data DIR]`` decodes greedily in float32, first the rows
of three golden cases, then (if a trained run is given) the held-out utterances of a data set. Then
it lets the engine read the same prompts and the same tokens in bfloat16 and with weights in 8 and
4 bits, and counts at how many places the likeliest token is still the one of float32, and by how
much the log-probability of that one has changed. The encoder stays in float32. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import wavellama  # isort: skip  # before fairseq2, for which it loads libsndfile

import torch
from benchmarks.draft import open_data
from fairseq2.datasets import Seq2SeqBatch
from tests.fakes import golden_case, golden_model
from torch import Tensor

from wavellama.decoding.engine_view import read_weights
from wavellama.engine import Engine, EngineStepDecoder, EngineVerifier, WeightForm
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.search.greedy import GreedySearch

GOLDEN = ("llm_asr", "llm_asr_lid", "gqa")
EOS = 2
FORMS: tuple[tuple[torch.dtype, WeightForm], ...] = (
    (torch.bfloat16, "native"),
    (torch.float32, "int8"),
    (torch.bfloat16, "int8"),
    (torch.float32, "int4"),
    (torch.bfloat16, "int4"),
)


@torch.no_grad()
def read_prompts(
    model: Wav2Vec2LlamaModel, batches: Iterable[Seq2SeqBatch]
) -> Iterator[list[Tensor]]:
    """Yield the embedded prompts of each batch."""
    for batch in batches:
        prompt = model.embed_prompt(model.read_batch(batch))
        pairs = zip(prompt.seqs, prompt.layout.seq_lens, strict=True)
        yield [seqs[:length] for seqs, length in pairs]


def compare(model: Wav2Vec2LlamaModel, batches: Iterable[Seq2SeqBatch]) -> dict[str, object]:
    """Return the figures of each form."""
    exact = Engine(read_weights(model))
    texts = []
    for prompts in read_prompts(model, batches):
        results = GreedySearch(EOS).run(EngineStepDecoder(exact, prompts), [100] * len(prompts))
        texts += [
            (prompt, [*row[0].tokens, EOS], torch.tensor(row[0].token_logprobs))
            for prompt, row in zip(prompts, results, strict=True)
        ]
    return {
        f"{str(dtype).removeprefix('torch.')}, {weights}": _measure(
            Engine(read_weights(model).to(dtype), weights), texts
        )
        for dtype, weights in FORMS
    }


def _measure(engine: Engine, texts: list[tuple[Tensor, list[int], Tensor]]) -> dict[str, float]:
    """Let the engine read the texts; return agreement and change of log-probability."""
    equal, changes = [], []
    for prompt, tokens, logprobs in texts:
        verifier = EngineVerifier(engine, [prompt])
        first = verifier.prefill()
        read = torch.cat([first, verifier.verify([tokens])[0]])[: len(logprobs)]
        wanted = torch.tensor(tokens[: len(logprobs)])
        equal.append(read.argmax(-1) == wanted)
        changes.append((read.gather(1, wanted[:, None])[:, 0] - logprobs).abs())
    change = torch.cat(changes)
    return {
        "agreement": float(torch.cat(equal).float().mean()),
        "mean_change": float(change.mean()),
        "max_change": float(change.max()),
        "num_tokens": change.numel(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", nargs="?", help="the output directory of a training run")
    parser.add_argument("--data", type=Path, help="the data set's directory")
    parser.add_argument("--split", default="test")
    parser.add_argument("--languages", nargs="*", default=[])
    parser.add_argument("--batch-secs", type=float, default=20.0)
    args = parser.parse_args()
    results = {
        name: compare(golden_model(name), [golden_case(name).utterances.batch()]) for name in GOLDEN
    }
    if args.run_dir:
        model = cast("Wav2Vec2LlamaModel", wavellama.load_model(args.run_dir))
        model.eval()
        batches = [batch for (batch,) in open_data(args.run_dir, args.data, args)]
        results[Path(args.run_dir).name] = compare(model, batches)
    for name, result in results.items():
        print(name, json.dumps(result, indent=2))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
