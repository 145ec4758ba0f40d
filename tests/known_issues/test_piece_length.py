"""Long audio is cut into pieces as long as the audio that a model was trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fairseq2.assets import AssetCard
from fairseq2.data.tokenizers import load_tokenizer

from tests.fakes import tiny_model
from tests.fakes_checkpoints import write_run
from tests.unit.test_pipeline_inference import RATE
from tests.unit.test_pipeline_live import speech
from wavellama import (
    ASRInferencePipeline,
    TranscribeOptions,
    Transcript,
    Wav2Vec2LlamaBeamSearchConfig,
)
from wavellama.checkpoints.hub import find_model
from wavellama.checkpoints.trained_run import write_lengths

CONFIG = "tokenizer: {name: toy_tokenizer}\ndataset: {max_audio_secs: 8}\n"

LONG = {"llama_config": {"max_seq_len": 2048}}


def transcribe(run: Path, secs: float, **options: object) -> Transcript:
    """Return what a model says of speech of some length."""
    pipeline = ASRInferencePipeline(
        str(run),
        model=tiny_model(LONG, arch="tiny_lid", dtype=torch.float32),
        tokenizer=load_tokenizer("toy_tokenizer"),
        device="cpu",
        dtype=torch.float32,
    )
    waveform = torch.cat([speech(), speech()])[: round(secs * RATE)]
    search = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=8)
    chosen = TranscribeOptions(search=search, **options)  # type: ignore[arg-type]
    (transcript,) = pipeline.stream_results({"waveform": waveform, "sample_rate": RATE}, chosen)
    return transcript


def longest(transcript: Transcript) -> float:
    return max(segment.end - segment.start for segment in transcript.segments)


def test_the_default_comes_from_the_training(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", CONFIG)
    assert 5.0 < longest(transcribe(run, 14.0)) <= 8.0, "nothing is known but the longest"
    write_lengths(run, [1.0, *[4.2] * 8, 7.9])
    assert find_model(str(run)).typical_audio_secs == 4.2
    assert 3.0 < longest(transcribe(run, 14.0)) <= 4.2
    assert longest(transcribe(run, 14.0, chunk_secs=8.0)) > 5.0
    (whole,) = transcribe(run, 7.0).segments
    assert whole.end - whole.start > 5.0, "it has seen audio of this length, too"


@pytest.mark.parametrize(("durations", "secs"), [([1.0], 1.0), (range(1, 11), 9.0), ([3, 2], 3.0)])
def test_nine_tenths_are_not_longer(durations: list[float], secs: float, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", CONFIG)
    write_lengths(run, durations)
    assert find_model(str(run)).typical_audio_secs == secs


def test_a_card_may_say_it() -> None:
    fields = {"model_family": "wav2vec2_asr", "max_audio_secs": 12.0, "typical_audio_secs": 4.5}
    found = find_model(AssetCard("said", fields))
    assert (found.max_audio_secs, found.typical_audio_secs) == (12.0, 4.5)
