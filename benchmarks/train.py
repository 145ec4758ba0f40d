"""How fast training is, where its time goes, and whether it ever waits for data.

``python benchmarks/train.py`` runs the stages of ``make demo-train`` for some steps each, by the
real command line in one process with one thread, and prints for each the seconds of audio trained
on per second and the share of the time spent waiting for data. Beside it: the seconds of audio per
second that the reader alone delivers, and the operations that one training step spends its time in
(``--profile``). The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from math import inf
from pathlib import Path
from time import perf_counter, process_time

import wavellama  # isort: skip  # before fairseq2, for which it loads libsndfile

import torch
from fairseq2.data.tokenizers import load_tokenizer
from fairseq2.datasets import DataReader, Seq2SeqBatch
from fairseq2.gang import create_fake_gangs
from fairseq2.runtime.config_registry import get_config
from fairseq2.runtime.dependency import get_dependency_resolver
from torch.nn import Module
from torch.optim import AdamW, Optimizer
from torch.profiler import ProfilerActivity, profile

from wavellama.data.manifest_dataset import ManifestDatasetConfig, open_manifest_dataset
from wavellama.data.plan import ReaderOptions
from wavellama.model.config import Wav2Vec2LlamaConfig
from wavellama.model.cpu_training import speed_up
from wavellama.model.factory import create_wav2vec2_llama_model
from wavellama.model.loss import Objective
from wavellama.units import samples_to_seconds

STAGES = {
    "ctc": ["demo_ctc"],
    "joint": ["demo_ctc", "objective.ctc_weight=0.4", "regime.score_metric=cer"],
}
SPEEDS = (0.87, 0.93, 1.0, 1.07, 1.14)


def run_stage(recipe: str, overrides: Sequence[str], num_steps: int) -> dict[str, float]:
    """Train for ``num_steps`` after a warm-up of as many; return what the run recorded."""
    regime = {
        "num_steps": 2 * num_steps,
        "publish_metrics_every_n_steps": num_steps,
        "validate_every_n_steps": "null",
        "checkpoint_every_n_steps": "null",
    }
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "wavellama", "recipe", "asr", "train", recipe]
        command += ["--output-dir", out, "--no-rich", "--config", *overrides]
        command += [f"regime.{key}={value}" for key, value in regime.items()]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
        lines = (Path(out) / "metrics" / "train.jsonl").read_text().splitlines()
    row = json.loads(lines[-1])
    seconds = row["Data Time"] + row["Compute Time"]
    return {
        "audio_secs_per_sec": row["Audio Seconds per Second"],
        "waiting_for_data": row["Data Time"] / seconds,
    }


def create_reader() -> DataReader[Seq2SeqBatch]:
    """Open the demo's training split as the recipe does."""
    options = ReaderOptions(batch_audio_secs=40, max_audio_secs=12, shuffle=True, concat_p=0.15)
    dataset = open_manifest_dataset(
        ManifestDatasetConfig(path=Path("wavellama.assets/corpora/mini"))
    )
    gangs = create_fake_gangs(torch.device("cpu"))
    tokenizer = load_tokenizer("mini_tokenizer")
    return dataset.create_reader("train", tokenizer, gangs, replace(options, speeds=SPEEDS))


def measure_reader(num_batches: int) -> float:
    """Return the seconds of audio per second that the reader delivers, the first epoch included."""
    reader = create_reader()
    audio_secs, begin, num_read = 0.0, perf_counter(), 0
    while num_read < num_batches:
        for (batch,) in reader:
            audio_secs += samples_to_seconds(sum(batch.source_seq_lens))
            num_read += 1
        reader.reset()
    return audio_secs / (perf_counter() - begin)


def profile_steps(run_dir: str, num_steps: int) -> list[dict[str, object]]:
    """Return the operations in which training steps spend most of their time."""
    model = wavellama.load_model(run_dir)
    model.train()
    batches = [batch for (batch,) in create_reader()][: num_steps + 1]
    objective = Objective(ctc_weight=0.4)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(batch, objective=objective)
            loss.total.backward()
            model.zero_grad()
    events = profiler.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    events = sorted(events, key=lambda event: -event.self_cpu_time_total)
    return [{"op": e.key, "share": e.self_cpu_time_total / total} for e in events[:15]]


def compare_steps(num_rounds: int) -> dict[str, float]:
    """Return the seconds of audio that steps of the CTC stage read per second of this processor.

    Steps of an encoder as fairseq2 makes it, and of one that trains faster on a CPU, run in turns
    on the same batches; of each, the fastest one counts.
    """
    config = get_config(get_dependency_resolver(), Wav2Vec2LlamaConfig, "conformer_6m")
    config.wav2vec2_asr_config.target_vocab_size = config.llama_config.vocab_size = 72
    steps = {}
    for name, is_quick in (("as fairseq2 makes it", False), ("faster on a CPU", True)):
        model = create_wav2vec2_llama_model(config).train()
        if is_quick:
            speed_up(model.encoder)
        parameters = [p for p in model.parameters() if p.requires_grad]
        steps[name] = partial(_step, model, AdamW(parameters, lr=1e-4, fused=is_quick))
    batches = [batch for (batch,) in islice(create_reader(), 4)]
    best = {name: [inf] * len(batches) for name in steps}
    for _ in range(num_rounds):
        for number, batch in enumerate(batches):
            for name, step in steps.items():
                best[name][number] = min(best[name][number], step(batch))
    audio_secs = samples_to_seconds(sum(sum(batch.source_seq_lens) for batch in batches))
    return {name: audio_secs / sum(seconds) for name, seconds in best.items()}


def _step(model: Module, optimizer: Optimizer, batch: Seq2SeqBatch) -> float:
    begin = process_time()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(batch, objective=Objective(ctc_weight=1.0))
    loss.total.backward()
    optimizer.step()
    optimizer.zero_grad()
    return process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="steps of each stage (%(default)s)")
    parser.add_argument("--profile", metavar="RUN_DIR", help="profile the model of this run, too")
    parser.add_argument("--compare", action="store_true", help="compare kinds of encoders alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.compare:
        print(compare_steps(5))
        return
    result: dict[str, object] = {
        name: run_stage(recipe, overrides, args.steps)
        for name, (recipe, *overrides) in STAGES.items()
    }
    result["reader_audio_secs_per_sec"] = measure_reader(args.steps)
    if args.profile:
        result["profile"] = profile_steps(args.profile, 5)
    for name, value in result.items():
        print(name, value)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
