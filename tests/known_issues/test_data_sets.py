"""Faults in how data sets are read, checked and tokenised, one test each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import soundfile
from fairseq2.data.tokenizers import load_tokenizer
from fairseq2.device import CPU
from fairseq2.gang import create_fake_gangs
from sentencepiece import SentencePieceProcessor

from tests.e2e.forked import run_forked
from tests.e2e.runs import write_golden_model
from wavellama.data.coverage import check_texts, measure_coverage
from wavellama.data.manifest import read_manifest, write_manifest
from wavellama.data.manifest_dataset import ManifestDataset, ManifestDatasetConfig
from wavellama.data.plan import ReaderOptions
from wavellama.data.tokenizer import train_tokenizer
from wavellama.data.utterance import Utterance
from wavellama.errors import DataError

ROOT: Final = Path(__file__).parents[2]

GOOD = {"audio": "a.wav", "duration": 1.2, "text": "abc", "split": "train"}


def write_audio(folder: Path, *names: str, secs: float = 1.2) -> None:
    for name in names:
        noise = np.random.default_rng(0).normal(0, 0.1, int(secs * 16_000))
        soundfile.write(folder / name, noise, 16_000)


def write_lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize("key", ["audio", "text", "split", "speaker", "lang"])
@pytest.mark.parametrize("value", [["a", "b"], {"raw": "a"}, True, 1.5, "\ud83d", "a\0b"])
def test_a_value_that_is_no_text_is_a_bad_row(key: str, value: object, tmp_path: Path) -> None:
    """Python's spelling of the value was trained on; half a character ended in a stack trace."""
    path = write_lines(tmp_path / "train.jsonl", GOOD, {**GOOD, key: value})
    content = read_manifest(path)
    assert [utterance.text for utterance in content.utterances] == ["abc"]
    (broken,) = content.broken
    assert broken.line == 2
    assert f"has the {key} {value!r}" in broken.reason


@pytest.mark.parametrize("value", [["1"], {}, True, "1e999", 10**400, "1,5"])
def test_a_value_that_is_no_number_is_a_bad_row(value: object, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "train.jsonl", {**GOOD, "duration": value})
    (broken,) = read_manifest(path).broken
    assert "has the duration" in broken.reason


def test_speakers_may_be_numbers(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "train.jsonl", {**GOOD, "speaker": 17})
    assert read_manifest(path).utterances[0].speaker == "17"


def test_a_key_that_stands_twice_is_a_bad_row(tmp_path: Path) -> None:
    """The last one was taken in silence."""
    path = tmp_path / "train.jsonl"
    path.write_text('{"audio": "a", "audio_filepath": "b", "duration": 1, "text": "x"}\n')
    (broken,) = read_manifest(path).broken
    assert broken.reason == "has audio twice"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.tsv", "audio\tduration\ttext\n", "has no rows"),
        ("train.tsv", "audio\tduration\ttext\n\n \n", "has no rows"),
        ("train.jsonl", "", "has no rows"),
        ("train.tsv", "audio\tduration\ttext\ttext\na\t1\tx\ty\n", "names text twice"),
        ("train.tsv", "client_id\tpath\tsentence\nx\ta.mp3\tb\n", "table of Common Voice"),
    ],
)
def test_a_file_that_is_no_manifest_says_why(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    """An empty manifest was an unknown split; a repeated column won over the first."""
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path / name)


def test_a_data_set_without_a_good_row_says_so(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", {**GOOD, "text": ""}, {**GOOD, "text": " "})
    dataset = ManifestDataset(ManifestDatasetConfig(path=tmp_path))
    with pytest.raises(DataError, match=r"no row that is an utterance; `wavellama data check`"):
        dataset.utterances("train")


def test_manifests_of_nemo_are_read(tmp_path: Path) -> None:
    row = {"audio_filepath": "/data/a.wav", "duration": 1.2, "text": "abc", "offset": 0.5}
    path = write_lines(tmp_path / "train_manifest.json", row)
    (utterance,) = read_manifest(path).utterances
    assert (str(utterance.audio), utterance.offset) == ("/data/a.wav", 0.5)


LINE_ENDS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


@pytest.mark.parametrize("name", ["manifest.tsv", "manifest.jsonl"])
@pytest.mark.parametrize("char", LINE_ENDS, ids=lambda char: f"U+{ord(char):04X}")
def test_characters_that_python_takes_for_line_ends_stay_in_texts(
    char: str, name: str, tmp_path: Path
) -> None:
    utterance = Utterance(tmp_path / "a.wav", f"one{char}two", 1.2, split="train")
    write_manifest(tmp_path / name, [utterance])
    assert read_manifest(tmp_path / name).utterances == [utterance]


def test_evaluation_survives_any_text_of_a_manifest(tmp_path: Path) -> None:
    """U+2028 in a reference ended the run at its very end, without a report."""
    write_audio(tmp_path, "a.wav")
    rows = [Utterance(tmp_path / "a.wav", f"a{char}b", 1.2, "eng_Latn") for char in LINE_ENDS]
    write_manifest(tmp_path / "test.jsonl", rows)
    cards = tmp_path / "cards"
    cards.mkdir()
    write_golden_model(cards, "my_good")
    for verb in ("eval", "transcribe"):
        out = tmp_path / verb
        result = run_forked(
            *("recipe", "asr", verb, f"toy_{verb}", "--output-dir", out, "--no-rich"),
            *("--model", "my_good", "--config", "del:dataset.name"),
            f"dataset.path={tmp_path}",
            env={"FAIRSEQ2_USER_ASSET_DIR": str(cards)},
        )
        assert result.returncode == 0, result.stderr[-2000:]
        lines = next(out.glob("*.jsonl")).read_text("utf-8").split("\n")
        assert {json.loads(line)["reference"] for line in lines[:-1]} == {u.text for u in rows}


def options(tmp_path: Path) -> ReaderOptions:
    return ReaderOptions(
        skip_bad_texts=True, failures_path=tmp_path / "bad.jsonl", max_bad_share=1.0
    )


def test_a_text_that_cannot_be_spoken_is_named_and_skipped(tmp_path: Path) -> None:
    """Training stopped with the advice to shorten the audio."""
    write_audio(tmp_path, "a.wav")
    write_lines(tmp_path / "train.jsonl", GOOD, {**GOOD, "text": "a" * 4000})
    dataset = ManifestDataset(ManifestDatasetConfig(path=tmp_path))
    tokenizer, gangs = load_tokenizer("toy_tokenizer"), create_fake_gangs(CPU)
    batches = list(dataset.create_reader("train", tokenizer, gangs, options(tmp_path)))
    assert sum(len(batch.target_seq_lens) for group in batches for batch in group) == 1
    (listed,) = (tmp_path / "bad.jsonl").read_text().splitlines()
    reason = "has 4,000 characters for 1.20 s of audio, 3,333 a second"
    assert reason in json.loads(listed)["reason"]
    result = run_forked("data", "check", tmp_path)
    assert result.returncode == 1
    assert f"train.jsonl:2: {reason}" in result.stdout


def test_a_tokenizer_without_the_letters_of_the_texts_is_refused() -> None:
    """A model was trained to write <unk> in silence."""
    tokenizer = load_tokenizer("toy_tokenizer")
    coverage = measure_coverage(["abc жж я", "ж"], tokenizer)
    assert coverage.unwritable == {"ж": 3, "я": 1}
    assert str(coverage) == "4 of 7 characters (57.1%) have no token: ж я"
    utterances = [Utterance(Path("a"), "abc жж", 1.0)]
    with pytest.raises(DataError, match="The tokenizer does not fit the texts: 2 of 5"):
        check_texts(utterances, tokenizer, max_share=0.1)
    check_texts(utterances, tokenizer, max_share=0.4)


def test_data_check_counts_what_a_tokenizer_cannot_write(tmp_path: Path) -> None:
    write_audio(tmp_path, "a.wav")
    write_lines(tmp_path / "train.jsonl", {**GOOD, "text": "abж"})
    result = run_forked("data", "check", tmp_path, "--tokenizer", "toy_tokenizer")
    assert result.returncode == 0
    assert "toy_tokenizer: 1 of 3 characters (33.3%) have no token: ж" in result.stdout


@pytest.mark.parametrize("text", ["a <unk> b", "<s>x</s>", "<pad>", "<<s>", "<unk><unk>"])
def test_special_tokens_written_out_are_characters(text: str, tmp_path: Path) -> None:
    """Their letters, and letters seen only there, were missing in the vocabulary."""
    train_tokenizer([text], tmp_path, "t")
    model = SentencePieceProcessor(model_file=str(tmp_path / "t.model"))
    assert model.unk_id() not in model.encode(text)
    assert len(model.encode(text)) == len(text)
    assert model.decode(model.encode(text)) == text


def test_rows_in_two_splits_are_told(tmp_path: Path) -> None:
    write_audio(tmp_path, "a.wav", "b.wav")
    rows = [GOOD, {**GOOD, "split": "dev"}, {**GOOD, "audio": "b.wav"}, {**GOOD, "audio": "b.wav"}]
    write_lines(tmp_path / "manifest.jsonl", *rows)
    result = run_forked("data", "check", tmp_path)
    assert "1 utterances stand in both dev and train, such as " in result.stdout
    assert "1 utterances stand in train more than once, such as " in result.stdout


def test_a_picture_that_cannot_be_drawn_costs_no_rows(tmp_path: Path) -> None:
    """On a read-only folder the picture failed before the broken rows were shown."""
    write_audio(tmp_path, "a.wav")
    write_lines(tmp_path / "train.jsonl", GOOD, {**GOOD, "text": ""})
    (tmp_path / "check.png").mkdir()  # stands in for a folder that root could not write to either
    result = run_forked("data", "check", tmp_path)
    assert result.returncode == 1
    assert "train.jsonl:2: has no text" in result.stdout
    assert "1 of 2 rows are good" in result.stdout
    assert result.stderr.splitlines()[-1].startswith("warning: no picture: ")


def test_the_lines_for_common_voice_make_a_manifest(tmp_path: Path) -> None:
    """What docs/data.md says about a table of Common Voice, done as it says."""
    (tmp_path / "clips").mkdir()
    write_audio(tmp_path / "clips", "a.wav", "b.wav")
    table = 'client_id\tpath\tsentence\nanna\ta.wav\tShe said "no".\nbert\tb.wav\ttwo\n'
    (tmp_path / "train.tsv").write_text(table, "utf-8")
    page = (ROOT / "docs" / "data.md").read_text("utf-8")
    (code,) = [block for block in page.split("```python\n")[1:] if "client_id" in block]
    names: dict[str, Any] = {}
    exec(code.split("```")[0], names)
    names["convert"](tmp_path, "train", "eng_Latn")
    first, second = read_manifest(tmp_path / "wavellama" / "train.jsonl").utterances
    assert (first.text, first.speaker, first.duration) == ('She said "no".', "anna", 1.2)
    assert (second.audio, second.split) == (tmp_path / "clips" / "b.wav", "train")
