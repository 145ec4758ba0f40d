"""``ASRInferencePipeline.stream_results``: transcripts of any audio, as they are ready."""

from __future__ import annotations

import io
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.unit.test_pipeline_inference import RATE, create_pipeline, noise
from wavellama import (
    ASRInferencePipeline,
    TranscribeOptions,
    Transcript,
    Wav2Vec2LlamaModel,
)
from wavellama.audio.load import AudioInput, load_audio, normalize
from wavellama.audio.sources import RawPcm
from wavellama.batch import AsrBatch
from wavellama.decoding.generate import generate
from wavellama.errors import (
    BatchError,
    ConfigError,
    TranscriptionError,
    UnknownLanguageError,
    UnknownNameError,
)
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig

MINI = Path(__file__).parents[2] / "assets/corpora/mini"

SEARCH = Wav2Vec2LlamaBeamSearchConfig(nbest=2, max_new_tokens=12)

EVERY_TEXT = TranscribeOptions(no_speech_threshold=1.0)
"""For noise that stands for speech."""


def clip(seconds: float, seed: int = 0) -> dict[str, Any]:
    return {"waveform": noise(seconds, seed), "sample_rate": RATE}


def speech(num_files: int = 6) -> list[Path]:
    """Return short recordings of a person."""
    return sorted((MINI / "audio/ita_Latn").rglob("*.ogg"))[:num_files]


@pytest.fixture(scope="module")
def pipeline() -> ASRInferencePipeline:
    return create_pipeline()


def results(
    pipeline: ASRInferencePipeline, inputs: list[AudioInput], **options: Any
) -> list[Transcript]:
    chosen = TranscribeOptions(**{"search": SEARCH, "no_speech_threshold": 1.0, **options})
    return list(pipeline.stream_results(inputs, chosen))


def test_texts_are_those_of_transcribe_whatever_the_batches(pipeline: ASRInferencePipeline) -> None:
    clips: list[AudioInput] = [clip(0.3 + 0.4 * (i % 3), i) for i in range(7)]
    texts = pipeline.transcribe(clips)
    for batch_secs in (1.0, 3.0, 60.0):
        transcripts = results(pipeline, clips, batch_secs=batch_secs)
        assert [transcript.text for transcript in transcripts] == texts
        assert [transcript.index for transcript in transcripts] == list(range(7))


def test_transcripts_come_as_they_are_completed_where_the_order_does_not_matter(
    pipeline: ASRInferencePipeline,
) -> None:
    clips: list[AudioInput] = [clip(1.9), clip(0.4, 1), clip(0.8, 2)]
    transcripts = results(pipeline, clips, batch_secs=1.0, in_order=False)
    assert [transcript.index for transcript in transcripts] == [1, 2, 0]


def test_what_a_transcript_tells(pipeline: ASRInferencePipeline) -> None:
    (transcript,) = results(pipeline, [clip(0.7)], lang="deu_Latn", nbest=2)
    (segment,) = transcript.segments
    assert transcript.duration == pytest.approx(0.7)
    assert (transcript.language, transcript.language_probability) == ("deu_Latn", None)
    assert [segment.start, segment.end] == pytest.approx([0.0, 0.7])
    assert segment.text == transcript.text
    assert len(segment.tokens) > 0
    assert segment.avg_logprob is not None
    assert segment.avg_logprob < 0.0
    assert segment.no_speech_prob is not None
    assert segment.no_speech_prob > 0.5, "noise is no speech"
    assert [one.score for one in segment.alternatives] == sorted(
        (one.score for one in segment.alternatives), reverse=True
    )
    assert segment.alternatives[0].text == segment.text


def test_times_of_recognition_add_up_to_what_it_took(pipeline: ASRInferencePipeline) -> None:
    begin = perf_counter()
    transcripts = results(pipeline, [clip(0.7), clip(0.3)], lang="deu_Latn")
    secs = [transcript.timings.recognition_secs for transcript in transcripts]
    assert min(secs) > 0.0
    assert sum(secs) <= perf_counter() - begin


def test_long_audio_is_cut_into_windows_that_overlap(pipeline: ASRInferencePipeline) -> None:
    heard: list[float] = []
    options = TranscribeOptions(search=SEARCH, vad=False, chunk_secs=2.0, no_speech_threshold=1.0)
    (transcript,) = pipeline.stream_results([clip(9.0)], options, on_progress=heard.append)
    assert len(heard) >= 6, "half a second in common"
    assert sum(heard) == pytest.approx(9.0), "what two windows have heard counts once"
    assert transcript.duration == pytest.approx(9.0)
    starts = [segment.start for segment in transcript.segments]
    assert starts == sorted(set(starts))
    assert len(starts) > 1
    assert all(segment.no_speech_prob is None for segment in transcript.segments)


def test_long_audio_is_cut_in_silences_and_they_are_left_out(
    pipeline: ASRInferencePipeline,
) -> None:
    words = [load_audio(path) for path in speech()]
    silence = torch.zeros(3 * RATE)
    audio = torch.cat([part for word in words for part in (silence, word)])
    long = {"waveform": audio, "sample_rate": RATE}
    (transcript,) = results(pipeline, [long], chunk_secs=4.0)
    assert len(transcript.segments) >= 4
    begin = len(silence) / RATE
    assert transcript.segments[0].start == pytest.approx(begin, abs=0.5)
    assert (
        sum(segment.end - segment.start for segment in transcript.segments)
        < 0.7 * len(audio) / RATE
    )
    assert all(segment.end - segment.start <= 4.0 for segment in transcript.segments)


def test_silence_is_an_empty_transcript(pipeline: ASRInferencePipeline) -> None:
    silence = {"waveform": np.zeros(5 * RATE, np.float32), "sample_rate": RATE}
    (transcript,) = results(pipeline, [silence], vad=True)
    assert (transcript.text, transcript.segments) == ("", ())
    assert transcript.duration == pytest.approx(5.0)


def test_bad_inputs_are_told_after_the_last_transcript(
    pipeline: ASRInferencePipeline, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    transcripts = pipeline.stream_results([clip(0.5), bad, clip(0.6, 1)], EVERY_TEXT)
    assert [next(transcripts).index, next(transcripts).index] == [0, 2]
    with pytest.raises(TranscriptionError, match=r"bad\.wav") as caught:
        next(transcripts)
    assert list(caught.value.failures) == [1]
    assert caught.value.texts[1] is None
    assert all(caught.value.texts[i] for i in (0, 2))


@pytest.mark.parametrize("vad", [None, True])
def test_progress_is_the_audio_that_is_done_silences_included(
    pipeline: ASRInferencePipeline, vad: bool | None
) -> None:
    heard: list[float] = []
    silence, word = torch.zeros(2 * RATE), load_audio(speech()[0])
    spoken = {"waveform": torch.cat([silence, word, silence]), "sample_rate": RATE}
    options = TranscribeOptions(search=SEARCH, vad=vad, no_speech_threshold=1.0)
    transcripts = pipeline.stream_results([clip(0.5), spoken], options, on_progress=heard.append)
    assert sum(transcript.duration for transcript in transcripts) == pytest.approx(sum(heard))
    assert sum(heard) > 4.5


def test_audio_is_read_when_it_is_needed(pipeline: ASRInferencePipeline, tmp_path: Path) -> None:
    late = tmp_path / "late.wav"
    options = TranscribeOptions(search=SEARCH, batch_secs=1.0, no_speech_threshold=1.0)
    transcripts = pipeline.stream_results([*(clip(1.0, i) for i in range(8)), late], options)
    next(transcripts)
    soundfile.write(late, noise(0.5), RATE)
    assert len(list(transcripts)) == 8


def test_a_streaming_model_reads_any_length_as_generate_does() -> None:
    pipeline = create_pipeline("streaming")
    model = pipeline.model
    assert isinstance(model, Wav2Vec2LlamaModel)
    audio = torch.from_numpy(noise(3.3))
    batch = AsrBatch(normalize(audio)[None], [len(audio)], [], None)
    (hypotheses,) = generate(model, batch, pipeline.beam_search_config)
    text = pipeline.tokenizer.create_decoder()(torch.tensor(hypotheses[0].tokens))
    inputs: list[AudioInput] = [{"waveform": audio, "sample_rate": RATE}, clip(0.6, 1)]
    assert pipeline.transcribe(inputs)[0] == text
    transcripts = results(pipeline, inputs, search=pipeline.beam_search_config)
    assert transcripts[0].text == text
    secs = model.streaming_config.segment_secs
    starts = [segment.start for segment in transcripts[0].segments]
    assert len(starts) > 1
    assert starts == pytest.approx([round(start / secs) * secs for start in starts])


def test_causal_normalisation_is_another_result() -> None:
    pipeline = create_pipeline("streaming")
    ramp = noise(3.0) * np.linspace(0.01, 5.0, 3 * RATE, dtype=np.float32)
    inputs: list[AudioInput] = [{"waveform": ramp, "sample_rate": RATE}]
    texts = {
        name: [
            segment.tokens for segment in results(pipeline, inputs, normalization=name)[0].segments
        ]
        for name in ("clip", "causal")
    }
    assert texts["clip"] != texts["causal"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"nbest": 3}, ConfigError, "`nbest 3` needs as many beams, but `search.nbest` is 2"),
        ({"chunk_secs": 0.1}, ConfigError, "chunk_secs"),
        ({"batch_secs": 0.0}, ConfigError, "batch_secs"),
        ({"hotword_weight": -1.0}, ConfigError, "hotword_weight"),
        ({"lm_weight": -1.0}, ConfigError, "lm_weight"),
        ({"normalization": "whole"}, ConfigError, "clip or causal"),
        ({"lang": "deu_Latn", "languages": ("eng_Latn",)}, ConfigError, "choose one"),
        ({"lang": "german"}, UnknownLanguageError, "deu_Latn"),
        ({"languages": ("deu_Latn", "eng_Latin")}, UnknownLanguageError, "eng_Latn"),
        ({"script": "Latin"}, ConfigError, "Latn"),
        ({"hotwords": "Lovelace"}, ConfigError, r"write \['Lovelace'\]"),
        ({"languages": "eng_Latn"}, ConfigError, r"write \['eng_Latn'\]"),
    ],
)
def test_options_out_of_range_are_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        TranscribeOptions(**{"search": SEARCH, **options})


def test_lists_of_strings_become_tuples() -> None:
    options = TranscribeOptions(hotwords=["Ada"], languages=["eng", "deu"])  # type: ignore[arg-type]
    assert (options.hotwords, options.languages) == (("Ada",), ("eng", "deu"))


def test_what_the_model_cannot_do_is_told_before_any_audio_is_read() -> None:
    plain, streaming = create_pipeline("llm_asr"), create_pipeline("streaming")
    with pytest.raises(BatchError, match="takes no language"):
        results(plain, ["missing.wav"], lang="deu_Latn")
    with pytest.raises(BatchError, match="takes no language"):
        results(plain, ["missing.wav"], languages=("deu_Latn", "eng_Latn"))
    with pytest.raises(ConfigError, match="give `lang`"):
        results(streaming, ["missing.wav"], languages=("deu_Latn", "eng_Latn"))
    with pytest.raises(BatchError, match="reads examples before"):
        results(create_pipeline("zero_shot"), ["missing.wav"])
    with pytest.raises(UnknownNameError, match="model card"):
        results(plain, ["missing.wav"], word_timestamps=True, aligner="no_such_model")


def test_audio_that_comes_once_cannot_be_normalised_as_a_whole_by_streaming_models() -> None:
    pipeline = create_pipeline("streaming")
    samples = (noise(1.2) * 20_000).astype("<i2").tobytes()
    with pytest.raises(TranscriptionError, match="choose causal normalisation"):
        results(pipeline, [RawPcm(io.BytesIO(samples), RATE)], normalization="clip")
    (transcript,) = results(pipeline, [RawPcm(io.BytesIO(samples), RATE)], normalization="causal")
    assert transcript.duration == pytest.approx(1.2)


@pytest.mark.parametrize("nbest", [2, 3])
def test_the_search_is_that_of_the_pipeline_with_as_many_beams_as_are_needed(nbest: int) -> None:
    pipeline = create_pipeline()
    assert pipeline.beam_search_config.nbest == 2
    (transcript,) = pipeline.stream_results(
        clip(0.7), TranscribeOptions(nbest=nbest, no_speech_threshold=1.0)
    )
    assert len(transcript.segments[0].alternatives) == nbest
