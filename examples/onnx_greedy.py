"""Transcribe a 16-bit WAV of 16 kHz with onnxruntime and numpy alone, likeliest token by token.

wavellama asset convert wavellama_small --to onnx --out my_onnx
python examples/onnx_greedy.py my_onnx talk.wav eng_Latn
"""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

EOS = 2
NUM_CONTROL = 3  # beginning, padding and end write nothing
MOST_TOKENS = 400


def read_wav(path: str) -> NDArray[np.float32]:
    """Return samples of zero mean and unit variance. (1, T)."""
    with wave.open(path) as file:
        if (file.getframerate(), file.getsampwidth(), file.getnchannels()) != (16000, 2, 1):
            raise SystemExit(f"{path} must be 16-bit mono of 16 kHz.")
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    audio = samples.astype(np.float32) / 32768
    normal = (audio - audio.mean()) / np.sqrt(audio.var() + 1e-5)
    return np.asarray(normal[None], np.float32)


def load(folder: Path, name: str) -> onnxruntime.InferenceSession:
    """Return a graph, ready to run."""
    return onnxruntime.InferenceSession(folder / f"{name}.onnx")


def transcribe(folder: Path, audio: NDArray[np.float32], language: int = 0) -> str:
    """Return the likeliest text; language 0 is one that is not known."""
    prefill, step = load(folder, "prefill"), load(folder, "step")
    lines = (folder / "tokens.txt").read_text("utf-8").splitlines()
    pieces = [line.rpartition(" ")[0].replace("▁", " ") for line in lines]
    inputs = {"audio": audio, "language": np.array([language])}
    names = {node.name for node in prefill.get_inputs()}
    logits, cache = prefill.run(None, {k: v for k, v in inputs.items() if k in names})
    text = ""
    for _ in range(MOST_TOKENS):
        token = logits.argmax(-1)
        if token[0] == EOS:
            break
        text += pieces[token[0]] if token[0] >= NUM_CONTROL else ""
        logits, cache = step.run(None, {"token": token, "cache": cache})
    return text.strip()


if __name__ == "__main__":
    model, name, code = Path(sys.argv[1]), sys.argv[2], (sys.argv[3:] or [""])[0]
    table = ["", "0", *((model / "languages.txt").read_text("utf-8").split() if code else [])]
    print(transcribe(model, read_wav(name), int(table[table.index(code) + 1])))
