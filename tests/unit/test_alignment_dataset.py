"""Word times for data sets, and the benchmark that measures them."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
from fairseq2.data.tokenizers import load_tokenizer

import wavellama
from tests.tones import CONVOLUTIONS, TOKENIZER, SpokenWord, hearing_model, speak
from wavellama.alignment.aligner import Aligner
from wavellama.alignment.dataset import align_dataset, check_out
from wavellama.checkpoints import hub
from wavellama.data.check import Row
from wavellama.data.manifest import read_manifest, write_manifest
from wavellama.data.utterance import Utterance
from wavellama.data.words import AlignedWord
from wavellama.errors import DataError

ROOT = Path(__file__).parents[2]


def test_times_count_from_the_beginning_of_the_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spoken = [SpokenWord("abc", 0.5), SpokenWord("de", 2.5), SpokenWord("fg", 3.1)]
    soundfile.write(tmp_path / "a.flac", speak(spoken, 4.0).numpy() * 0.5, 16_000)
    rows = [
        Utterance(tmp_path / "a.flac", "abc", 2.0, offset=0.0, split="dev"),
        Utterance(tmp_path / "a.flac", "De, fg", 2.0, "eng_Latn", offset=2.0, split="train"),
        Utterance(tmp_path / "b.flac", "abc", 1.0),
    ]
    write_manifest(tmp_path / "manifest.tsv", rows)
    seen: list[int] = []

    def track(rows: Sequence[Row]) -> Iterator[Row]:
        for manifest, line, utterance in rows:
            yield manifest, line, utterance
            seen.append(line)

    aligner = Aligner(hearing_model(monkeypatch, CONVOLUTIONS), load_tokenizer(TOKENIZER))
    aligned = align_dataset(aligner, tmp_path, track)
    assert seen == [2, 3, 4]
    assert [(row.line, "no such file" in row.reason) for row in aligned.broken] == [(4, True)]
    first, second = (utterance.words for utterance in aligned.utterances)
    assert first is not None
    assert second is not None
    assert [word.text for word in (*first, *second)] == ["abc", "De,", "fg"]
    starts = [word.start for word in (*first, *second)]
    assert starts == pytest.approx([0.5, 0.5, 1.1], abs=0.02)
    write_manifest(tmp_path / "out.jsonl", aligned.utterances)
    assert read_manifest(tmp_path / "out.jsonl").utterances[0].words == first


@pytest.mark.parametrize("name", ["manifest.tsv", "manifest.jsonl", "./manifest.tsv"])
def test_a_manifest_that_would_change_its_data_set_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "manifest.tsv").touch()
    with pytest.raises(DataError, match="would become a part of"):
        check_out(tmp_path, tmp_path / name)


def test_beside_one_manifest_per_split_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").touch()
    for name in ("train.tsv", "words.jsonl"):
        with pytest.raises(DataError, match="would become a part of"):
            check_out(tmp_path, tmp_path / name)
    with pytest.raises(DataError, match="would become a part of"):
        check_out(tmp_path / "train.tsv", tmp_path / "train.tsv")
    check_out(tmp_path / "train.tsv", tmp_path / "words.jsonl")
    check_out(tmp_path, tmp_path / "words" / "manifest.jsonl")


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.tsv").touch()
    check_out(tmp_path, tmp_path / "words.tsv")
    with pytest.raises(DataError, match="must end in"):
        check_out(tmp_path, tmp_path / "words.txt")
    with pytest.raises(DataError, match="holds no manifest"):
        check_out(tmp_path / "missing", tmp_path / "words.tsv")


def test_the_benchmark_reports_the_error_of_line_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def align(
        model: object, tokenizer: object, audio: Path, text: str, lang: str
    ) -> list[AlignedWord]:
        """Find the first line 4 s late, the second 0.25 s early, and all others exactly.

        Every line ends half a second before the next one begins.
        """
        rows = read_manifest(audio.parents[1] / "manifest.tsv").utterances
        lines = [row for row in rows if row.split == "sonnet"]
        assert text == " ".join(line.text for line in lines)
        late = [4.0, -0.25] + [0.0] * 12
        starts = [(line.offset or 0.0) + extra for line, extra in zip(lines, late, strict=True)]
        ends = [start - 0.5 for start in [*starts[1:], 53.0]]
        return [
            AlignedWord(word, start, end)
            for line, start, end in zip(lines, starts, ends, strict=True)
            for word in line.text.split()
        ]

    monkeypatch.setattr(wavellama, "align", align, raising=False)
    source = SimpleNamespace(load=str, load_tokenizer=str)
    monkeypatch.setattr(hub, "find_model", lambda name: source)
    monkeypatch.setattr(sys, "argv", ["align_sonnet.py", "--model", "any"])
    runpy.run_path(str(ROOT / "benchmarks" / "align_sonnet.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 17
    assert lines[2].split()[:5] == ["5.88", "5.63", "-0.25", "5.38", "-0.50"]
    assert lines[-2:] == [
        "Error of line starts by word: median 0.00 s, largest 4.00 s.",
        "Error of line starts by pause: median 0.25 s, largest 4.00 s.",
    ]
