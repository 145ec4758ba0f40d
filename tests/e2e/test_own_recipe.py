"""A recipe of one's own is a YAML file in any folder: it trains, and its run is evaluated."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.forked import run_forked
from tests.e2e.runs import metrics
from wavellama.data.manifest import read_manifest, write_manifest

MINI: Final = Path(__file__).parents[2] / "assets/corpora/mini/manifest.tsv"

TRAIN: Final = """
# Trains on the data beside this file.
recipe: train
model:
  family: wav2vec2_llama
  arch: transformer_4m
  config_overrides:
    wav2vec2_asr_config:
      target_vocab_size: 72
      encoder_config: {model_dim: 32, ffn_inner_dim: 64, num_encoder_layers: 1}
    llama_config: {model_dim: 32, vocab_size: 72, num_layers: 1, ffn_inner_dim: 64}
dataset: {path: "${dir}/data", max_audio_secs: 2, batch_audio_secs: 8}
tokenizer: {name: mini_tokenizer}
seq2seq_generator: {name: wav2vec2_llama_beam, config: {nbest: 1, max_new_tokens: 10}}
regime: {num_steps: 3, validate_every_n_steps: 3, checkpoint_every_n_steps: 3}
"""

EVAL: Final = """
recipe: eval
model: {name: last_checkpoint}
common: {assets: {prev_checkpoint_dir: runs/my/checkpoints}}
dataset: {path: "${dir}/data", max_audio_secs: 2, batch_audio_secs: 8}
tokenizer: {name: mini_tokenizer}
seq2seq_generator: {name: wav2vec2_llama_beam, config: {nbest: 1, max_new_tokens: 10}}
"""


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """A folder of somebody else's: two recipes and a data set of ten recordings."""
    folder = tmp_path / "some" / "dir"
    audio = folder / "data" / "audio"
    audio.mkdir(parents=True)
    short = [u for u in read_manifest(MINI).utterances if u.duration < 1.5 and u.lang == "ita_Latn"]
    for split, utterances in {"train": short[:6], "dev": short[6:10]}.items():
        for utterance in utterances:
            shutil.copy(utterance.audio, audio)
        rows = [replace(u, audio=audio / u.audio.name, split=None) for u in utterances]
        write_manifest(folder / "data" / f"{split}.tsv", rows)
    (folder / "my.yaml").write_text(TRAIN)
    (folder / "my_eval.yaml").write_text(EVAL)
    return folder


def test_a_file_in_a_foreign_folder_trains_and_evaluates(recipes: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    trained = run_forked("recipe", "asr", "train", recipes / "my.yaml", cwd=elsewhere)
    assert trained.returncode == 0, trained.stderr[-3000:]
    assert [row["Step"] for row in metrics(elsewhere / "runs" / "my", "train")] == [1, 2, 3]

    evaluated = run_forked("recipe", "asr", "eval", recipes / "my_eval.yaml", cwd=elsewhere)
    assert evaluated.returncode == 0, evaluated.stderr[-3000:]
    report = json.loads((elsewhere / "runs" / "my_eval" / "report.json").read_text())
    assert report["raw"]["languages"]["ita_Latn"]["num_utterances"] == 4
    assert not (recipes / "runs").exists(), "a run writes below the current folder"
