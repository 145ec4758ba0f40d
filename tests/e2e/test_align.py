"""``wavellama data align``."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from tests.e2e.forked import run_forked
from tests.e2e.runs import Runner, last_line, run_cli
from tests.fakes import tiny_model
from tests.tones import CONVOLUTIONS, TOKENIZER
from wavellama.data.manifest import read_manifest

RATE = 16_000


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the card of a random model with a CTC head."""
    folder = tmp_path_factory.mktemp("cards")
    torch.save(tiny_model(CONVOLUTIONS, dtype=torch.float32).state_dict(), folder / "aligner.pt")
    card = {
        "name": "aligner",
        "model_family": "wav2vec2_llama",
        "model_arch": "tiny",
        "model_config": CONVOLUTIONS,
        "checkpoint": "aligner.pt",
        "tokenizer_ref": TOKENIZER,
    }
    (folder / "aligner.yaml").write_text(yaml.safe_dump(card), "utf-8")
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A data set: two good rows in one file, a row that lies, one whose text is too long."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    samples = np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32) / 10
    soundfile.write(folder / "long.wav", samples, RATE)
    soundfile.write(folder / "short.wav", samples[: RATE // 4], RATE)
    (folder / "manifest.tsv").write_text(
        "audio\toffset\tduration\ttext\tlang\tsplit\n"
        "long.wav\t0.5\t1.0\tOne, two\teng_Latn\ttrain\n"
        "long.wav\t1.5\t1.5\tthree\teng_Latn\tdev\n"
        "long.wav\t\t9\tit is shorter\teng_Latn\tdev\n"
        "short.wav\t\t0.25\ta text of too many letters\teng_Latn\tdev\n"
        "missing.wav\t\t1\tgone\teng_Latn\tdev\n"
        "long.wav\t\t3\t\teng_Latn\tdev\n",
        encoding="utf-8",
    )
    return folder


def align(
    corpus: Path, cards: Path, out: Path, *options: str, run: Runner = run_forked
) -> subprocess.CompletedProcess[str]:
    env = {"FAIRSEQ2_USER_ASSET_DIR": str(cards)}
    model = () if "--model" in options else ("--model", "aligner")
    return run("data", "align", corpus, *model, "--out", out, *options, env=env)


@pytest.mark.parametrize(("run", "name"), [(run_cli, "words.jsonl"), (run_forked, "words.tsv")])
def test_good_rows_get_words_and_the_others_are_listed(
    corpus: Path, cards: Path, run: Runner, name: str
) -> None:
    result = align(corpus, cards, corpus / name, run=run)
    assert result.returncode == 1
    assert f"{name}: 2 of 6 rows, with the times of their words." in result.stdout
    listed = [line for line in result.stderr.splitlines() if "manifest.tsv:" in line]
    reasons = ["the manifest says 9.00 s", "which need", "no such file", "has no text"]
    assert len(listed) == 4
    for line, number, reason in zip(listed, (4, 5, 6, 7), reasons, strict=True):
        assert f"manifest.tsv:{number}: " in line
        assert reason in line
    content = read_manifest(corpus / name)
    assert content.broken == []
    first, second = content.utterances
    assert (first.offset, first.split, second.split) == (0.5, "train", "dev")
    assert first.words is not None
    assert [word.text for word in first.words] == ["One,", "two"]
    assert first.words[-1].end <= 1.0
    assert str(corpus) not in (corpus / name).read_text("utf-8")


def test_all_good_rows_exit_with_0_and_the_whole_file_is_replaced(
    corpus: Path, cards: Path, tmp_path: Path
) -> None:
    rows = (corpus / "manifest.tsv").read_text().splitlines()
    (corpus / "manifest.tsv").write_text("\n".join(rows[:3]) + "\n")
    out = tmp_path / "out" / "manifest.jsonl"
    out.parent.mkdir()
    out.write_text("before")
    result = align(corpus, cards, out, run=run_cli)
    assert result.returncode == 0, result.stderr
    written = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [row["text"] for row in written] == ["One, two", "three"]
    assert set(written[0]["words"][0]) == {"text", "start", "end", "score"}
    assert [path.name for path in out.parent.iterdir()] == ["manifest.jsonl"]


@pytest.mark.parametrize(
    ("run", "options", "message"),
    [
        (run_forked, ("--model", "alignr"), "alignr is not a known model card. Did you mean al"),
        (run_cli, ("--tokenizer", "mini_tokenizer"), "of 32 tokens, but the tokenizer has 72"),
    ],
)
def test_what_cannot_align_is_told_in_one_sentence(
    corpus: Path, cards: Path, tmp_path: Path, run: Runner, options: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "out.jsonl"
    result = align(corpus, cards, out, *options, run=run)
    assert (result.returncode, out.exists()) == (2, False)
    assert message in last_line(result)
    assert "Traceback" not in result.stderr


def test_the_data_set_itself_is_not_touched(corpus: Path, cards: Path) -> None:
    before = (corpus / "manifest.tsv").read_bytes()
    result = align(corpus, cards, corpus / "manifest.tsv")
    assert result.returncode == 1
    assert "would become a part of" in last_line(result)
    assert (corpus / "manifest.tsv").read_bytes() == before
