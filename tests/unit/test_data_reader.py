"""The reader: the budget of audio, shuffling, sharding, and exact resume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from fairseq2.data.tokenizers import Tokenizer, load_tokenizer
from fairseq2.datasets import DataReader, Seq2SeqBatch
from fairseq2.device import CPU
from fairseq2.gang import create_fake_gangs
from hypothesis import given
from hypothesis import strategies as st

from wavellama.data.dataset import AsrDataset
from wavellama.data.plan import ReaderOptions, bucket_sizes
from wavellama.data.toy import ToyTones, ToyTonesConfig
from wavellama.data.utterance import Utterance
from wavellama.errors import DataError, UnknownLanguageError, UnknownNameError
from wavellama.text.languages import LanguageTable
from wavellama.units import seconds_to_samples

OPTIONS = ReaderOptions(batch_audio_secs=4.0, max_audio_secs=2.0)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer("toy_tokenizer")


def create_reader(
    tokenizer: Tokenizer, options: ReaderOptions, dataset: AsrDataset | None = None
) -> DataReader[Seq2SeqBatch]:
    dataset = dataset or ToyTones(ToyTonesConfig(num_train=40))
    return dataset.create_reader("train", tokenizer, create_fake_gangs(CPU), options)


def read_names(reader: DataReader[Seq2SeqBatch]) -> list[str]:
    return [name for batches in reader for batch in batches for name in columns(batch, "audio")]


def columns(batch: Seq2SeqBatch, name: str) -> list[str]:
    assert isinstance(batch.example, dict)
    return list(batch.example[name])


def test_every_utterance_is_read_once(tokenizer: Tokenizer) -> None:
    names = read_names(create_reader(tokenizer, replace(OPTIONS, shuffle=True)))
    assert sorted(names) == sorted(f"train-{i}" for i in range(40))


def test_no_batch_exceeds_the_budget(tokenizer: Tokenizer) -> None:
    for batches in create_reader(tokenizer, replace(OPTIONS, shuffle=True)):
        for batch in batches:
            assert batch.source_seqs.numel() <= seconds_to_samples(OPTIONS.batch_audio_secs)


@given(
    budget=st.floats(0.1, 500.0),
    longest=st.floats(0.1, 100.0),
    shortest=st.floats(0.0, 50.0),
)
def test_bucket_sizes_hold_the_budget(budget: float, longest: float, shortest: float) -> None:
    options = ReaderOptions(
        batch_audio_secs=max(budget, longest), max_audio_secs=longest, min_audio_secs=shortest
    )
    sizes = bucket_sizes(options)
    assert sizes[-1][1] == seconds_to_samples(longest)
    for rows, samples in sizes:
        assert rows >= 1
        # Half a sample of rounding per row is all that a bucket may be over.
        assert rows * (samples - 1) <= seconds_to_samples(options.batch_audio_secs)


def test_text_and_audio_are_padded_and_normalised(tokenizer: Tokenizer) -> None:
    batch = next(iter(create_reader(tokenizer, OPTIONS)))[0]
    decode = tokenizer.create_decoder()
    for i, text in enumerate(columns(batch, "text")):
        tokens = batch.target_seqs[i, : batch.target_seq_lens[i]]
        assert decode(tokens) == text
        waveform = batch.source_seqs[i, : batch.source_seq_lens[i]]
        assert abs(float(waveform.mean())) < 1e-5
        assert float(waveform.std(unbiased=False)) == pytest.approx(1.0, abs=1e-3)
        assert not batch.source_seqs[i, batch.source_seq_lens[i] :].any()


def test_orders_differ_between_epochs_and_agree_between_runs(tokenizer: Tokenizer) -> None:
    options = replace(OPTIONS, shuffle=True)
    first, second = create_reader(tokenizer, options), create_reader(tokenizer, options)
    epoch = read_names(first)
    assert epoch == read_names(second)
    first.reset()
    assert read_names(first) != epoch


@pytest.mark.parametrize("num_read", [1, 3, 5])
def test_a_saved_state_resumes_exactly(tokenizer: Tokenizer, num_read: int) -> None:
    options = replace(OPTIONS, shuffle=True)
    reader = create_reader(tokenizer, options)
    for _ in range(num_read):
        next(reader)
    state = reader.state_dict()
    resumed = create_reader(tokenizer, options)
    resumed.load_state_dict(state)
    assert read_names(resumed) == read_names(reader)


def test_lengths_outside_the_limits_are_left_out(tokenizer: Tokenizer) -> None:
    options = replace(OPTIONS, min_audio_secs=0.5, max_audio_secs=0.6)
    reader = create_reader(tokenizer, options)
    durations = [float(d) for batches in reader for b in batches for d in columns(b, "duration")]
    assert durations
    assert all(0.5 <= duration <= 0.6 for duration in durations)


def test_a_split_that_limits_leave_empty_is_an_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="no utterance of 5 to 6 seconds"):
        create_reader(tokenizer, replace(OPTIONS, min_audio_secs=5, max_audio_secs=6))


def test_an_unknown_split_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"tain.* train"):
        ToyTones(ToyTonesConfig()).utterances("tain")


class Sized(AsrDataset):
    """Utterances of given durations, of silence."""

    def __init__(self, durations: Sequence[float]) -> None:
        self._durations = durations

    def utterances(self, split: str) -> Sequence[Utterance]:
        from pathlib import Path

        return [Utterance(Path(str(i)), "a", d) for i, d in enumerate(self._durations)]

    def read_audio(self, utterance: Utterance) -> torch.Tensor:
        return torch.zeros(seconds_to_samples(utterance.duration))


@given(durations=st.lists(st.floats(0.11, 3.0), min_size=1, max_size=40))
def test_batches_of_any_durations_hold_the_budget(durations: list[float]) -> None:
    tokenizer = load_tokenizer("toy_tokenizer")
    options = ReaderOptions(batch_audio_secs=6.0, max_audio_secs=3.0, shuffle=True)
    reader = create_reader(tokenizer, options, Sized(durations))
    sizes = [batch.source_seqs.numel() for batches in reader for batch in batches]
    assert all(size <= seconds_to_samples(6.0) for size in sizes)


def test_a_language_that_the_model_does_not_know_is_told_before_anything_is_read(
    tokenizer: Tokenizer,
) -> None:
    known = replace(OPTIONS, model_languages=LanguageTable.of(["en", "ita_Latn"]))
    create_reader(tokenizer, known)
    with pytest.raises(UnknownLanguageError, match="'ita_Latn' is not a known language code"):
        create_reader(tokenizer, replace(OPTIONS, model_languages=LanguageTable.of(["eng_Latn"])))
