"""Audio files in, text out: the short form and the recipe, with a trained run as the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.forked import run_forked
from tests.e2e.runs import Runner, last_line, run_cli

MINI = Path(__file__).parents[2] / "assets/corpora/mini"
CLIPS = sorted(
    (MINI / "audio/ita_Latn/asterisk-it").glob("*.ogg"), key=lambda path: path.stat().st_size
)[:3]
"""Short ones: the toy model has room for 256 positions."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    out = tmp_path_factory.mktemp("toy") / "run"
    result = run_forked(
        *("recipe", "asr", "train", "toy_train", "--output-dir", out, "--no-rich"),
        *("--config", "regime.num_steps=2"),
    )
    assert result.returncode == 0, result.stderr
    return out


def test_a_trained_run_transcribes_files_at_once(trained: Path) -> None:
    result = run_cli("transcribe", *CLIPS, "--model", trained, "--lang", "ita_Latn")
    assert result.returncode == 0, result.stderr
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == [str(c) for c in CLIPS]


def test_one_bad_file_is_named_and_the_others_are_done(trained: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF nothing")
    result = run_cli(
        *("transcribe", CLIPS[0], bad, CLIPS[1], "--model", trained, "--format", "jsonl"),
        *("--beam", "2", "--batch-size", "3"),
    )
    assert result.returncode == 1
    assert [json.loads(line)["audio"] for line in result.stdout.splitlines()] == [
        str(CLIPS[0]),
        str(CLIPS[1]),
    ]
    assert str(bad) in last_line(result)


@pytest.mark.parametrize(
    ("run", "model", "words"),
    [
        (run_cli, "omniASR_LLM_300", "Did you mean omniASR_LLM_300M"),
        (run_forked, "mini_tokenizer", "mini_tokenizer is not a known model card"),
        (run_forked, ".", "holds no training run"),
    ],
)
def test_a_wrong_model_is_one_sentence(tmp_path: Path, run: Runner, model: str, words: str) -> None:
    result = run("transcribe", CLIPS[0], "--model", model, cwd=tmp_path)
    assert result.returncode == 2
    assert words in last_line(result)
    assert "Traceback" not in result.stderr


def test_a_wrong_language_is_one_sentence(trained: Path) -> None:
    result = run_forked("transcribe", CLIPS[0], "--model", trained, "--lang", "ita_Latin")
    assert result.returncode == 2
    assert "ita_Latn" in last_line(result)


def test_the_recipe_takes_files_and_lists_bad_ones(trained: Path, tmp_path: Path) -> None:
    files = f"[{CLIPS[0]},{tmp_path / 'missing.wav'},{CLIPS[1]}]"
    out = tmp_path / "out"
    result = run_forked(
        *("recipe", "asr", "transcribe", "transcribe_files", "--output-dir", out, "--no-rich"),
        *("--model", trained, "--config", f"dataset.config_overrides.files={files}"),
        "dataset.config_overrides.lang=ita_Latn",
    )
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in (out / "transcripts.jsonl").read_text().splitlines()]
    assert {row["audio"] for row in rows} == {str(CLIPS[0]), str(CLIPS[1])}
    bad = json.loads((out / "bad_audio.dev.jsonl").read_text())
    assert bad["audio"] == str(tmp_path / "missing.wav")
    assert bad["reason"] == "there is no such file."
