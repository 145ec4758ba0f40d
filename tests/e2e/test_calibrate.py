"""``wavellama calibrate``, with models of two training steps and texts half of which they know."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from tests.e2e.forked import run_forked
from tests.e2e.runs import Runner, last_line, run_cli, weights
from wavellama.audio.load import load_audio, normalize
from wavellama.batch import AsrBatch
from wavellama.checkpoints.hub import find_model
from wavellama.decoding.generate import best_tokens, generate
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.transcript.calibration import Confidence, parse_confidence

RATE = 16_000


def train(recipe: str, out: Path) -> Path:
    result = run_forked(
        *("recipe", "asr", "train", recipe, "--output-dir", out, "--no-rich"),
        *("--config", "regime.num_steps=2"),
    )
    assert result.returncode == 0, result.stderr
    return out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    return train("toy_train", tmp_path_factory.mktemp("toy") / "run")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def recognise(model_name: str, path: Path) -> str:
    """Return what the model hears in a clip."""
    source = find_model(model_name)
    model, tokenizer = source.load(device="cpu"), source.load_tokenizer()
    assert isinstance(model, Wav2Vec2LlamaModel)
    audio = normalize(load_audio(path))
    batch = AsrBatch(audio[None], [len(audio)], [], ["eng_Latn"])
    (tokens,) = best_tokens(generate(model, batch, Wav2Vec2LlamaBeamSearchConfig(nbest=1)))
    return tokenizer.create_decoder()(torch.tensor(tokens)).strip()


@pytest.fixture(scope="module")
def corpus(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of noise: in the split ``dev`` what the model hears is right in every other one."""
    folder = tmp_path_factory.mktemp("corpus")
    draws = np.random.default_rng(0)
    lines = ["audio\tduration\ttext\tlang\tsplit"]
    for i in range(6):
        path = folder / f"{i}.wav"
        samples = draws.standard_normal(RATE // 2 + 1600 * i) / 10
        soundfile.write(path, samples, RATE)
        heard = recognise(str(trained), path)
        assert heard
        text = heard if i % 2 else "zz"
        for split in ("dev", "right" if i % 2 else "wrong"):
            lines.append(f"{path.name}\t{len(samples) / RATE}\t{text}\teng_Latn\t{split}")
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return folder


def calibrate(
    model: str | Path, corpus: Path, *options: str | Path, run: Runner = run_forked, cards: str = ""
) -> subprocess.CompletedProcess[str]:
    env = {"FAIRSEQ2_USER_ASSET_DIR": cards} if cards else {}
    return run("calibrate", "--model", model, "--data", corpus, *options, env=env)


def test_a_run_keeps_its_calibration_and_a_picture(run: Path, corpus: Path) -> None:
    result = calibrate(run, corpus, "--lang", "eng_Latn", run=run_cli)
    assert result.returncode == 0, result.stderr
    words, before, after, *_ = result.stdout.splitlines()
    assert words.endswith("of them right.")
    assert (before.split()[:2], after.split()[:2]) == (["before", "ECE"], ["after", "ECE"])
    assert "recognising" in result.stderr
    stored = json.loads((run / "confidence.json").read_text())
    found = find_model(str(run)).read_confidence()
    assert stored == {"temperature": found.temperature, "bias": found.bias}
    assert (found.temperature, found.bias) != (1.0, 0.0)
    assert (run / "confidence.png").read_bytes().startswith(b"\x89PNG")
    assert not list(run.glob(".confidence*"))


def test_a_second_calibration_replaces_the_first(run: Path, corpus: Path, tmp_path: Path) -> None:
    (run / "confidence.json").write_text('{"temperature": 7.0, "bias": 7.0}')
    picture = tmp_path / "else.png"
    result = calibrate(run, corpus, "--plot", picture, "--beam", "2")
    assert result.returncode == 0, result.stderr
    assert find_model(str(run)).read_confidence().temperature != 7.0
    assert picture.is_file()
    assert not (run / "confidence.png").exists()


def test_a_cards_calibration_is_printed(trained: Path, corpus: Path, tmp_path: Path) -> None:
    torch.save(weights(trained, 2), tmp_path / "my.pt")
    card = {
        **{"name": "my_card", "model_family": "wav2vec2_llama", "model_arch": "tiny_lid"},
        **{"checkpoint": "my.pt", "tokenizer_ref": "toy_tokenizer"},
    }
    (tmp_path / "my_card.yaml").write_text(yaml.safe_dump(card), "utf-8")
    result = calibrate("my_card", corpus, cards=str(tmp_path))
    assert result.returncode == 0, result.stderr
    instruction, line = result.stdout.splitlines()[-2:]
    assert instruction == "Add this line to the card my_card:"
    printed = yaml.safe_load(line)
    assert parse_confidence(printed["confidence"], "the card") != Confidence()
    assert list(tmp_path.glob("*.png")) == []


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (
            ("--split", "right"),
            1,
            "every one is right; confidence is calibrated on right and wrong",
        ),
        (("--split", "wrong"), 1, "none is right; confidence is calibrated on right and wrong"),
        (("--split", "nothing"), 2, "nothing is not a known split"),
        (("--lang", "ita_Latn"), 2, "ita_Latn is not a known language of the split dev"),
        (("--max-audio-secs", "0.2"), 1, "The split dev has no utterance of 0.1 to 0.2 seconds."),
        (("--beam", "0"), 2, "`--beam` must be at least 1, but is 0."),
        (("--ctc-weight", "2"), 2, "`--ctc-weight` must lie between 0 and 1, but is 2.0."),
    ],
)
def test_what_cannot_be_calibrated_is_told_in_one_sentence(
    run: Path, corpus: Path, options: tuple[str, ...], code: int, message: str
) -> None:
    result = calibrate(run, corpus, *options)
    assert result.returncode == code, result.stderr
    assert message in last_line(result)
    assert "Traceback" not in result.stderr
    assert not (run / "confidence.json").exists()


def test_a_ctc_model_cannot_be_calibrated(corpus: Path, tmp_path: Path) -> None:
    ctc = train("toy_ctc", tmp_path / "ctc")
    result = calibrate(ctc, corpus)
    assert result.returncode == 2
    assert "it has no decoder" in last_line(result)


def test_a_broken_calibration_is_told_before_transcribing(run: Path, corpus: Path) -> None:
    (run / "confidence.json").write_text("{}}")
    result = run_forked("transcribe", corpus / "0.wav", "--model", run)
    assert result.returncode == 2
    assert "confidence.json is not JSON" in last_line(result)
