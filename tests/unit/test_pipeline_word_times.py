"""Words with their times, languages, hotwords and scripts through the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from fairseq2.data.tokenizers import load_tokenizer
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrConfig, create_wav2vec2_asr_model

from tests.fakes import arch_config, tiny_model
from tests.unit.test_pipeline_inference import RATE, create_pipeline, noise
from wavellama import ASRInferencePipeline, ContextExample, TranscribeOptions, Transcript
from wavellama.audio.load import AudioInput
from wavellama.batch import AsrBatch
from wavellama.decoding import examples, language
from wavellama.decoding.examples import read_examples
from wavellama.errors import ConfigError, TranscriptionError
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.pipeline import checks, recogniser, word_times
from wavellama.pipeline.word_times import Times

SEARCH = Wav2Vec2LlamaBeamSearchConfig(nbest=2, max_new_tokens=12)

SPEECH: AudioInput = {"waveform": noise(1.5), "sample_rate": RATE}


def transcribe(pipeline: ASRInferencePipeline, **options: Any) -> Transcript:
    chosen = TranscribeOptions(**{"search": SEARCH, "no_speech_threshold": 1.0, **options})
    (transcript,) = pipeline.stream_results(SPEECH, chosen)
    return transcript


def pipeline_of(model: torch.nn.Module) -> ASRInferencePipeline:
    tokenizer = load_tokenizer("toy_tokenizer")
    return ASRInferencePipeline(None, model=model, tokenizer=tokenizer, dtype=torch.float32)


def ctc_pipeline() -> ASRInferencePipeline:
    config: Wav2Vec2AsrConfig = arch_config("tiny").wav2vec2_asr_config
    torch.manual_seed(3)
    return pipeline_of(create_wav2vec2_asr_model(config))


def head_pipeline() -> ASRInferencePipeline:
    return pipeline_of(tiny_model({"ctc_head": True}, dtype=torch.float32))


PIPELINES: dict[str, Callable[[], ASRInferencePipeline]] = {
    "attention": create_pipeline,
    "head": head_pipeline,
    "ctc": ctc_pipeline,
    "streaming": lambda: create_pipeline("streaming"),
}


@pytest.mark.parametrize("kind", PIPELINES)
def test_words_are_the_text_and_follow_each_other_within_the_segment(kind: str) -> None:
    pipeline = PIPELINES[kind]()
    search = SEARCH if kind != "ctc" else Wav2Vec2LlamaBeamSearchConfig(nbest=1)
    transcript = transcribe(pipeline, word_timestamps=True, search=search)
    assert transcript.segments
    assert transcript.timings.alignment_secs > 0.0
    for segment in transcript.segments:
        assert [word.text for word in segment.words] == segment.text.split()
        times = [time for word in segment.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert (segment.start, segment.end) == (times[0], times[-1])
        assert times[-1] <= transcript.duration + 1e-6
        assert all(0.0 <= (word.confidence or 0.0) <= 1.0 for word in segment.words)


def test_a_word_lasts_from_its_first_token_to_the_end_of_its_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def times_of(model: object, batch: object, tokens: list[int], prefix: object) -> Times:
        return [(i / 100, i / 100 + 0.004) for i in range(len(tokens))]

    monkeypatch.setattr(word_times, "attention_times", times_of)
    (segment,) = transcribe(create_pipeline(), word_timestamps=True).segments

    begins, ends = (
        [round(1000 * part) for part in parts]
        for parts in zip(*((word.start, word.end) for word in segment.words), strict=True)
    )
    assert {begin % 10 for begin in begins} == {0}
    assert {end % 10 for end in ends} == {4}
    assert begins[0] < 20


def test_a_text_that_cannot_be_aligned_has_equal_parts() -> None:
    pipeline = head_pipeline()
    short: AudioInput = {"waveform": noise(0.06), "sample_rate": RATE}
    options = TranscribeOptions(search=SEARCH, word_timestamps=True, no_speech_threshold=1.0)
    (transcript,) = pipeline.stream_results(short, options)
    for segment in transcript.segments:
        lengths = [word.end - word.start for word in segment.words]
        assert all(b >= a - 1e-9 for a, b in pairwise(sorted(lengths)))
        assert segment.words[-1].end <= transcript.duration + 1e-6


def test_a_language_is_detected_among_those_that_may_be() -> None:
    transcript = transcribe(create_pipeline(), languages=("deu_Latn", "eng_Latn", "fra_Latn"))
    (segment,) = transcript.segments
    assert segment.language in ("deu_Latn", "eng_Latn", "fra_Latn")
    assert segment.language == transcript.language
    assert segment.language_probability is not None
    assert 1 / 3 <= segment.language_probability <= 1.0
    told = transcribe(create_pipeline(), lang=segment.language)
    assert told.text == transcript.text, "what is detected is decoded with"


def test_languages_that_are_given_are_not_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[int] = []
    detect = language.detect_languages

    def count(model: Any, batch: AsrBatch, *args: Any, **config: Any) -> Any:
        numbers.append(batch.num_rows)
        return detect(model, batch, *args, **config)

    monkeypatch.setattr("wavellama.pipeline.languages.detect_languages", count)
    pipeline = create_pipeline()
    options = TranscribeOptions(languages=("eng_Latn", "fra_Latn"), no_speech_threshold=1.0)
    first, second = pipeline.stream_results([SPEECH] * 2, options, lang=[None, "de"])
    assert first.language in options.languages
    assert first.language_probability is not None
    assert (second.language, second.language_probability) == ("deu_Latn", None)
    told = transcribe(pipeline, lang="deu_Latn", search=None)
    assert second.text == told.text
    assert len(list(pipeline.stream_results(SPEECH, options, lang="deu_Latn"))) == 1
    assert numbers == [1]


def test_examples_are_encoded_once_for_words_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = create_pipeline("zero_shot")
    read: list[str | None] = []

    def count(model: Any, given: Any, lang: str | None) -> Any:
        read.append(lang)
        return read_examples(model, given, lang)

    monkeypatch.setattr(examples, "read_examples", count)
    example = ContextExample(SPEECH, "ab")
    options = TranscribeOptions(search=SEARCH, word_timestamps=True, no_speech_threshold=1.0)
    inputs: list[AudioInput] = [
        {"waveform": noise(0.5 + i, i), "sample_rate": RATE} for i in range(3)
    ]
    transcripts = list(pipeline.stream_results(inputs, options, examples=[example]))
    assert any(segment.words for one in transcripts for segment in one.segments)
    assert len(read) == 2, "once for the texts, and once for the times"


def test_hotwords_and_scripts_steer_the_text() -> None:
    pipeline = create_pipeline()
    plain = transcribe(pipeline).text
    steered = transcribe(pipeline, hotwords=("hello",), hotword_weight=30.0).text
    assert "hello" in steered.split()
    assert "hello" not in plain.split()
    assert transcribe(pipeline, hotwords=("hello",), hotword_weight=0.0).text == plain
    latin = transcribe(pipeline, script="Latn").text
    assert all(char.isascii() for char in latin)
    with pytest.raises(ConfigError, match="no letters of the script"):
        transcribe(pipeline, script="Cyrl")


def greedy(**fields: Any) -> dict[str, Any]:
    return {"search": Wav2Vec2LlamaBeamSearchConfig(nbest=1, **fields)}


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("ctc", {"hotwords": ("a",)}, "`hotwords` cannot be used"),
        ("ctc", {"script": "Latn"}, "`script` cannot be used"),
        ("ctc", {"search": SEARCH}, "`search.nbest` cannot be used"),
        ("ctc", {"search": SEARCH, "nbest": 2}, "`nbest` cannot be used"),
        ("ctc", {"draft_model": "x"}, "`draft_model` cannot be used"),
        ("ctc", greedy(ctc_weight=0.3), "ctc_weight` cannot be used"),
        ("ctc", greedy(ctc_draft=True), "ctc_draft` cannot be used"),
        ("ctc", greedy(weights="int8"), "`search.weights` cannot be used"),
        ("ctc", greedy(weights="int4"), "`search.weights` cannot be used"),
        ("ctc", {"normalization": "causal"}, "reads each piece of a file as a whole"),
        ("head", {"normalization": "causal"}, "reads each piece of a file as a whole"),
        ("head", {"aligner": "omniASR_CTC_300M"}, "Without `word_timestamps`"),
        ("streaming", {"vad": False}, "cuts audio by itself: `vad`"),
        ("streaming", {"chunk_secs": 10.0}, "cuts audio by itself: `chunk_secs`"),
        ("streaming", {"draft_model": "x"}, "`draft_model` cannot be used"),
        ("streaming", {"languages": ("eng_Latn",)}, r"\(give `lang`\)"),
    ],
)
def test_a_model_refuses_what_it_cannot_do(kind: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        transcribe(PIPELINES[kind](), **{**greedy(), **options})


@pytest.mark.parametrize("kind", PIPELINES)
def test_options_that_say_nothing_fit_all_models(kind: str) -> None:
    pipeline = PIPELINES[kind]()
    checks.check_options(pipeline.model, TranscribeOptions(), is_live=False)
    checks.check_options(pipeline.model, TranscribeOptions(), is_live=True)
    pipeline.live(TranscribeOptions(update_secs=0.5))


def test_live_audio_is_always_cut_in_silences() -> None:
    with pytest.raises(ConfigError, match="where somebody pauses"):
        create_pipeline().live(TranscribeOptions(vad=False))


@pytest.mark.parametrize("kind", ["ctc", "attention"])
def test_what_is_not_a_number_is_told_of_the_input(kind: str) -> None:
    pipeline = PIPELINES[kind]()
    with torch.no_grad():
        next(iter(pipeline.model.final_proj.parameters())).fill_(torch.nan)
    with pytest.raises(TranscriptionError, match="NaN") as caught:
        transcribe(pipeline, **greedy())
    assert list(caught.value.failures) == [0]


def test_arrays_of_any_type_and_layout() -> None:
    pipeline = create_pipeline()
    samples = noise(0.6)
    as_int = (samples * 32_767).astype(np.int16)
    stereo = np.stack([as_int, as_int])
    inputs: list[AudioInput] = [
        {"waveform": audio, "sample_rate": RATE}
        for audio in (as_int, torch.from_numpy(as_int), stereo, stereo.T)
    ]
    assert len(set(pipeline.transcribe(inputs))) == 1


def ctc_model(vocab_size: int | None = None) -> torch.nn.Module:
    config: Wav2Vec2AsrConfig = arch_config("tiny").wav2vec2_asr_config
    if vocab_size is not None:
        config.target_vocab_size = vocab_size
    torch.manual_seed(3)
    return create_wav2vec2_asr_model(config)


def load(model: torch.nn.Module) -> Callable[..., torch.nn.Module]:
    return lambda name, **options: model


def test_a_companion_drafts_texts_that_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = head_pipeline()
    greedy = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=12)
    plain = transcribe(pipeline, search=greedy)
    asked: list[torch.Tensor] = []
    companion = ctc_model().float()
    companion.register_forward_pre_hook(lambda module, args: asked.append(args[0]))
    monkeypatch.setattr(recogniser, "load_model", load(companion))
    drafted = transcribe(pipeline, search=greedy, draft_model="companion")
    assert drafted.text == plain.text
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (ctc_model(77), "a vocabulary of 77 tokens, but the model has"),
        (tiny_model(dtype=torch.float32), "a draft takes a CTC model"),
    ],
)
def test_what_cannot_draft_is_refused(
    monkeypatch: pytest.MonkeyPatch, model: torch.nn.Module, words: str
) -> None:
    monkeypatch.setattr(recogniser, "load_model", load(model))
    with pytest.raises(ConfigError, match=words):
        transcribe(head_pipeline(), draft_model="companion")
