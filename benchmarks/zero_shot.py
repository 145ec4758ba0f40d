"""Whether examples help a zero-shot model with a language that it was never trained on.

``python benchmarks/zero_shot.py`` takes a trained LLM_ASR or LLM_ASR_LID run that has not heard the
held-out language, gives its weights to a ZERO_SHOT model, and trains that on all other languages of
the data set by the recipe ``train``; before each utterance it reads two others of its language.
Then it transcribes utterances of the held-out language twice: after two examples of that language
(matching), and after two of other languages (foreign). It prints the error rates with 95 %
intervals, and that of their difference over the same utterances; the last line is a JSON object.

Called again with the same ``--out``, it goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import wavellama  # isort: skip  # before fairseq2, for which it loads libsndfile

import numpy as np
import torch
import yaml

from wavellama import (
    ASRInferencePipeline,
    ContextExample,
    Wav2Vec2LlamaBeamSearchConfig,
    Wav2Vec2LlamaModel,
)
from wavellama.data.manifest import find_manifests, read_manifest
from wavellama.data.utterance import Utterance
from wavellama.metrics.error_rates import Edits, count_edits, score
from wavellama.text.normalize import normalize_text
from wavellama.yaml_files import read_yaml

CONDITIONS = ("matching", "foreign")
NUM_EXAMPLES, NUM_SPECIAL_TOKENS = 2, 6
MIN_SECS, MAX_SECS = 0.5, 8.0
MAX_NEW_TOKENS = 120
BATCH_SIZE = 10


@dataclass(frozen=True)
class Experiment:
    """What is trained and evaluated, and where its files lie."""

    start: Path
    """The run whose weights the model begins with."""

    data: Path
    held_out: str
    out: Path
    num_steps: int
    num_targets: int
    num_processes: int

    @cached_property
    def utterances(self) -> list[Utterance]:
        """The utterances of a length that training reads, too."""
        rows = [u for path in find_manifests(self.data) for u in read_manifest(path).utterances]
        return [u for u in rows if MIN_SECS <= u.duration <= MAX_SECS]

    @property
    def languages(self) -> list[str]:
        """The languages to train on."""
        return sorted({str(u.lang) for u in self.utterances} - {self.held_out})

    @property
    def run_dir(self) -> Path:
        """Where the training run lies."""
        return self.out / "run"

    def check(self) -> None:
        """Refuse a language that is not there or has been heard, and an ``out`` of another kind."""
        heard = read_yaml(self.start / "config.yaml")["dataset"]["languages"]
        if self.held_out in heard:
            sys.exit(f"{self.start} was trained on {self.held_out}; hold another language out.")
        if self.held_out not in {u.lang for u in self.utterances}:
            sys.exit(f"{self.data} has no {self.held_out}; its languages: {self.languages}.")
        wanted = {"start": str(self.start), "held_out": self.held_out, "num_steps": self.num_steps}
        note = self.out / "experiment.json"
        if not note.exists():
            self.out.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps(wanted))
        if json.loads(note.read_text()) != wanted:
            sys.exit(f"{self.out} belongs to {note.read_text()}; choose another --out.")


# Training


def initial_weights(start: Path) -> dict[str, torch.Tensor]:
    """Return the run's weights as those of a ZERO_SHOT model: its special tokens are drawn anew."""
    model = wavellama.load_model(str(start))
    assert isinstance(model, Wav2Vec2LlamaModel)
    weights = model.state_dict()
    weights.pop("lang_embeddings.weight", None)
    letters = weights["text_frontend.weight"][: model.target_vocab_info.size]
    generator = torch.Generator().manual_seed(0)
    shape = (NUM_SPECIAL_TOKENS, letters.size(1))
    special = torch.randn(shape, generator=generator) * letters.std()
    weights["text_frontend.weight"] = torch.cat([letters, special])
    return weights


def model_config(start: Path) -> dict[str, Any]:
    """Return the run's configuration with the syntax replaced by ZERO_SHOT."""
    config: dict[str, Any] = read_yaml(start / "checkpoints" / "model.yaml")["model_config"]
    return config | {
        "model_type": "ZERO_SHOT",
        "n_context_examples": NUM_EXAMPLES,
        "n_special_tokens": NUM_SPECIAL_TOKENS,
        "lang_embeddings_p": 0.0,
        "zero_shot_swapped_bos_eos": False,  # BOS before the text, as the run has learnt it
    }


def train_config(experiment: Experiment) -> dict[str, Any]:
    """Return the configuration of the recipe ``train``."""
    start = read_yaml(experiment.start / "config.yaml")
    return {
        "recipe": "train",
        "model": {
            "path": str(experiment.out / "init.pt"),
            "family": "wav2vec2_llama",
            "arch": "conformer_6m",
            "config_overrides": model_config(experiment.start),
        },
        "dataset": {
            "path": str(experiment.data),
            "languages": experiment.languages,
            "train_split": "train",
            "valid_split": "dev",
            "examples_from": "language",
            "max_audio_secs": MAX_SECS,
            "batch_audio_secs": 200,  # planned for examples of MAX_SECS; a third of it is audio
        },
        "tokenizer": {"name": start["tokenizer"]["name"]},
        "seq2seq_generator": {
            "name": "wav2vec2_llama_beam",
            "config": {"nbest": 1, "max_new_tokens": MAX_NEW_TOKENS},
        },
        **LEARNING,
        "regime": {
            "num_steps": experiment.num_steps,
            "validate_every_n_steps": 100,
            "checkpoint_every_n_steps": 100,
            "publish_metrics_every_n_steps": 25,
            "score_metric": "cer",
            "keep_last_n_checkpoints": 1,
            "keep_best_n_checkpoints": 1,
        },
    }


LEARNING: Mapping[str, Any] = {
    "objective": {"ctc_weight": 0.3, "label_smoothing": 0.1, "token_noise_p": 0.2},
    "augment": {
        "speeds": [0.87, 0.93, 1.0, 1.07, 1.14],
        "spectral": {
            "max_warp": 0.1,
            "num_freq_masks": 2,
            "freq_mask_width": 14,
            "num_time_masks": 2,
            "windows_per_time_mask": 300,
        },
    },
    "optimizer": {"config": {"lr": 0.0006, "betas": [0.9, 0.98], "weight_decay": 0.02}},
    "lr_scheduler": {"config": {"num_warmup_steps": 15, "final_lr_scale": 0.02}},
    "trainer": {"mixed_precision": {"mode": "auto", "dtype": "bfloat16"}, "max_grad_norm": 1.0},
}


def train(experiment: Experiment) -> None:
    """Train by the recipe's own command, from the last checkpoint if there is one."""
    checkpoints = experiment.run_dir / "checkpoints"
    if (checkpoints / f"step_{experiment.num_steps}").is_dir():
        return
    init, config = experiment.out / "init.pt", experiment.out / "train.yaml"
    if not init.exists():
        torch.save({"model": initial_weights(experiment.start)}, init)
    config.write_text(yaml.safe_dump(train_config(experiment)), "utf-8")
    launcher = ["torch.distributed.run", "--standalone", "-m"]
    launcher.insert(2, f"--nproc-per-node={experiment.num_processes}")
    command = [sys.executable, "-m", *launcher, "wavellama", "recipe", "asr", "train", str(config)]
    command += ["--output-dir", str(experiment.run_dir), "--no-rich"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FAIRSEQ2_NO_PROGRESS": "1"}
    with (experiment.out / "train.log").open("a") as log:
        subprocess.run(command, check=True, env=environment, stdout=log, stderr=log)


# Evaluation


def draw_targets(experiment: Experiment) -> list[Utterance]:
    """Return utterances of the held-out language, of all its splits: none was trained on."""
    own = [u for u in experiment.utterances if u.lang == experiment.held_out]
    random.Random(0).shuffle(own)
    return own[: experiment.num_targets]


def draw_examples(experiment: Experiment, target: Utterance, condition: str) -> list[Utterance]:
    """Return what is read before ``target``: other utterances, not trained on, of another text."""
    is_own = condition == "matching"
    pool = [
        u
        for u in experiment.utterances
        if (u.lang == target.lang) is is_own
        and (is_own or u.split == "test")
        and u.text != target.text
    ]
    return random.Random(f"{condition}:{target.text}").sample(pool, NUM_EXAMPLES)


def transcribe(experiment: Experiment, condition: str, targets: Sequence[Utterance]) -> list[Edits]:
    """Transcribe what has no line in the condition's file yet; return the edits of all targets."""
    path = experiment.out / f"{condition}.jsonl"
    path.touch()
    done = len(path.read_text("utf-8").splitlines())
    if done < len(targets):
        search = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=MAX_NEW_TOKENS)
        pipeline = ASRInferencePipeline(
            str(experiment.run_dir), dtype=torch.float32, beam_search_config=search
        )
        for begin in range(done, len(targets), BATCH_SIZE):
            batch = targets[begin : begin + BATCH_SIZE]
            rows = [draw_examples(experiment, target, condition) for target in batch]
            append_texts(path, pipeline, batch, rows)
    lines = path.read_text("utf-8").splitlines()[: len(targets)]
    return [_count(json.loads(line)) for line in lines]


def append_texts(
    path: Path,
    pipeline: ASRInferencePipeline,
    targets: Sequence[Utterance],
    examples: Sequence[Sequence[Utterance]],
) -> None:
    """Transcribe ``targets``, each after its ``examples``, and append a line for each."""
    context = [[ContextExample(u.audio, u.text) for u in row] for row in examples]
    audio = [target.audio for target in targets]
    texts = pipeline.transcribe_with_context(audio, context, batch_size=BATCH_SIZE)
    lines = [
        {"audio": target.audio.name, "reference": target.text, "hypothesis": text}
        for target, text in zip(targets, texts, strict=True)
    ]
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _count(line: Mapping[str, str]) -> Edits:
    return count_edits(normalize_text(line["reference"]), normalize_text(line["hypothesis"]))


def difference(first: Sequence[Edits], second: Sequence[Edits]) -> dict[str, object]:
    """Return how much higher the CER of ``second`` is; utterances are resampled in pairs."""
    pairs = zip(first, second, strict=True)
    table = np.array([(b.char_edits - a.char_edits, a.num_chars) for a, b in pairs], np.float64)
    draws = np.random.default_rng(0).integers(0, len(table), (5000, len(table)))
    more, chars = table[draws].sum(1).T
    low, high = np.percentile(more / chars, [2.5, 97.5])
    return {"cer": float(table[:, 0].sum() / table[:, 1].sum()), "cer_ci95": [low, high]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", type=Path, default=Path("runs/demo_full_joint"), metavar="RUN")
    parser.add_argument("--data", type=Path, default=Path("data/debian-speech"), metavar="DIR")
    parser.add_argument("--held-out", default="ron_Latn", metavar="CODE", help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/zero_shot"), metavar="DIR")
    parser.add_argument("--steps", type=int, default=400, help="training steps (%(default)s)")
    parser.add_argument("--targets", type=int, default=300, help="utterances (%(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="that train (%(default)s)")
    a = parser.parse_args()
    experiment = Experiment(a.start, a.data, a.held_out, a.out, a.steps, a.targets, a.processes)
    torch.set_num_threads(a.processes)
    experiment.check()
    train(experiment)
    targets = draw_targets(experiment)
    edits = {name: transcribe(experiment, name, targets) for name in CONDITIONS}
    result: dict[str, Any] = {name: score(edits[name]) for name in CONDITIONS}
    result["difference"] = difference(edits["matching"], edits["foreign"])
    print(
        f"{a.held_out}, {len(targets)} utterances, after {a.steps} steps\n\n|  | CER % |\n|---|--:|"
    )
    for name, figures in result.items():
        low, high = figures["cer_ci95"]
        print(f"| {name} | {100 * figures['cer']:.1f} ({100 * low:.1f} to {100 * high:.1f}) |")
    print(json.dumps({"held_out": a.held_out, "num_steps": a.steps, **result}))


if __name__ == "__main__":
    main()
