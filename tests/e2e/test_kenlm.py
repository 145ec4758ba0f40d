"""Language models with kenlm itself, which is built here: it is an optional extra."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.fakes import golden_case, golden_model, golden_tokenizer
from tests.unit.test_search_ngram import ARPA, ArpaModel
from wavellama import TranscribeOptions, Wav2Vec2LlamaBeamSearchConfig, generate
from wavellama.decoding.lm_bias import load_lm
from wavellama.errors import ConfigError
from wavellama.pipeline.biasing import create_bias
from wavellama.search.ngram import WordModel

pytestmark = pytest.mark.slow

SENTENCES = ["", "the cat", "the cut", "the unheard cat", "cut cut the the cat", "a b c"]


@pytest.fixture(scope="module")
def kenlm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with kenlm, as pip builds or finds it."""
    folder = tmp_path_factory.mktemp("kenlm")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "kenlm"]
    command += ["--target", str(folder)]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture
def arpa(kenlm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A language model's file, where kenlm can be imported."""
    monkeypatch.syspath_prepend(kenlm_folder)
    monkeypatch.delitem(sys.modules, "kenlm", raising=False)
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA)
    return path


def _score(model: WordModel, sentence: str) -> float:
    state, total = model.begin(), 0.0
    for word in [*sentence.split(), "</s>"]:
        score, state = model.follow(state, word)
        total += score
    return total


@pytest.mark.parametrize("sentence", SENTENCES)
def test_kenlm_scores_sentences_as_the_arpa_file_says(arpa: Path, sentence: str) -> None:
    expected = _score(WordModel(ArpaModel(ARPA), list), sentence)
    assert _score(load_lm(arpa), sentence) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("content", [None, b"", b"garbage\n", ARPA[:150].encode(), b"\0" * 9])
def test_what_kenlm_cannot_read_is_an_error(
    arpa: Path, content: bytes | None, capfd: pytest.CaptureFixture[str]
) -> None:
    path = arpa.with_name("other.arpa")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"no language model .*other|other.* is not a language"):
        load_lm(path)
    assert not capfd.readouterr().err


def test_kenlm_changes_what_the_decoder_leaves_open(arpa: Path) -> None:
    words = "-0.1\tchog\n-2.5\tcog\n-0.2\tl\n\n\\2-grams:"
    arpa.write_text(ARPA.replace("ngram 1=6", "ngram 1=9").replace("\n\\2-grams:", words))
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=5, max_new_tokens=20)
    model, batch = golden_model("llm_asr"), golden_case("llm_asr").utterances.batch([1])
    texts = []
    for weight in (0.0, 0.5):
        options = TranscribeOptions(lm=arpa, lm_weight=weight)
        bias = create_bias(golden_tokenizer(), options)
        tokens = generate(model, batch, config, bias=bias)[0][0].tokens
        texts.append(str(golden_tokenizer().create_decoder()(torch.tensor(tokens))))
    assert texts == ["l cog", "l chog"]
