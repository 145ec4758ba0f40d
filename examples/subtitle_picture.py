"""Draw the waveform of an audio file with its subtitles and the times of its words.

python examples/subtitle_picture.py FILE PNG [MODEL [LANG]]
"""

from __future__ import annotations

import sys

import matplotlib as mpl
import torch

mpl.use("agg")
import matplotlib.pyplot as plt

from wavellama import ASRInferencePipeline, TranscribeOptions, Transcript
from wavellama.audio.load import load_audio
from wavellama.units import SAMPLE_RATE


def main(file: str, png: str, model: str = "wavellama_small", lang: str | None = None) -> None:
    pipeline = ASRInferencePipeline(model, dtype=torch.float32)
    options = TranscribeOptions(lang=lang, word_timestamps=True)
    (transcript,) = pipeline.stream_results(file, options)
    draw(load_audio(file), transcript, png)


def draw(audio: torch.Tensor, transcript: Transcript, png: str) -> None:
    """Draw the audio (T) above, each word below it from its begin to its end."""
    figure, (wave, text) = plt.subplots(2, figsize=(12, 4), sharex=True)
    seconds = torch.arange(len(audio)) / SAMPLE_RATE
    wave.plot(seconds[::20], audio[::20], linewidth=0.4, color="tab:blue")
    for segment in transcript.segments:
        wave.axvspan(segment.start, segment.end, alpha=0.15, color="tab:orange")
        for i, word in enumerate(segment.words):
            height = 0.2 + 0.2 * (i % 4)
            text.plot([word.start, word.end], [height, height], linewidth=3, color="tab:orange")
            text.text(word.start, height + 0.03, word.text, fontsize=8)
    text.set(ylim=(0, 1), yticks=[], xlabel="seconds")
    wave.set(ylabel="amplitude", title=transcript.source)
    figure.tight_layout()
    figure.savefig(png, dpi=100)


if __name__ == "__main__":
    main(*sys.argv[1:])
