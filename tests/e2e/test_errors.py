"""What a wrong request gets: an exit code and one sentence that names the value (section 5)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.forked import run_forked
from tests.e2e.runs import last_line, run_cli, write_golden_card
from tests.fakes import GOLDEN

TRAIN = ("recipe", "asr", "train", "toy_train")
EVAL = ("recipe", "asr", "eval", "toy_eval")


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (("asset", "show", "omniASR_LLM_300"), ("omniASR_LLM_300 ", "omniASR_LLM_300M")),
        (("recipe", "asr", "train", "toy_trian"), ("toy_trian", "toy_train")),
        (("recipe", "asr", "train", "nowhere.yaml"), ("nowhere.yaml",)),
        (("recipe", "asr", "eval", "toy_train"), ("recipe: train", "`recipe asr train toy_train`")),
        ((*EVAL, "--model", "omniASR_LLM_300"), ("omniASR_LLM_300 ", "omniASR_LLM_300M")),
        ((*TRAIN, "--config", "regime.num_stepz=3"), ("num_stepz", "num_steps")),
        ((*TRAIN, "--config", "model.arch=tinny_lid"), ("tinny_lid", "tiny_lid")),
        ((*TRAIN, "--config", "dataset.name=toy_tonez"), ("toy_tonez", "toy_tones")),
        ((*TRAIN, "--config", "dataset.train_split=trian"), ("trian", "train")),
        ((*TRAIN, "--config", "tokenizer.name=toy_tokeniser"), ("toy_tokeniser", "toy_tokenizer")),
        ((*TRAIN, "--config", "seq2seq_generator.name=foo"), ("foo is not a known generator",)),
        ((*TRAIN, "--config", "masker.name=foo"), ("foo is not a known masker",)),
        (
            (*TRAIN, "--config", "model.config_overrides.context_text_only=true"),
            ("no text-only form",),
        ),
        ((*TRAIN, "--config", "model.arch=conformer_6m"), ("256 tokens", "has 32")),
        ((*TRAIN, "--config", "dataset.max_audio_secs=50"), ("batch_audio_secs", "(50)")),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else None,
)
def test_wrong_requests(args: tuple[str, ...], parts: tuple[str, ...], tmp_path: Path) -> None:
    result = run_forked(*args, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    message = last_line(result)
    assert message.startswith("error: ")
    assert all(part in message for part in parts), message
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("asset", "show", "omniASR_LLM_300"),
        (*TRAIN, "--config", "regime.num_stepz=3"),
    ],
    ids=lambda args: args[-1],
)
def test_the_program_itself_says_the_same(args: tuple[str, ...], tmp_path: Path) -> None:
    """What a fork says and how it ends is what the real program says, and how that ends."""
    forked, real = run_forked(*args, cwd=tmp_path), run_cli(*args, cwd=tmp_path)
    assert (real.returncode, real.stdout, last_line(real)) == (2, "", last_line(forked))
    assert (forked.returncode, forked.stdout) == (2, "")


@pytest.fixture
def cards(tmp_path: Path) -> Path:
    """A folder of cards: a good checkpoint and several bad ones."""
    good = GOLDEN / "llm_asr_lid" / "model.pt"
    tmp_path = tmp_path / "cards"
    tmp_path.mkdir()
    shutil.copy(good, tmp_path / "good.pt")
    (tmp_path / "truncated.pt").write_bytes(good.read_bytes()[:300_000])
    (tmp_path / "garbage.pt").write_text("not a checkpoint")
    shutil.copy(GOLDEN / "gqa" / "model.pt", tmp_path / "misfit.pt")
    for name in ("good", "truncated", "garbage", "misfit", "missing"):
        write_golden_card(tmp_path, f"my_{name}", f"{name}.pt")
    write_golden_card(tmp_path, "my_nothing", None)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "code", "parts"),
    [
        ("my_truncated", 1, ("truncated.pt", "failed reading")),
        ("my_garbage", 1, ("garbage.pt", "no archive of tensors")),
        ("my_misfit", 1, ("misfit.pt", "(32, 48) in the checkpoint", "(33, 48) in the model")),
        ("my_missing", 1, ("missing.pt", "not found")),
        ("my_nothing", 2, ("my_nothing", "names no checkpoint")),
    ],
)
def test_bad_checkpoints(cards: Path, name: str, code: int, parts: tuple[str, ...]) -> None:
    environment = {"FAIRSEQ2_USER_ASSET_DIR": str(cards)}
    result = run_forked(
        *EVAL, "--model", name, "--output-dir", cards.parent / "out", env=environment
    )
    assert result.returncode == code, result.stderr
    message = last_line(result)
    assert message.startswith("error: ")
    assert all(part in message for part in parts), message
    assert "Traceback" not in result.stderr


def test_a_good_checkpoint_of_a_card_evaluates(cards: Path) -> None:
    """The bad ones above fail for their own fault, not for the card's."""
    environment = {"FAIRSEQ2_USER_ASSET_DIR": str(cards)}
    result = run_forked(
        *EVAL, "--model", "my_good", "--output-dir", cards.parent / "out", env=environment
    )
    assert result.returncode == 0, result.stderr


def test_an_unknown_language_in_the_data(tmp_path: Path) -> None:
    """A data set of another package whose language column holds a code that is not in the table."""
    (tmp_path / "klingon.py").write_text(
        "from dataclasses import replace\n"
        "from wavellama.data.toy import ToyTones, ToyTonesConfig\n"
        "from wavellama.data.dataset import AsrDataset\n"
        "class Klingon(AsrDataset):\n"
        "    tones = ToyTones(ToyTonesConfig())\n"
        "    def utterances(self, split):\n"
        "        rows = self.tones.utterances(split)\n"
        "        return [replace(row, lang='englisch_Latn') for row in rows]\n"
        "    def read_audio(self, utterance):\n"
        "        return self.tones.read_audio(utterance)\n"
        "def register(container):\n"
        "    from fairseq2.composition import register_dataset_family\n"
        "    register_dataset_family(container, 'klingon', Klingon, ToyTonesConfig,\n"
        "                            opener=lambda config: Klingon())\n"
    )
    info = tmp_path / "klingon-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: klingon\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fairseq2.extension]\nklingon = klingon:register\n")
    result = run_forked(
        *(*TRAIN, "--output-dir", tmp_path / "out", "--config", "set:dataset.name=null"),
        "dataset.family=klingon",
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert result.returncode == 2, result.stderr
    assert "'englisch_Latn' is not a known language code" in last_line(result)
