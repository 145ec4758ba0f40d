"""Adapters through the real program: trained, resumed, used, and on several processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

import pytest
import torch

from tests.e2e.forked import run_forked
from tests.e2e.runs import last_line, metrics, run_cli, run_on_two_processes, weights

LORA: Final = "lora={r: 2, also_train: [encoder_proj]}"

TRAIN: Final = ("recipe", "asr", "train", "toy_train", "--model", "base", "--no-rich")

STEPS: Final = (
    *("regime.num_steps=4", "regime.validate_every_n_steps=2"),
    *("regime.checkpoint_every_n_steps=2", "augment.speeds=[0.9, 1.0, 1.1]"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run ``base``, and a run ``lora`` that trained adapters of it."""
    folder = tmp_path_factory.mktemp("lora")
    result = run_forked(*TRAIN[:4], "--output-dir", "base", "--no-rich", cwd=folder)
    assert result.returncode == 0, result.stderr
    result = run_forked(*TRAIN, "--output-dir", "lora", "--config", LORA, *STEPS, cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


def go_on(folder: Path, name: str, *overrides: str) -> Path:
    """Copy the run of the adapters as it was after two steps, and let it go on."""
    run = folder / name
    shutil.copytree(folder / "lora", run)
    shutil.rmtree(run / "checkpoints" / "step_4")
    result = run_forked(*TRAIN, "--output-dir", run, "--config", *overrides, *STEPS, cwd=folder)
    assert result.returncode == 0, result.stderr
    return run


def test_checkpoints_hold_what_was_trained(folder: Path) -> None:
    saved, whole = weights(folder / "lora", 4), weights(folder / "base", 5)
    others = {name for name in saved if not name.endswith((".lora_A", ".lora_B"))}
    assert others == {"encoder_proj.weight", "encoder_proj.bias", "masker.temporal_mask_embed"}
    trained = sum(weight.numel() for weight in saved.values())
    assert trained < sum(weight.numel() for weight in whole.values()) / 20
    assert metrics(folder / "lora", "train")[-1]["NLL Loss"] > 0


def test_a_run_goes_on_bit_by_bit(folder: Path) -> None:
    expected, actual = (weights(run, 4) for run in (folder / "lora", go_on(folder, "again", LORA)))
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


@pytest.mark.parametrize(
    "lora", ["lora=null", "lora={r: 4}", r"lora={r: 2, targets: ['encoder\.layers\..*_proj']}"]
)
def test_a_run_does_not_go_on_with_other_adapters(folder: Path, lora: str) -> None:
    args = (*TRAIN, "--output-dir", "lora", "--config", lora, *STEPS)
    result = run_forked(*args, cwd=folder)
    assert result.returncode == 2, result.stderr
    assert "which cannot go on with" in last_line(result)


def test_a_run_whose_base_has_changed_does_not_go_on(folder: Path) -> None:
    note = folder / "lora" / "checkpoints" / "lora.json"
    content = note.read_text()
    note.write_text(content.replace(json.loads(content)["base"]["sha256"], "0" * 64))
    try:
        result = run_forked(
            *TRAIN,
            "--output-dir",
            "lora",
            "--config",
            LORA,
            *STEPS,
            "regime.num_steps=6",
            cwd=folder,
        )
        assert result.returncode == 1, result.stderr
        assert "they have changed since" in last_line(result)
        result = run_forked("recipe", "asr", "eval", "toy_eval", "--model", "lora", cwd=folder)
        assert result.returncode == 1, result.stderr
        assert "they have changed since" in last_line(result)
    finally:
        note.write_text(content)


def test_the_run_and_its_files_are_one_model(folder: Path) -> None:
    """The run itself, the merged model that a recipe starts from, and the adapter of PEFT."""
    result = run_cli("asset", "convert", "lora", "merged.safetensors", "--merge", cwd=folder)
    assert result.returncode == 0, result.stderr
    result = run_cli("asset", "convert", "lora", "adapter", cwd=folder)
    assert result.returncode == 0, result.stderr
    card = (
        (folder / "base/checkpoints/model.yaml").read_text().replace("name: checkpoint", "name: m")
    )
    (folder / "cards").mkdir()
    (folder / "cards" / "m.yaml").write_text(f"{card}checkpoint: ../merged.safetensors\n")
    env = {"FAIRSEQ2_USER_ASSET_DIR": str(folder / "cards")}
    losses = []
    for model in ("lora", "m"):
        args = ("recipe", "asr", "eval", "toy_eval", "--model", model, "--no-rich")
        out = folder / f"eval_{model}"
        tokenizer = ("--config", "tokenizer.name=toy_tokenizer")
        result = run_forked(*args, "--output-dir", out, *tokenizer, cwd=folder, env=env)
        assert result.returncode == 0, result.stderr
        losses.append(metrics(out, "eval")[0]["NLL Loss"])
    assert losses[0] == losses[1]
    (folder / "a.wav").write_bytes(_tone())
    texts = [
        run_forked("transcribe", "a.wav", "--model", model, "--lang", "eng_Latn", cwd=folder)
        for model in ("lora", "./adapter")
    ]
    assert texts[0].returncode == texts[1].returncode == 0, texts[1].stderr
    assert texts[0].stdout == texts[1].stdout


def _tone() -> bytes:
    from io import BytesIO

    import soundfile

    audio = torch.sin(torch.arange(16000) * 0.2).numpy()
    file = BytesIO()
    soundfile.write(file, audio, 16000, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize("recipe", ["llm_lora", "small_lora"])
def test_shipped_recipes(folder: Path, recipe: str, tmp_path: Path) -> None:
    result = run_forked(
        *("recipe", "asr", "train", recipe, "--model", "base", "--no-rich"),
        *("--output-dir", tmp_path, "--config", "del:dataset.path", "dataset.name=toy_tones"),
        *("dataset.max_audio_secs=2", "dataset.batch_audio_secs=8", "objective.ctc_weight=0"),
        *("regime.num_steps=2", "regime.validate_every_n_steps=2", "regime.score_metric=cer"),
        *("regime.checkpoint_every_n_steps=2", "regime.publish_metrics_every_n_steps=1"),
        "lora.targets=['llama_decoder.layers.*_proj']",
        *("lr_scheduler.config.num_warmup_steps=1", "seq2seq_generator.config.max_new_tokens=30"),
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert all(".lora_" in n and n.startswith("llama_decoder.") for n in weights(tmp_path, 2))


@pytest.mark.slow
def test_processes_and_shards_train_and_go_on_alike(folder: Path) -> None:
    """DDP, and FSDP2 with activation checkpointing: the same weights, also after two steps."""
    ways = {
        "ddp": ["trainer.data_parallelism=ddp"],
        "fsdp": [
            *("trainer.data_parallelism=fsdp", "trainer.fsdp.granularity=layer"),
            "trainer.activation_checkpointing.mode=layerwise",
        ],
    }
    found = []
    for name, way in ways.items():
        args = (*TRAIN, "--output-dir", name, "--config", LORA, *STEPS, *way)
        result = run_on_two_processes(*args, cwd=folder)
        assert result.returncode == 0, result.stderr[-3000:]
        found.append(weights(folder / name, 4))
        shutil.rmtree(folder / name / "checkpoints" / "step_4")
        result = run_on_two_processes(*args, cwd=folder)
        assert result.returncode == 0, result.stderr[-3000:]
        again = weights(folder / name, 4)
        assert all(torch.equal(found[-1][key], again[key]) for key in again)
    for key, weight in found[0].items():
        torch.testing.assert_close(found[1][key], weight, atol=1e-5, rtol=0)
