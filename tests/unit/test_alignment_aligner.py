"""``align`` on speech of tones, whose words have known times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from fairseq2.data.tokenizers import load_tokenizer
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrConfig, create_wav2vec2_asr_model
from torch import Tensor

import wavellama
from tests.fakes import arch_config, tiny_model
from tests.tones import CONVOLUTIONS, FILTER_BANKS, TOKENIZER, SpokenWord, hearing_model, speak
from wavellama.alignment import emissions
from wavellama.alignment.aligner import Aligner, align, fill_gaps
from wavellama.alignment.emissions import CtcEmitter
from wavellama.data.words import AlignedWord
from wavellama.errors import AlignmentError, AudioError, ConfigError, UnknownLanguageError

FRAME_SECS = [(CONVOLUTIONS, 0.02), (FILTER_BANKS, 0.04)]

RATE = 16_000

SPOKEN = [
    SpokenWord("from", 0.3),
    SpokenWord("fairest", 0.9),
    SpokenWord("as", 2.0, letter_secs=0.3),
    SpokenWord("be", 2.75),
]


def clip(waveform: Tensor) -> dict[str, Any]:
    return {"waveform": waveform, "sample_rate": RATE}


def text_of(spoken: list[SpokenWord]) -> str:
    return " ".join(word.text for word in spoken)


def assert_heard(words: list[AlignedWord], spoken: list[SpokenWord], tolerance: float) -> None:
    """Check that the words are those that were spoken, at their times."""
    assert [word.text for word in words] == [word.text for word in spoken]
    for word, known in zip(words, spoken, strict=True):
        assert word.start == pytest.approx(known.start, abs=tolerance)
        assert word.end == pytest.approx(known.end, abs=tolerance)


@pytest.mark.parametrize(("front_end", "frame_secs"), FRAME_SECS)
def test_words_are_found_within_a_frame(
    monkeypatch: pytest.MonkeyPatch, front_end: dict[str, Any], frame_secs: float
) -> None:
    model = hearing_model(monkeypatch, front_end)
    waveform = speak(SPOKEN, 3.5)
    words = align(model, load_tokenizer(TOKENIZER), clip(waveform), text_of(SPOKEN), "eng_Latn")
    assert_heard(words, SPOKEN, frame_secs)
    assert all(word.score is not None and word.score > 0.9 for word in words)


def test_a_word_that_is_not_spoken_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = hearing_model(monkeypatch, CONVOLUTIONS)
    spoken = [SPOKEN[0], *SPOKEN[2:]]
    audio = clip(speak(spoken, 3.5))
    words = align(model, load_tokenizer(TOKENIZER), audio, "from q as be", "eng_Latn")
    scores = {word.text: word.score or 0.0 for word in words}
    assert scores.pop("q") < 0.01
    assert min(scores.values()) > 0.999


@pytest.mark.parametrize(("front_end", "frame_secs"), FRAME_SECS)
def test_times_do_not_drift_in_long_audio(
    monkeypatch: pytest.MonkeyPatch, front_end: dict[str, Any], frame_secs: float
) -> None:
    model = hearing_model(monkeypatch, front_end)
    spoken = [SpokenWord("abc"[: 1 + i % 3] + "xyz"[i % 3], 0.5 + 1.7 * i) for i in range(70)]
    words = Aligner(model, load_tokenizer(TOKENIZER)).align(speak(spoken, 121.3), text_of(spoken))
    assert_heard(words, spoken, frame_secs)


def test_speech_before_and_after_the_text_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sounds like the first and the last word, and is longer than they are."""
    model = hearing_model(monkeypatch, CONVOLUTIONS)
    before = SpokenWord("fair", 0.3, letter_secs=0.2)
    after = SpokenWord("eee", 5.0, letter_secs=0.3)
    spoken = [SpokenWord(word.text, word.start + 1.0, word.letter_secs) for word in SPOKEN]
    waveform = speak([before, *spoken, after], 6.5)
    words = Aligner(model, load_tokenizer(TOKENIZER)).align(waveform, text_of(SPOKEN))
    assert_heard(words, spoken, 0.02)


def test_speech_within_the_text_that_is_not_in_it_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = hearing_model(monkeypatch, CONVOLUTIONS)
    waveform = speak([*SPOKEN, SpokenWord("q", 1.8, 0.05)], 3.5)
    words = Aligner(model, load_tokenizer(TOKENIZER)).align(waveform, text_of(SPOKEN))
    assert_heard(words, SPOKEN, 0.02)


def test_the_words_are_returned_as_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    model = hearing_model(monkeypatch, CONVOLUTIONS)
    aligner = Aligner(model, load_tokenizer(TOKENIZER))
    words = aligner.align(speak(SPOKEN, 3.5), "\tFrom  “Fáirest”\nas — BE!")
    assert [word.text for word in words] == ["From", "“Fáirest”", "as", "—", "BE!"]
    assert words[3] == AlignedWord("—", words[2].end, words[4].start, 0.0)
    assert_heard(
        [*words[:3], words[4]],
        [
            SpokenWord(word.text, s.start, s.letter_secs)
            for word, s in zip([*words[:3], words[4]], SPOKEN, strict=True)
        ],
        1.0,
    )


def test_all_kinds_of_audio_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, tokenizer = hearing_model(monkeypatch, CONVOLUTIONS), load_tokenizer(TOKENIZER)
    path = tmp_path / "clip.wav"
    waveform = speak(SPOKEN, 3.5)
    soundfile.write(path, waveform.numpy(), RATE, subtype="FLOAT")
    expected = align(model, tokenizer, clip(waveform), text_of(SPOKEN))
    assert align(model, tokenizer, path, text_of(SPOKEN)) == expected
    assert align(model, tokenizer, path.read_bytes(), text_of(SPOKEN)) == expected


def test_the_language_says_what_a_word_is(monkeypatch: pytest.MonkeyPatch) -> None:
    aligner = Aligner(hearing_model(monkeypatch, CONVOLUTIONS), load_tokenizer(TOKENIZER))
    waveform = speak(SPOKEN, 3.5)
    texts = [
        [word.text for word in aligner.align(waveform, "from 大韓 be", lang)]
        for lang in ("cmn_Hans", "kor_Hang")
    ]
    assert texts == [["from", "大", "韓", "be"], ["from", "大韓", "be"]]


def test_it_is_a_public_name() -> None:
    assert wavellama.align is align


@pytest.mark.parametrize("front_end", [CONVOLUTIONS, FILTER_BANKS])
def test_a_random_model_gives_times_within_the_clip(front_end: dict[str, Any]) -> None:
    model = tiny_model(front_end, dtype=torch.float32)
    waveform = torch.randn(RATE // 2 + 123)
    words = Aligner(model, load_tokenizer(TOKENIZER)).align(waveform, "a bc d")
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert times[0] >= 0.0
    assert times[-1] <= len(waveform) / RATE


def ctc_model() -> torch.nn.Module:
    """Return a random model of fairseq2's own CTC family."""
    config = arch_config("tiny").wav2vec2_asr_config
    assert isinstance(config, Wav2Vec2AsrConfig)
    torch.manual_seed(0)
    return create_wav2vec2_asr_model(config)


def test_ctc_models_align_too() -> None:
    words = align(ctc_model(), load_tokenizer(TOKENIZER), clip(torch.randn(RATE)), "one two")
    assert [word.text for word in words] == ["one", "two"]


def test_a_model_in_training_stays_so_and_drops_nothing_out() -> None:
    model = ctc_model().train()
    frozen = next(model.children()).eval()
    aligner = Aligner(model, load_tokenizer(TOKENIZER))
    waveform = torch.randn(RATE)
    in_training = aligner.align(waveform, "one two")
    assert (model.training, frozen.training) == (True, False)
    model.eval()
    assert aligner.align(waveform, "one two") == in_training
    assert not model.training


def test_errors_of_the_text_come_before_the_audio_is_read() -> None:
    model, tokenizer = tiny_model(CONVOLUTIONS, dtype=torch.float32), load_tokenizer(TOKENIZER)
    with pytest.raises(AlignmentError, match="no text to align"):
        align(model, tokenizer, "missing.wav", " ")
    with pytest.raises(UnknownLanguageError, match="eng_Latn"):
        align(model, tokenizer, "missing.wav", "a", "eng_Latin")
    with pytest.raises(AudioError, match="no such file"):
        align(model, tokenizer, "missing.wav", "a", "eng_Latn")


def test_a_text_that_is_too_long_for_the_audio_is_refused() -> None:
    model, tokenizer = tiny_model(CONVOLUTIONS, dtype=torch.float32), load_tokenizer(TOKENIZER)
    with pytest.raises(AlignmentError, match="4 tokens, which need 5 frames, but the audio has 4"):
        align(model, tokenizer, clip(torch.randn(400 + 3 * 320)), "abbc")


def test_audio_without_a_frame_is_refused() -> None:
    aligner = Aligner(tiny_model(CONVOLUTIONS, dtype=torch.float32), load_tokenizer(TOKENIZER))
    with pytest.raises(AlignmentError, match=r"has 399 samples, but a single frame takes 400"):
        aligner.align(torch.randn(399), "a")
    assert len(aligner.align(torch.randn(400), "a")) == 1


def test_models_that_cannot_align_are_refused() -> None:
    tokenizer = load_tokenizer(TOKENIZER)
    with pytest.raises(ConfigError, match="no CTC head"):
        Aligner(tiny_model(), tokenizer)
    with pytest.raises(ConfigError, match="A Linear cannot align"):
        Aligner(torch.nn.Linear(2, 2), tokenizer)


@pytest.mark.parametrize("kind", ["head", "ctc"])
def test_a_foreign_tokenizer_is_refused(kind: str) -> None:
    model = ctc_model() if kind == "ctc" else tiny_model(CONVOLUTIONS, dtype=torch.float32)
    with pytest.raises(ConfigError, match=r"vocabulary of 32 tokens, but the tokenizer has 72"):
        Aligner(model, load_tokenizer("mini_tokenizer"))


def test_output_that_is_not_a_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = hearing_model(monkeypatch, CONVOLUTIONS)
    hear = emissions.compute_logits
    monkeypatch.setattr(emissions, "compute_logits", lambda *args: hear(*args) * torch.nan)
    with pytest.raises(AlignmentError, match="not a number"):
        Aligner(model, load_tokenizer(TOKENIZER)).align(speak(SPOKEN, 3.5), "from")


def test_windows_shorter_than_their_margins_are_refused() -> None:
    model = tiny_model(CONVOLUTIONS, dtype=torch.float32)
    with pytest.raises(ConfigError, match="Windows of 2 s leave nothing between margins of 1 s"):
        CtcEmitter(model, window_secs=2.0, margin_secs=1.0)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([None, (1, 2)], [(0, 1), (1, 2)]),
        ([(1, 2), None], [(1, 2), (2, 10)]),
        ([(1, 2), None, None, (4, 5)], [(1, 2), (2, 3), (3, 4), (4, 5)]),
        ([(1, 2), None, (2, 5)], [(1, 2), (2, 2), (2, 5)]),
        ([None, None], [(0, 5), (5, 10)]),
        ([], []),
    ],
)
def test_words_without_a_time_share_the_gap(
    times: list[tuple[float, float] | None], expected: list[tuple[float, float]]
) -> None:
    known = ["a" if time is None else AlignedWord("a", *time, 0.5) for time in times]
    filled = fill_gaps(known, 10.0)
    assert [(time.start, time.end) for time in filled] == expected
    scores = [0.0 if time is None else 0.5 for time in times]
    assert [time.score for time in filled] == scores
