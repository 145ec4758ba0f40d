"""The model of the package on recorded human speech: what it writes, when, live and in pieces."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median
from typing import Final

import pytest
import torch

from tests.e2e.forked import run_forked
from tests.e2e.test_transcribe import MINI
from wavellama import ASRInferencePipeline, TranscribeOptions, align
from wavellama.audio.load import load_audio
from wavellama.data.manifest_dataset import (
    ManifestDataset,
    ManifestDatasetConfig,
    open_manifest_dataset,
)
from wavellama.data.utterance import Utterance
from wavellama.metrics.error_rates import count_edits
from wavellama.pipeline.options import DEFAULT_MODEL
from wavellama.text.normalize import normalize_text
from wavellama.units import SAMPLE_RATE

SONNET: Final = MINI / "audio/sonnet.ogg"


@pytest.fixture(scope="module")
def pipeline() -> ASRInferencePipeline:
    return ASRInferencePipeline(dtype=torch.float32)


@pytest.fixture(scope="module")
def dataset() -> ManifestDataset:
    return open_manifest_dataset(ManifestDatasetConfig(path=MINI))


def _cer(pairs: Iterable[tuple[str, str]]) -> float:
    """Return the share of characters that are wrong, of (reference, hypothesis)."""
    edits = [count_edits(normalize_text(said), normalize_text(heard)) for said, heard in pairs]
    return sum(edit.char_edits for edit in edits) / sum(edit.num_chars for edit in edits)


def _sonnet_text(dataset: ManifestDataset) -> str:
    return " ".join(line.text for line in dataset.utterances("sonnet"))


def _inputs(dataset: ManifestDataset, clips: Sequence[Utterance]) -> list[dict[str, object]]:
    return [{"waveform": dataset.read_audio(clip), "sample_rate": SAMPLE_RATE} for clip in clips]


def _recognise(
    pipeline: ASRInferencePipeline, dataset: ManifestDataset, clips: Sequence[Utterance]
) -> float:
    langs = [clip.lang for clip in clips]
    texts = pipeline.transcribe(_inputs(dataset, clips), lang=langs, batch_size=8)
    return _cer(zip((clip.text for clip in clips), texts, strict=True))


@pytest.mark.parametrize(("lang", "bound"), [("ita_Latn", 0.14), ("rus_Cyrl", 0.14)])
def test_other_sentences_of_known_voices(
    pipeline: ASRInferencePipeline, dataset: ManifestDataset, lang: str, bound: float
) -> None:
    clips = [clip for clip in dataset.utterances("test") if clip.lang == lang]
    assert len(clips) == 29
    assert _recognise(pipeline, dataset, clips) < bound


def test_voices_that_it_has_never_heard(
    pipeline: ASRInferencePipeline, dataset: ManifestDataset
) -> None:
    clips = [*dataset.utterances("test_unseen"), *dataset.utterances("sonnet")]
    assert len(clips) == 26
    assert _recognise(pipeline, dataset, clips) < 0.20


def test_a_long_recording_is_cut_and_its_words_have_times(
    pipeline: ASRInferencePipeline, dataset: ManifestDataset
) -> None:
    said = _sonnet_text(dataset)
    options = TranscribeOptions(lang="eng_Latn", word_timestamps=True)
    (whole,) = pipeline.stream_results(SONNET, options)
    assert _cer([(said, whole.text)]) < 0.22
    assert whole.duration == pytest.approx(53.0, abs=1.0)
    words = [word for segment in whole.segments for word in segment.words]
    assert len(words) == pytest.approx(len(said.split()), rel=0.15)
    starts = [word.start for word in words]
    assert starts == sorted(starts)
    assert all(word.start <= word.end for word in words)


def test_live_text_is_that_of_the_file_and_is_cut_like_it(
    pipeline: ASRInferencePipeline, dataset: ManifestDataset
) -> None:
    options = TranscribeOptions(lang="eng_Latn")
    session = pipeline.live(replace(options, update_secs=3600.0))  # nothing tentative
    for piece in torch.split(load_audio(SONNET), SAMPLE_RATE // 10):
        session.feed(piece)
    session.finish()
    (whole,) = pipeline.stream_results(SONNET, options)
    said = _sonnet_text(dataset)
    assert abs(_cer([(said, session.text)]) - _cer([(said, whole.text)])) < 0.05
    assert max(segment.end - segment.start for segment in session.segments) <= 5.0


def test_lines_begin_where_they_are_said(
    pipeline: ASRInferencePipeline, dataset: ManifestDataset
) -> None:
    lines = dataset.utterances("sonnet")
    model, tokenizer = pipeline.model, pipeline.tokenizer
    words = align(model, tokenizer, SONNET, " ".join(line.text for line in lines), "eng_Latn")
    place, errors = 0, []
    for line in lines:
        # The known lines follow each other without gaps: each begins in the pause before it.
        pause_begin = words[place - 1].end if place > 0 else words[0].start
        errors.append(abs((pause_begin + words[place].start) / 2 - (line.offset or 0.0)))
        place += len(line.text.split())
    assert median(errors) <= 0.25


def test_the_command_needs_nothing_but_a_file() -> None:
    result = run_forked("transcribe", str(SONNET), "--format", "json")
    assert result.returncode == 0, result.stderr
    assert DEFAULT_MODEL in result.stderr
    assert len(json.loads(result.stdout)["text"].split()) > 60


def test_languages_are_found_where_none_is_told(
    pipeline: ASRInferencePipeline, dataset: ManifestDataset
) -> None:
    (untold,) = pipeline.stream_results(SONNET)
    (told,) = pipeline.stream_results(SONNET, TranscribeOptions(lang="eng_Latn"))
    assert (untold.language, untold.text) == ("eng_Latn", told.text)
    clips = [clip for clip in dataset.utterances("test") if clip.duration > 1.5][::2]
    found = [result.language for result in pipeline.stream_results(_inputs(dataset, clips))]
    right = sum(lang == clip.lang for lang, clip in zip(found, clips, strict=True))
    assert right >= 0.8 * len(clips) >= 6


def test_a_language_that_it_does_not_know_is_named() -> None:
    result = run_forked("transcribe", str(SONNET), "--lang", "deu_Latn")
    assert result.returncode == 2
    assert "deu_Latn" in result.stderr


def test_the_rows_of_a_batch_do_not_meet(
    pipeline: ASRInferencePipeline, dataset: ManifestDataset
) -> None:
    clips = [*dataset.utterances("test_unseen"), *dataset.utterances("sonnet")][::3]
    inputs, langs = _inputs(dataset, clips), [clip.lang for clip in clips]
    alone = pipeline.transcribe(inputs, lang=langs, batch_size=1)
    assert pipeline.transcribe(inputs, lang=langs, batch_size=len(inputs)) == alone
