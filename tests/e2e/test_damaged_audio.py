"""Two hundred damaged files among two hundred good ones: training reads exactly what is usable."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from tests.e2e.damage import (
    DAMAGES,
    SURELY_BAD,
    is_usable,
    kind_of,
    write_damaged,
    write_good,
)
from tests.e2e.forked import run_forked
from wavellama.data.manifest import write_manifest
from wavellama.data.utterance import Utterance

SPY = '''
from wavellama.tasks.train import AsrTraining


class SpyTraining(AsrTraining):
    """Notes which audio the model is given in training."""

    def create_task(self, context):
        def note(model, inputs):
            if model.training:
                with (context.output_dir / "read.txt").open("a") as file:
                    file.writelines(f"{audio}\\n" for audio in inputs[0].example["audio"])

        context.get_model().register_forward_pre_hook(note)
        return super().create_task(context)
'''

RECIPE = """
recipe: spy:SpyTraining
model: {family: wav2vec2_llama, arch: tiny_lid}
tokenizer: {name: toy_tokenizer}
dataset: {path: corpus, batch_audio_secs: 12, max_audio_secs: 6, max_bad_share: 1.0}
regime: {num_steps: null, num_data_epochs: 2, publish_metrics_every_n_steps: 1}
lr_scheduler: {config: {cycle_len: 100}}
"""


def write_corpus(folder: Path) -> list[Utterance]:
    """Write the data set; returns its split ``train``."""
    (folder / "audio").mkdir(parents=True)
    draw = random.Random(0)
    train = write_good(folder / "audio", 200, draw) + write_damaged(folder / "audio", 200, draw)
    draw.shuffle(train)
    write_manifest(folder / "train.jsonl", train)
    write_manifest(folder / "dev.jsonl", [u for u in train if kind_of(u) == "good"][:4])
    return train


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_training_reads_what_is_usable_and_lists_the_rest(tmp_path: Path) -> None:
    train = write_corpus(tmp_path / "corpus")
    usable = {u.audio.name for u in train if is_usable(u)}
    bad = {u.audio.name for u in train} - usable
    surely_bad = {u.audio.name for u in train if kind_of(u) in SURELY_BAD}
    assert surely_bad <= bad
    assert {u.audio.name for u in train if kind_of(u) == "good"} < usable
    assert {kind_of(u) for u in train} == {"good", *DAMAGES}

    (tmp_path / "spy.py").write_text(SPY)
    (tmp_path / "spy.yaml").write_text(RECIPE)
    result = run_forked(
        *("recipe", "run", "spy.yaml", "--output-dir", "out", "--no-rich"),
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert result.returncode == 0, result.stderr
    listed = read_json_lines(tmp_path / "out" / "bad_audio.train.jsonl")
    assert Counter(Path(record["audio"]).name for record in listed) == Counter(bad)
    assert all(record["reason"] for record in listed)
    read = (tmp_path / "out" / "read.txt").read_text().splitlines()
    assert Counter(Path(audio).name for audio in read) == Counter(dict.fromkeys(usable, 2))
