"""The model of the package as graphs: other programs hear in recordings what we hear."""

from __future__ import annotations

import subprocess
import sys
import wave
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import sherpa_onnx
import torch
from torch import Tensor

from tests.e2e.runs import run_cli
from tests.pages import ROOT
from wavellama import Wav2Vec2LlamaModel, generate, load_model
from wavellama.audio.load import load_audio, normalize
from wavellama.batch import AsrBatch
from wavellama.checkpoints.hub import find_model
from wavellama.data.manifest import read_manifest
from wavellama.decoding.ctc import ctc_head_generate
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig

pytestmark = pytest.mark.slow

MINI: Final = ROOT / "assets/corpora/mini/manifest.tsv"
NUM_CLIPS: Final = 20


@pytest.fixture(scope="module")
def clips() -> list[tuple[Tensor, str | None]]:
    """Recordings of the mini corpus, of all its languages, with their codes."""
    utterances = read_manifest(MINI).utterances
    return [(load_audio(u.audio), u.lang) for u in utterances[:: len(utterances) // NUM_CLIPS]][
        :NUM_CLIPS
    ]


@pytest.fixture(scope="module")
def model() -> Wav2Vec2LlamaModel:
    loaded = load_model("wavellama_small").eval()
    assert isinstance(loaded, Wav2Vec2LlamaModel)
    return loaded


def decode(tokens: list[int]) -> str:
    decoder = find_model("wavellama_small").load_tokenizer().create_decoder()
    return str(decoder(torch.tensor(tokens))).strip()


def convert(folder: Path, *options: str) -> Path:
    result = run_cli("asset", "convert", "wavellama_small", *options, "--out", folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_sherpa_hears_what_the_ctc_head_hears(
    model: Wav2Vec2LlamaModel, clips: list[tuple[Tensor, str | None]], tmp_path: Path
) -> None:
    folder = convert(tmp_path / "sherpa", "--to", "sherpa-onnx")
    recogniser: Any = sherpa_onnx.OfflineRecognizer.from_omnilingual_asr_ctc(
        model=str(folder / "model.onnx"), tokens=str(folder / "tokens.txt")
    )
    pairs = []
    for audio, _ in clips:
        stream = recogniser.create_stream()
        stream.accept_waveform(16000, audio.numpy())
        recogniser.decode_stream(stream)
        batch = AsrBatch(normalize(audio)[None], [len(audio)], [[]], None)
        pairs.append((stream.result.text.strip(), decode(ctc_head_generate(model, batch)[0])))
    assert [theirs for theirs, _ in pairs] == [ours for _, ours in pairs]
    assert sum(bool(ours) for _, ours in pairs) > NUM_CLIPS / 2


def test_greedy_program_without_torch_writes_the_text_of_one_beam(
    model: Wav2Vec2LlamaModel, clips: list[tuple[Tensor, str | None]], tmp_path: Path
) -> None:
    folder = convert(tmp_path / "onnx", "--to", "onnx")
    program = ROOT / "examples/onnx_greedy.py"
    script = f"import sys; sys.modules['torch'] = None\nexec(open({str(program)!r}).read())"
    search = Wav2Vec2LlamaBeamSearchConfig(nbest=1)
    for audio, language in clips[::4]:
        samples = (audio.numpy() * 32767).astype(np.int16)
        with wave.open(str(tmp_path / "clip.wav"), "wb") as file:
            file.setparams((1, 2, 16000, len(samples), "NONE", ""))
            file.writeframes(samples.tobytes())
        said = subprocess.run(
            [sys.executable, "-c", script, folder, tmp_path / "clip.wav", language or ""],
            capture_output=True,
            text=True,
            check=True,
        )
        read = normalize(load_audio(tmp_path / "clip.wav"))
        batch = AsrBatch(read[None], [len(read)], [[]], [language])
        assert said.stdout.strip() == decode(generate(model, batch, search)[0][0].tokens)
