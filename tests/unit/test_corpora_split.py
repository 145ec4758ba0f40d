"""Cleaning by clip and speaker, and the split into parts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import soundfile

from wavellama.corpora.clean import clean
from wavellama.corpora.clip import Clip, RawClip
from wavellama.corpora.split import novel_clips, split_clips, split_sentence
from wavellama.units import SAMPLE_RATE


def _raw(sentence: str, text: str = "ab", lang: str = "eng_Latn", *, out: bool = False) -> RawClip:
    return RawClip(
        audio=Path("a"),
        transcript=text,
        lang=lang,
        speaker=f"{lang}-{out}",
        sentence=sentence,
        held_out=out,
    )


def _clip(sentence: str, text: str, lang: str = "eng_Latn", *, out: bool = False) -> Clip:
    raw = _raw(sentence, text, lang, out=out)
    return Clip(
        raw=raw, path=Path("a"), text=text, duration=1.0, active=1.0, rms_db=-20.0, digest=sentence
    )


def _sentences(part: str, count: int) -> list[str]:
    """Return ids whose hash puts them into a part."""
    return [s for s in map(str, range(1000)) if split_sentence(s) == part][:count]


def test_the_shares_are_right() -> None:
    parts = Counter(split_sentence(f"corpus/{i}") for i in range(20_000))
    assert abs(parts["test"] / 20_000 - 0.08) < 0.006
    assert abs(parts["dev"] / 20_000 - 0.06) < 0.006


def test_the_split_never_changes() -> None:
    """These are golden: another hash would move sentences of published numbers."""
    assert [split_sentence(f"asterisk/digits/{i}") for i in range(12)] == GOLDEN


GOLDEN = ["dev", "train", "test", "train", "dev"] + ["train"] * 7


def test_a_sentence_is_in_the_same_part_in_all_languages() -> None:
    clips = [_clip(str(i), f"w {lang} {i}", lang) for i in range(60) for lang in ("a_Latn", "b")]
    where = {
        clip.raw.sentence: set[str]() for members in split_clips(clips).values() for clip in members
    }
    for part, members in split_clips(clips).items():
        for clip in members:
            where[clip.raw.sentence].add(part)
    assert all(len(parts) == 1 for parts in where.values())


def test_texts_of_train_are_left_out_of_dev_and_test() -> None:
    (train,), (test,), (dev,) = (_sentences(part, 1) for part in ("train", "test", "dev"))
    clips = [
        _clip(train, "решётка", "rus_Cyrl"),
        _clip(test, "решетка", "rus_Cyrl"),
        _clip(dev, "решетка", "bul_Cyrl"),
    ]
    parts = split_clips(clips)
    assert [len(parts[name]) for name in ("train", "dev", "test")] == [1, 1, 0]


def test_a_voice_held_out_is_in_no_other_part() -> None:
    train = _sentences("train", 2)
    clips = [_clip(train[0], "ab"), *(_clip(s, "ab", out=True) for s in _sentences("test", 3))]
    parts = split_clips(clips)
    assert len(parts["test_unseen"]) == 3
    assert parts["test"] == parts["dev"] == []
    assert novel_clips(parts, "test_unseen") == []


def test_the_order_of_the_clips_does_not_matter() -> None:
    clips = [_clip(str(i), f"w{i}") for i in range(50)]
    assert split_clips(clips) == split_clips(clips[::-1])


def _write(path: Path, secs: float, amplitude: float = 0.3, seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).uniform(-1, 1, int(secs * SAMPLE_RATE)) * amplitude
    soundfile.write(path, noise, SAMPLE_RATE, format="FLAC")
    return path


def test_bad_clips_are_counted_by_reason(tmp_path: Path) -> None:
    loud, quiet = _write(tmp_path / "a", 1), _write(tmp_path / "b", 1, amplitude=1e-3)
    other, third = (_write(tmp_path / name, 1, seed=seed) for seed, name in enumerate("cd", 1))
    audio = {
        _raw("good", "one"): other,
        _raw("digit", "1"): loud,
        _raw("quiet", "two"): quiet,
        _raw("same", "three"): loud,
        _raw("same too", "three"): loud,
        _raw("claims", "four"): third,
        _raw("claims else", "five"): third,
        _raw("another language", "six", "ita_Latn"): third,
    }
    gone = _raw("gone", "seven")
    cleaned = clean([*audio, gone], audio)
    assert [clip.raw.sentence for clip in cleaned.clips] == ["good", "same", "another language"]
    assert cleaned.dropped == {
        ("eng_Latn", "transcript with a digit"): 1,
        ("eng_Latn", "audio below -50 dB"): 1,
        ("eng_Latn", "copy of another recording"): 3,
        ("eng_Latn", "audio that cannot be decoded"): 1,
    }


def test_a_clip_that_says_more_than_its_text_is_dropped(tmp_path: Path) -> None:
    texts = ["ab" * (2 + i % 7) for i in range(35)]
    raw = [_raw(str(i), text) for i, text in enumerate(texts)]
    secs = [0.1 * len(text) * (3 if i == 20 else 1) for i, text in enumerate(texts)]
    paths = [_write(tmp_path / str(i), length, seed=i) for i, length in enumerate(secs)]
    audio = dict(zip(raw, paths, strict=True))
    cleaned = clean(raw, audio)
    assert {r.sentence for r in raw} - {c.raw.sentence for c in cleaned.clips} == {"20"}
    assert cleaned.dropped == {("eng_Latn", "length that does not fit the transcript"): 1}
