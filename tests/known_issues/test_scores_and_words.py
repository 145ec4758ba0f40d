"""Faults in error rates, in what a word is, and in what is read for a row, one test each."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq2.data.tokenizers import load_tokenizer
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.device import CPU
from fairseq2.gang import create_fake_gangs
from torch import Tensor
from typing_extensions import override

from wavellama.data.dataset import AsrDataset
from wavellama.data.plan import Planner, ReaderOptions
from wavellama.data.utterance import Utterance
from wavellama.data.words import AlignedWord
from wavellama.metrics.error_rates import Edits, count_edits, macro_score, score
from wavellama.tasks.report import create_report, write_report
from wavellama.text.normalize import normalize_text
from wavellama.text.words import join_texts


def record(reference: str, hypothesis: str, lang: str | None = "eng_Latn") -> dict[str, object]:
    return {"reference": reference, "hypothesis": hypothesis, "lang": lang, "duration": 1.0}


def test_languages_are_resampled_independently() -> None:
    """All languages shared their draws, so that intervals were as wide as a single language's."""
    language = [Edits(i % 2 * 10, 10, i % 2, 1) for i in range(40)]
    one, many = score(language)["cer_ci95"], macro_score([language] * 16)["cer_ci95"]
    ratio = (one[1] - one[0]) / (many[1] - many[0])
    assert ratio == pytest.approx(4.0, rel=0.25)  # the mean of 16 independent ones


def test_a_language_without_references_does_not_count(tmp_path: Path) -> None:
    """Its edits were divided by one: a mean CER of 700 % from a single empty reference."""
    records = [record("abcd", "abcd"), record("...", "some text", "ita_Latn")]
    report = create_report(records)["normalized"]
    assert report["macro"]["cer"] == 0.0
    assert report["macro"]["num_utterances"] == 1
    assert list(report["languages"]) == ["eng_Latn"]
    assert "`macro`: ita_Latn, of which no reference has text" in write_report(records, tmp_path)


def test_a_report_shows_texts_with_bars_and_lines_as_cells(tmp_path: Path) -> None:
    """A bar in a text began a new cell of the table."""
    text = write_report([record("a|b", "a\u2028b")], tmp_path)
    assert "| eng_Latn | a\\|b | a b |  |" in text.splitlines()


def test_a_report_says_what_wrote_the_texts(tmp_path: Path) -> None:
    """The text of a CTC model was called that of a decoder."""
    row = record("abc", "abx")
    text = write_report([row], tmp_path)
    assert text.startswith("# CTC model\n")
    assert "| reference | CTC model |" in text
    text = write_report([{**row, "score": -1.0, "ctc_hypothesis": "aby"}], tmp_path)
    assert text.startswith("# Decoder\n")
    assert "| reference | decoder | CTC head |" in text
    assert "\n# CTC head\n" in text


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("می\u200cروم", "میروم"),  # Persian, zero width non-joiner
        ("क्\u200dष", "क्ष"),  # Hindi, zero width joiner
        ("co\u00adopération", "coopération"),  # soft hyphen
        ("\u200eשלום\u200f", "שלום"),  # marks of direction
        ("\ufeffword", "word"),
        ("❤\ufe0f love", "love"),  # a variation selector is no word
        ("ភាសា\u200bខ្មែរ", "ភាសា ខ្មែរ"),  # the zero width space does separate words
        ("a\u00a0b\u3000c\u2028d", "a b c d"),
    ],
)
def test_characters_that_are_not_shown_do_not_split_words(text: str, normalized: str) -> None:
    """Joiners and soft hyphens became spaces, so that one word was two."""
    assert normalize_text(text) == normalized


@pytest.mark.parametrize(
    ("reference", "hypothesis", "lang", "edits", "words"),
    [
        ("a\tb\nc d", "a b c d", "eng_Latn", 0, 4),
        ("a\u00a0b", "a b", "fra_Latn", 0, 2),
        ("你好世界", "你好地界", "cmn_Hans", 1, 4),
        ("大韓民國은 나라", "大韓國은 나라", "kor_Hang", 1, 2),
        ("བོད་སྐད་", "བོད་ཡིག་", "bod_Tibt", 1, 2),
        ("", "你好", "cmn_Hans", 2, 0),
    ],
)
def test_the_word_error_rate_counts_words_as_everything_else_does(
    reference: str, hypothesis: str, lang: str, edits: int, words: int
) -> None:
    """Words were what lies between plain spaces: a tab joined them, a Chinese text was one."""
    counted = count_edits(reference, hypothesis, lang=lang)
    assert (counted.word_edits, counted.num_words) == (edits, words)


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        (["one", "two"], "one two"),
        (["你好", "世界"], "你好世界"),
        (["ສະບາຍດີ", "ໂລກ"], "ສະບາຍດີໂລກ"),
        (["你好", "world", "世界"], "你好 world 世界"),
        (["", "one", ""], "one"),
    ],
)
def test_joined_texts_have_spaces_where_their_script_has(texts: list[str], joined: str) -> None:
    assert join_texts(texts) == joined


class Ramps(AsrDataset):
    """Utterances of one speaker whose samples all are their number."""

    def __init__(self, texts: Sequence[str], secs: float = 1.0) -> None:
        self._texts, self._secs = texts, secs

    @override
    def utterances(self, split: str) -> list[Utterance]:
        return [
            Utterance(
                Path(f"{i}"), text, self._secs, "cmn_Hans", words=(AlignedWord(text, 0.2, 0.8),)
            )
            for i, text in enumerate(self._texts)
        ]

    @override
    def read_audio(self, utterance: Utterance) -> Tensor:
        num_samples = int(16_000 * self._secs)
        noise = torch.from_numpy(np.random.default_rng(0).normal(size=num_samples))
        return noise.float() * (int(utterance.audio.name) + 1)


def batches(dataset: AsrDataset, options: ReaderOptions) -> list[Seq2SeqBatch]:
    tokenizer = load_tokenizer("toy_tokenizer")
    reader = dataset.create_reader("train", tokenizer, create_fake_gangs(CPU), options)
    return [batch for group in reader for batch in group]


def test_examples_never_show_a_part_of_the_target() -> None:
    """With `concat_p`, the second of two joined utterances was among the examples."""
    utterances = Ramps("abcdef").utterances("train")
    options = ReaderOptions(concat_p=1.0, num_examples=2, max_audio_secs=5.0)
    planner = Planner(utterances, options)
    plans = [planner.plan(i, random.Random(seed)) for seed in range(20) for i in range(6)]
    assert {len(plan.indices) for plan in plans} == {1, 2}
    for plan in plans:
        assert not set(plan.indices) & set(plan.examples)


def test_joined_rows_of_a_script_without_spaces_have_none() -> None:
    """Text and words of joined utterances got a space that nobody writes."""
    options = ReaderOptions(concat_p=1.0, max_audio_secs=5.0, batch_audio_secs=10.0)
    rows = 0
    for batch in batches(Ramps("你好世界"), options):
        assert isinstance(batch.example, dict)
        for text, words in zip(
            batch.example["text"], batch.example["text_words_merged"], strict=True
        ):
            rows += len(text) == 2
            assert " " not in text
            assert "".join(words) == text
    assert rows > 0


def test_an_utterance_is_never_joined_with_itself() -> None:
    utterances = Ramps("a").utterances("train")
    planner = Planner(utterances, ReaderOptions(concat_p=1.0, max_audio_secs=5.0))
    plans = [planner.plan(0, random.Random(seed)) for seed in range(20)]
    assert [plan.indices for plan in plans] == [(0,)] * 20


def test_slowed_audio_stays_below_the_longest() -> None:
    options = ReaderOptions(speeds=(0.5, 1.0), max_audio_secs=1.5)
    planner = Planner(Ramps("ab").utterances("train"), options)
    plans = [planner.plan(0, random.Random(seed)) for seed in range(20)]
    assert {plan.speed for plan in plans} == {1.0}
    assert {plan.num_samples for plan in plans} == {16_000}


def test_the_pause_before_a_joined_word_is_kept() -> None:
    """The words' times add up to where each ends in the joined audio."""
    options = ReaderOptions(concat_p=1.0, max_audio_secs=5.0, batch_audio_secs=10.0)
    joined = 0
    for batch in batches(Ramps("abcd"), options):
        assert isinstance(batch.example, dict)
        for durations in batch.example["word_duration"]:
            joined += len(durations) == 2
            assert np.cumsum(durations) == pytest.approx([0.8, 1.8][: len(durations)])
    assert joined > 0
