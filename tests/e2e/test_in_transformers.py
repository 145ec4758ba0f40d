"""Models that Hugging Face Transformers loads say there what they say here."""

from __future__ import annotations

import site
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pytest
import torch
from fairseq2.nn import BatchLayout
from torch import Tensor
from torch.nn.functional import layer_norm

from tests.unit.test_export_transformers import CODES, make_model
from wavellama import Wav2Vec2LlamaModel, generate
from wavellama.batch import AsrBatch
from wavellama.export.transformers import write_transformers
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig

pytestmark = pytest.mark.slow

PACKAGES: Final = ("transformers>=5.24", "huggingface_hub>=1.31", "tokenizers>=0.23.1,<0.24")
"""What differs from this environment; torch and the rest are taken from here."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with Transformers 5.24 or newer."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "here.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    python = folder / "bin" / "python"
    install = ("-m", "pip", "install", "-q", "--no-deps", "--ignore-installed")
    if subprocess.run([python, *install, *PACKAGES], capture_output=True, check=False).returncode:
        pytest.skip("Transformers 5.24 cannot be installed here.")
    return python


def in_transformers(python: Path, folder: Path, audio: Tensor) -> dict[str, Any]:
    """Return what the model in a folder says there."""
    np.save(folder / "audio.npy", audio.numpy())
    script = Path(__file__).with_name("in_transformers.py")
    result = subprocess.run([python, script, folder], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return dict(np.load(folder / "theirs.npz"))


def test_ctc_logits_are_equal(python: Path, tmp_path: Path) -> None:
    source = make_model(tmp_path, "tiny")
    write_transformers(source, tmp_path / "theirs")
    audio = torch.randn(9000)
    theirs = in_transformers(python, tmp_path / "theirs", audio)
    with torch.no_grad():
        normed = layer_norm(audio, audio.shape)[None]
        logits, _ = source.load().eval()(normed, BatchLayout.of(normed))
    assert np.abs(logits[0].numpy() - theirs["logits"]).max() < 1e-4
    assert theirs["ids"].tolist() == source.load_tokenizer().create_encoder()("ta ke").tolist()


def test_llm_logits_and_tokens_are_equal(python: Path, tmp_path: Path) -> None:
    source = make_model(tmp_path, "tiny_lid", languages=CODES)
    write_transformers(source, tmp_path / "theirs")
    model = cast(Wav2Vec2LlamaModel, source.load().eval())
    audio = torch.randn(9000)
    theirs = in_transformers(python, tmp_path / "theirs", audio)
    search = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=8)
    for language in ("qaa_Cyrl", None):
        batch = AsrBatch(layer_norm(audio, audio.shape)[None], [9000], [[]], [language])
        with torch.no_grad():
            prompt = model.embed_prompt(batch)
            hidden = model.llama_decoder(prompt.seqs, BatchLayout.of(prompt.seqs))
            logits = model.final_proj(hidden[0, -1])
        assert np.abs(logits.numpy() - theirs[f"{language}"][: len(logits)]).max() < 1e-4
        tokens = generate(model, batch, search)[0][0].tokens
        assert tokens == theirs[f"tokens_{language}"].tolist()[: len(tokens)]
        assert len(tokens) > 2
