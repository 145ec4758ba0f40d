"""Bad audio, manifests and checkpoints in the recipes that read data sets (section 5)."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.damage import DAMAGES, is_usable, write_damaged, write_good
from tests.e2e.forked import run_forked
from tests.e2e.runs import Runner, last_line, run_cli, write_golden_card
from tests.fakes import GOLDEN
from wavellama.data.manifest import write_manifest
from wavellama.data.utterance import Utterance

OUTPUTS: Final = {"eval": "hypotheses.jsonl", "transcribe": "transcripts.jsonl"}
"""What the recipes write about each utterance."""


@dataclass(frozen=True)
class Corpus:
    """A data set in whose split ``test`` every kind of damage occurs."""

    folder: Path
    good: list[Utterance]
    bad: list[Utterance]
    cards: Path

    def run(
        self, verb: str, out: Path, *overrides: str, by: Runner = run_forked
    ) -> subprocess.CompletedProcess[str]:
        """Run the toy recipe of that kind on the data set."""
        model = () if verb == "train" else ("--model", "my_good")
        return by(
            *("recipe", "asr", verb, f"toy_{verb}", "--output-dir", out, *model),
            *("--no-rich", "--config", "del:dataset.name", f"dataset.path={self.folder}"),
            *("dataset.max_audio_secs=6", "dataset.batch_audio_secs=6", *overrides),
            env={"FAIRSEQ2_USER_ASSET_DIR": str(self.cards)},
        )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder, draw = tmp_path_factory.mktemp("corpus"), random.Random(1)
    (folder / "audio").mkdir()
    (folder / "cards").mkdir()
    everything = write_good(folder / "audio", 8, draw)
    everything += write_damaged(folder / "audio", len(DAMAGES), draw)
    good = [u for u in everything if is_usable(u)]
    bad = [u for u in everything if u not in good]
    for split, rows in {"train": good, "dev": good[:2], "test": everything, "bad": bad}.items():
        write_manifest(folder / f"{split}.jsonl", rows)
    shutil.copy(GOLDEN / "llm_asr_lid" / "model.pt", folder / "cards" / "good.pt")
    write_golden_card(folder / "cards", "my_good", "good.pt")
    return Corpus(folder, good, bad, folder / "cards")


@pytest.fixture(scope="module")
def transcribed(corpus: Corpus) -> Path:
    """The output directory of a transcription."""
    out = corpus.folder / "out"
    result = corpus.run("transcribe", out)
    assert result.returncode == 0, result.stderr[-3000:]
    return out


def audio_in(path: Path) -> Counter[str]:
    """Count the audio files that a list names."""
    lines = path.read_text("utf-8").splitlines()
    return Counter(json.loads(line)["audio"] for line in lines)


def names(utterances: list[Utterance]) -> Counter[str]:
    return Counter(str(utterance.audio) for utterance in utterances)


@pytest.mark.parametrize("verb", OUTPUTS)
def test_bad_files_are_listed_and_the_others_are_done(
    corpus: Corpus, transcribed: Path, verb: str, tmp_path: Path
) -> None:
    out = transcribed if verb == "transcribe" else tmp_path
    if verb == "eval":
        result = corpus.run(verb, out)
        assert result.returncode == 0, result.stderr[-3000:]
    assert audio_in(out / OUTPUTS[verb]) == names(corpus.good)
    assert audio_in(out / "bad_audio.test.jsonl") == names(corpus.bad)


def test_the_same_command_again_lists_each_bad_file_once(
    corpus: Corpus, transcribed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(transcribed, out)
    assert corpus.run("transcribe", out).returncode == 0
    assert audio_in(out / "bad_audio.test.jsonl") == names(corpus.bad)


def test_a_run_that_fails_leaves_what_is_written_already(
    corpus: Corpus, transcribed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(transcribed, out)
    result = corpus.run("transcribe", out, "dataset.max_bad_share=0", by=run_cli)
    assert result.returncode == 1
    for name in ("transcripts.jsonl", "transcripts.txt"):
        assert (out / name).read_bytes() == (transcribed / name).read_bytes()


def test_too_much_bad_audio_stops_training(corpus: Corpus, tmp_path: Path) -> None:
    result = corpus.run("train", tmp_path, "dataset.train_split=test", by=run_cli)
    assert result.returncode == 1
    total = len(corpus.good) + len(corpus.bad)
    listed = tmp_path / "bad_audio.test.jsonl"
    assert f"of {total} utterances are unusable; {listed} lists them" in last_line(result)
    assert set(audio_in(listed)) <= set(names(corpus.bad))
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("verb", "split"),
    [("train", "train_split"), ("train", "valid_split"), ("eval", "valid_split")],
)
def test_nothing_usable_is_an_error(corpus: Corpus, verb: str, split: str, tmp_path: Path) -> None:
    """Neither a run without a step nor an error rate of nothing is a success."""
    result = corpus.run(verb, tmp_path, f"dataset.{split}=bad", "dataset.max_bad_share=1.0")
    assert result.returncode == 1, result.stderr[-3000:]
    assert last_line(result).startswith("error: ")


@pytest.mark.parametrize(
    ("rows", "overrides", "parts"),
    [
        ("audio\tduration\tlang\na.wav\t1\teng_Latn\n", [], ["train.tsv has no column text"]),
        ("audio\tduration\ttext\tlang\na.wav\t1\tab\teng_Latin\n", [], ["'eng_Latin'", "eng_Latn"]),
        (
            "audio\tduration\ttext\tlang\na.wav\t1\tab\teng_Latn\n",
            ["dataset.languages=[eng_latn]"],
            ["eng_latn is not a known language", "eng_Latn"],
        ),
        (None, [], ["holds no manifest"]),
    ],
    ids=["no text", "unknown language", "asked language", "nothing"],
)
def test_a_bad_manifest(
    rows: str | None, overrides: list[str], parts: list[str], tmp_path: Path
) -> None:
    if rows is not None:
        (tmp_path / "train.tsv").write_text(rows)
    result = run_forked(
        *("recipe", "asr", "train", "toy_train", "--output-dir", tmp_path / "out", "--no-rich"),
        *("--config", "del:dataset.name", f"dataset.path={tmp_path}", *overrides),
    )
    assert result.returncode in (1, 2)
    assert last_line(result).startswith("error: ")
    assert all(part in result.stderr for part in parts), result.stderr[-3000:]
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, which could go on."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    assert resume(out, num_steps=2).returncode == 0
    return out


def resume(out: Path, num_steps: int) -> subprocess.CompletedProcess[str]:
    return run_forked(
        *("recipe", "asr", "train", "toy_train", "--output-dir", out, "--no-rich", "--config"),
        *(f"regime.num_steps={num_steps}", "regime.validate_every_n_steps=2"),
        "regime.checkpoint_every_n_steps=2",
    )


@pytest.mark.parametrize(
    ("part", "size"),
    [
        ("model/pp_00/tp_00/sdp_00.pt", 500_000),
        ("model/pp_00/tp_00/sdp_00.pt", 30_000),
        ("data_reader/dp_00.pt", 0),
    ],
)
def test_a_damaged_checkpoint_is_named_when_a_run_goes_on(
    stopped: Path, part: str, size: int, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(stopped, out)
    file = out / "checkpoints" / "step_2" / part
    content = file.read_bytes()
    assert len(content) > size
    file.write_bytes(content[:size])
    result = resume(out, num_steps=4)
    assert result.returncode == 1
    assert str(file) in last_line(result)
    assert "Traceback" not in result.stderr
