"""``ASRInferencePipeline`` on a small random model."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from fairseq2.data.tokenizers import load_tokenizer
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrConfig, create_wav2vec2_asr_model

from tests.fakes import arch_config, create_model, golden_case, golden_model, tiny_model
from wavellama import (
    ASRInferencePipeline,
    TranscribeOptions,
    Wav2Vec2LlamaBeamSearchConfig,
    Wav2Vec2LlamaModel,
)
from wavellama.audio.load import AudioInput, load_audio
from wavellama.decoding.ctc import collapse
from wavellama.errors import (
    AudioError,
    BatchError,
    ConfigError,
    TranscriptionError,
    UnknownLanguageError,
    UnknownNameError,
)

MINI = Path(__file__).parents[2] / "assets/corpora/mini"

RATE = 16_000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    draws = np.random.default_rng(seed).standard_normal(int(RATE * seconds))
    return (0.1 * draws).astype(np.float32)


def create_pipeline(
    case: str = "llm_asr_lid", dtype: torch.dtype = torch.float32
) -> ASRInferencePipeline:
    model = golden_copy(case)
    search = Wav2Vec2LlamaBeamSearchConfig(nbest=2, max_new_tokens=12)
    return ASRInferencePipeline(
        None,
        model=model,
        tokenizer=load_tokenizer("toy_tokenizer"),
        device="cpu",
        dtype=dtype,
        beam_search_config=search,
    )


def golden_copy(name: str) -> Wav2Vec2LlamaModel:
    """Return a golden model of one's own, which the pipeline may move and cast."""
    copy = create_model(golden_case(name).config(), dtype=torch.float32)
    copy.load_state_dict(golden_model(name).state_dict())
    return copy


@pytest.fixture(scope="module")
def pipeline() -> ASRInferencePipeline:
    return create_pipeline()


def test_all_kinds_of_input_agree(pipeline: ASRInferencePipeline, tmp_path: Path) -> None:
    samples = noise(0.7)
    path = tmp_path / "clip.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    encoded = path.read_bytes()
    as_mapping: AudioInput = {"waveform": samples, "sample_rate": RATE}
    inputs: list[AudioInput] = [
        str(path),
        path,
        encoded,
        np.frombuffer(encoded, np.int8),
        as_mapping,
    ]
    texts = pipeline.transcribe(inputs, batch_size=3)
    assert len(set(texts)) == 1
    assert texts[0]


def test_a_single_input_needs_no_list(pipeline: ASRInferencePipeline) -> None:
    clip = {"waveform": noise(0.5), "sample_rate": RATE}
    assert pipeline.transcribe(clip) == pipeline.transcribe([clip])


def test_order_and_batch_size_do_not_matter(pipeline: ASRInferencePipeline) -> None:
    clips = [{"waveform": noise(0.3 + 0.2 * i, i), "sample_rate": RATE} for i in range(5)]
    one_by_one = [pipeline.transcribe(clip)[0] for clip in clips]
    for batch_size in (1, 2, 5):
        assert pipeline.transcribe(clips, batch_size=batch_size) == one_by_one
    assert pipeline.transcribe(clips[::-1], batch_size=3) == one_by_one[::-1]


def test_languages_may_be_one_for_all_or_one_or_none_for_each(
    pipeline: ASRInferencePipeline,
) -> None:
    clips = [{"waveform": noise(0.5, i), "sample_rate": RATE} for i in range(2)]
    plain, given = pipeline.transcribe(clips), pipeline.transcribe(clips, lang="deu_Latn")
    mixed = pipeline.transcribe(clips, lang=[None, "DEU_latn"])
    assert mixed == [plain[0], given[1]]
    assert given != plain, "the language has an effect"


@pytest.mark.parametrize("code", ["de", "deu", "de-DE", "DEU_latn"])
def test_transcripts_have_the_models_own_code(pipeline: ASRInferencePipeline, code: str) -> None:
    clip = {"waveform": noise(0.5), "sample_rate": RATE}
    (transcript,) = pipeline.stream_results(
        clip, TranscribeOptions(no_speech_threshold=1.0), lang=code
    )
    assert transcript.segments[0].language == transcript.language == "deu_Latn"


def test_bad_languages_are_told_before_any_audio_is_read(pipeline: ASRInferencePipeline) -> None:
    with pytest.raises(UnknownLanguageError, match="deu_Latn"):
        pipeline.transcribe(["missing.wav"], lang="deu_Latin")
    with pytest.raises(BatchError, match="2 entries for 1"):
        pipeline.transcribe(["missing.wav"], lang=["deu_Latn", None])


def test_a_model_without_languages_refuses_one() -> None:
    with pytest.raises(BatchError, match="takes no language"):
        create_pipeline("llm_asr").transcribe(["missing.wav"], lang="deu_Latn")


def test_one_bad_file_is_reported_and_the_others_are_done(
    pipeline: ASRInferencePipeline, tmp_path: Path
) -> None:
    clip = {"waveform": noise(0.5), "sample_rate": RATE}
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    with pytest.raises(TranscriptionError, match=r"bad\.wav") as caught:
        pipeline.transcribe([clip, bad, clip], batch_size=2)
    text = pipeline.transcribe(clip)[0]
    assert caught.value.texts == [text, None, text]
    assert list(caught.value.failures) == [1]
    with pytest.raises(AudioError, match=r"bad\.wav"):
        pipeline.transcribe(bad)


def test_other_rates_are_resampled(pipeline: ASRInferencePipeline) -> None:
    seconds = np.arange(RATE * 3) / (RATE * 3)
    high = np.sin(2 * np.pi * 300 * seconds).astype(np.float32)
    low = high[::3].copy()
    texts = pipeline.transcribe(
        [{"waveform": high, "sample_rate": RATE * 3}, {"waveform": low, "sample_rate": RATE}]
    )
    assert texts[0] == texts[1]


def test_a_given_model_is_cast(tmp_path: Path) -> None:
    """A float32 model and bfloat16 audio do not meet (fault B42 of the reference)."""
    pipeline = create_pipeline(dtype=torch.bfloat16)
    assert {p.dtype for p in pipeline.model.parameters()} == {torch.bfloat16}
    assert isinstance(pipeline.transcribe({"waveform": noise(0.5), "sample_rate": RATE})[0], str)


def test_the_search_is_one_beam_unless_configured() -> None:
    pipeline = ASRInferencePipeline(
        None, model=tiny_model(dtype=torch.float32), tokenizer=load_tokenizer("toy_tokenizer")
    )
    assert pipeline.beam_search_config.nbest == 1


def test_ctc_models_transcribe_too() -> None:
    config: Wav2Vec2AsrConfig = arch_config("tiny").wav2vec2_asr_config
    torch.manual_seed(0)
    model = create_wav2vec2_asr_model(config)
    pipeline = ASRInferencePipeline(
        None, model=model, tokenizer=load_tokenizer("toy_tokenizer"), dtype=torch.float32
    )
    clips = [{"waveform": noise(0.4 + 0.3 * i, i), "sample_rate": RATE} for i in range(3)]
    assert pipeline.transcribe(clips, batch_size=3) == [pipeline.transcribe(c)[0] for c in clips]


def test_collapse_merges_repeats_and_drops_blanks() -> None:
    assert collapse(torch.tensor([0, 5, 5, 0, 5, 7, 7, 0])) == [5, 5, 7]


def test_what_cannot_transcribe_is_refused() -> None:
    tokenizer = load_tokenizer("toy_tokenizer")
    with pytest.raises(ConfigError, match="A Linear does not recognise speech"):
        ASRInferencePipeline(None, model=torch.nn.Linear(1, 1), tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="give both"):
        ASRInferencePipeline(None, tokenizer=tokenizer)


def test_bytes_of_other_formats(pipeline: ASRInferencePipeline) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(0.5), RATE, format="FLAC")
    assert len(pipeline.transcribe([buffer.getvalue()])) == 1


def test_a_clip_that_is_too_long_does_not_cost_the_others_their_texts(
    pipeline: ASRInferencePipeline,
) -> None:
    good, long = ({"waveform": noise(secs), "sample_rate": RATE} for secs in (0.5, 8.0))
    options = TranscribeOptions(
        search=pipeline.beam_search_config, chunk_secs=10.0, no_speech_threshold=1.0
    )
    with pytest.raises(TranscriptionError, match="does not fit max_generation_length") as caught:
        list(pipeline.stream_results([good, long, good], options))
    text = pipeline.transcribe(good)[0]
    assert caught.value.texts == [text, None, text]


def test_audio_is_cut_where_it_is_too_long_for_the_model(pipeline: ASRInferencePipeline) -> None:
    ogg = sorted((MINI / "audio/ita_Latn").rglob("*.ogg"))
    audio = torch.cat([load_audio(path) for path in ogg[:6]])
    assert len(audio) > 10 * RATE, "more than there are positions for"
    assert pipeline.transcribe({"waveform": audio, "sample_rate": RATE})[0]


def test_an_unknown_card_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="omniASR_LLM_300M"):
        ASRInferencePipeline("omniASR_LLM_30M")
