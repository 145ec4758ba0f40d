"""Audio files in, text out: the short form and the recipe, with a trained run as the model."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from time import sleep
from typing import Any

import pytest
import torch

from tests.e2e.forked import run_forked
from tests.e2e.runs import (
    Runner,
    command_of,
    last_line,
    run_cli,
    run_on_two_processes,
    start_cli,
)
from wavellama import ASRInferencePipeline
from wavellama.audio.load import load_audio

MINI = Path(__file__).parents[2] / "assets/corpora/mini"
CLIPS = sorted(
    (MINI / "audio/ita_Latn/asterisk-it").glob("*.ogg"), key=lambda path: path.stat().st_size
)[:3]
"""Short ones: the toy model has room for 256 positions."""

CALIBRATION = {"temperature": 2.0, "bias": 0.5}


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


@pytest.fixture(scope="module")
def talkative(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with another output layer: after two steps it says nothing."""
    run = tmp_path_factory.mktemp("talkative") / "run"
    shutil.copytree(trained, run)
    (file,) = run.glob("checkpoints/step_2/model/pp_00/tp_00/sdp_00.pt")
    state = torch.load(file)
    draw = torch.Generator().manual_seed(0)
    state["final_proj.weight"] = torch.randn(state["final_proj.weight"].shape, generator=draw)
    torch.save(state, file)
    return run


def test_a_trained_run_transcribes_files_at_once(talkative: Path) -> None:
    result = run_cli("transcribe", *CLIPS, "--model", talkative, "--lang", "ita_Latn")
    assert result.returncode == 0, result.stderr
    pipeline = ASRInferencePipeline(str(talkative), device="cpu", dtype=torch.float32)
    texts = pipeline.transcribe(CLIPS, lang="ita_Latn")
    assert all(texts)
    lines = [f"{clip}\t{text}" for clip, text in zip(CLIPS, texts, strict=True)]
    assert result.stdout.splitlines() == lines


def test_one_bad_file_is_named_and_the_others_are_done(trained: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF nothing")
    result = run_cli(
        *("transcribe", CLIPS[0], bad, CLIPS[1], "--model", trained, "--format", "jsonl"),
        *("--beam", "2", "--batch-seconds", "30"),
    )
    assert result.returncode == 1
    assert [json.loads(line)["source"] for line in result.stdout.splitlines()] == [
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


def test_a_folder_becomes_a_folder_of_results(trained: Path, tmp_path: Path) -> None:
    audio, out = tmp_path / "audio", tmp_path / "out"
    (audio / "sub").mkdir(parents=True)
    shutil.copy(CLIPS[0], audio / "a.ogg")
    shutil.copy(CLIPS[1], audio / "sub/b.ogg")
    (audio / "notes.txt").write_text("no audio")
    command = ("transcribe", audio, "--model", trained, "--output-dir", out)
    result = run_forked(*command, "--format", "txt,srt,vtt,tsv,json")
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert "times real time" in result.stderr
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    suffixes = ("txt", "srt", "vtt", "tsv", "json")
    expected = {f"{stem}.{suffix}" for stem in ("a", "sub/b") for suffix in suffixes}
    assert names == expected | {"transcripts.jsonl", ".settings.json"}
    record = json.loads((out / "sub/b.json").read_text())
    assert record["source"] == str(audio / "sub/b.ogg")
    again = run_forked(*command, "--format", "txt,srt,vtt,tsv,json")
    assert again.returncode == 0
    assert "2 of 2 files are done." in again.stderr
    every = "txt,srt,vtt,tsv,json"
    for formats, beams, name in ((every, "3", "search"), ("txt", "1", "format")):
        other = run_forked(*command, "--format", formats, "--beam", beams)
        assert other.returncode == 2
        assert f"holds results with {name} = " in last_line(other)


def test_a_job_that_is_killed_goes_on_where_it_was(trained: Path, tmp_path: Path) -> None:
    audio, out = tmp_path / "audio", tmp_path / "out"
    audio.mkdir()
    for i in range(40):
        shutil.copy(CLIPS[i % 3], audio / f"{i:02}.ogg")
    command = ("transcribe", audio, "--model", trained, "--output-dir", out)
    options = ("--batch-seconds", "1", "--threads", "1")
    process = start_cli(*command, *options, log=tmp_path / "log")
    journal = out / "transcripts.jsonl"
    while not (journal.is_file() and journal.stat().st_size) and process.poll() is None:
        sleep(0.02)
    process.kill()
    process.wait()
    done = journal.read_bytes().count(b"\n")
    assert 1 <= done < 40
    result = run_forked(*command, *options)
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line)["source"] for line in journal.read_text().splitlines()]
    assert sorted(rows) == sorted(str(path) for path in audio.iterdir())
    assert len(list(out.glob("*.txt"))) == 40


def test_standard_input_is_a_file_or_raw_samples(trained: Path) -> None:
    wav = subprocess.run(
        [*command_of("transcribe", "-", "--model", trained, "--format", "json")],
        input=CLIPS[0].read_bytes(),
        capture_output=True,
        check=False,
    )
    assert wav.returncode == 0, wav.stderr
    record = json.loads(wav.stdout)
    assert record["duration"] == pytest.approx(len(load_audio(CLIPS[0])) / 16_000, abs=0.01)
    samples = (load_audio(CLIPS[0]) * 32_767).to(torch.int16).numpy().tobytes()
    raw = subprocess.run(
        [*command_of("live", "--model", trained, "--update-seconds", "0.5")],
        input=samples + bytes(32_000),
        capture_output=True,
        check=False,
    )
    assert raw.returncode == 0, raw.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--format", "text"), "Did you mean txt"),
        (("--format", "srt,vtt"), "--output-dir"),
        (("--max-line-width", "20"), "cannot honour"),
        (("--nbest", "3", "--beam", "2"), "`--nbest 3` needs as many beams"),
        (("--device", "gpu"), "`--device gpu` cannot be used"),
        (("--output-dir", CLIPS[0]), "cannot be written (File exists)"),
        (("--threads", "0"), "`--threads` must be at least 1"),
        (("--raw-rate", "8000"), "name it as -"),
        (("--format", "srt", "--highlight-words", "--no-word-timestamps"), "needs word times"),
        (("--examples", "none.tsv"), "none.tsv cannot be read"),
        (("--languages", "eng_Latn,xyz"), "'xyz' is not a known language code"),
        (("--script", "Latin"), "Latn"),
        (("--hotwords", "@none.txt"), "none.txt cannot be read"),
    ],
)
def test_wrong_options_are_one_sentence(
    trained: Path, options: tuple[str | Path, ...], words: str
) -> None:
    result = run_forked("transcribe", CLIPS[0], "--model", trained, *options)
    assert result.returncode in (1, 2)
    assert words in last_line(result)
    assert "Traceback" not in result.stderr


def test_the_recipe_takes_files_and_names_bad_ones(trained: Path, tmp_path: Path) -> None:
    files = f"files=[{CLIPS[0]},{tmp_path / 'missing.wav'},{CLIPS[1]}]"
    out = tmp_path / "out"
    command = (
        *("recipe", "asr", "transcribe", "transcribe_files", "--output-dir", out, "--no-rich"),
        *("--model", trained, "--config", files, "options.lang=ita_Latn"),
    )
    result = run_forked(*command)
    assert result.returncode == 1
    assert "missing.wav: there is no such file." in last_line(result)
    journal = out / "transcripts.jsonl"
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [row["source"] for row in rows] == [str(CLIPS[0]), str(CLIPS[1])]
    assert (out / CLIPS[0].with_suffix(".srt").name).is_file()
    subtitles = [out / clip.with_suffix(".srt").name for clip in CLIPS[:2]]
    before = [path.stat().st_mtime_ns for path in subtitles], journal.read_text()
    assert run_forked(*command).returncode == 1
    assert [path.stat().st_mtime_ns for path in subtitles] == before[0], "nothing is done again"
    assert journal.read_text() == before[1]


def test_the_recipe_shares_files_and_does_what_the_command_does(
    trained: Path, tmp_path: Path
) -> None:
    """It once knew neither the calibration nor the longest clip of the training run."""
    audio, run = tmp_path / "audio", tmp_path / "run"
    audio.mkdir()
    for i in range(5):
        shutil.copy(CLIPS[i % 3], audio / f"{i}.ogg")
    shutil.copytree(trained, run)
    (run / "confidence.json").write_text(json.dumps(CALIBRATION))
    common = ("--model", run, "--output-dir")
    result = run_on_two_processes(
        *("recipe", "asr", "transcribe", "transcribe_files", *common, tmp_path / "shared"),
        *("--no-rich", "--config", f"files=[{audio}]", "options.lang=ita_Latn"),
    )
    assert result.returncode == 0, result.stderr
    alone = ("--lang", "ita_Latn", "--format", "txt,srt")
    result = run_forked("transcribe", audio, *common, tmp_path / "alone", *alone)
    assert result.returncode == 0, result.stderr
    shared, expected = (read_results(tmp_path / name) for name in ("shared", "alone"))
    assert [row["source"] for row in shared] == [str(audio / f"{i}.ogg") for i in range(5)]
    assert shared == expected
    assert list((tmp_path / "shared").glob(".*.transcripts.jsonl")) == []
    for path in (tmp_path / "alone").glob("*.srt"):
        assert (tmp_path / "shared" / path.name).read_text() == path.read_text()


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return the transcripts of a folder by their sources, without the seconds that they took.

    Numbers have four decimals: the last ones of a score depend on who else is in a batch.
    """
    lines = (folder / "transcripts.jsonl").read_text().splitlines()
    parsed = (
        json.loads(line, parse_float=lambda number: round(float(number), 4)) for line in lines
    )
    rows = sorted(parsed, key=lambda row: str(row["source"]))
    return [{key: value for key, value in row.items() if key != "timings"} for row in rows]


def test_the_recipe_gives_zero_shot_models_their_examples(tmp_path: Path) -> None:
    run, table = tmp_path / "run", tmp_path / "examples.tsv"
    trained = run_forked(
        *("recipe", "asr", "train", "toy_zero_shot", "--output-dir", run, "--no-rich"),
        *("--config", "regime.num_steps=2"),
    )
    assert trained.returncode == 0, trained.stderr
    table.write_text(f"{CLIPS[0]}\tciao\n")
    command = ("recipe", "asr", "transcribe", "transcribe_files", "--no-rich", "--model", run)
    files, out = f"files=[{CLIPS[1]}]", tmp_path / "out"
    without = run_forked(*command, "--output-dir", tmp_path / "none", "--config", files)
    assert without.returncode != 0
    assert "reads examples before the audio, but none are given" in last_line(without)
    result = run_forked(*command, "--output-dir", out, "--config", files, f"examples={table}")
    assert result.returncode == 0, result.stderr
    assert [row["source"] for row in read_results(out)] == [str(CLIPS[1])]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((), "`files` names no file"),
        ((f"files=[{MINI.parent.parent}/cards]",), "holds no audio or video file"),
        (
            (f"files=[{CLIPS[0]}]", "tokenizer.name=mini_tokenizer"),
            "has a vocabulary of 32 tokens, but the tokenizer has 72",
        ),
    ],
    ids=["no files", "no audio", "tokenizer"],
)
def test_a_wrong_recipe_is_one_sentence(
    trained: Path, tmp_path: Path, values: tuple[str, ...], words: str
) -> None:
    out = tmp_path / "out"
    command = ("recipe", "asr", "transcribe", "transcribe_files", "--output-dir", out, "--no-rich")
    result = run_forked(*command, "--model", trained, "--config", *values)
    assert result.returncode == 2
    assert words in last_line(result)
    assert "Traceback" not in result.stderr
