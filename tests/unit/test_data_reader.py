"""The reader: the budget of audio, shuffling, sharding, and exact resume."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from fairseq2.data.tokenizers import Tokenizer, load_tokenizer
from fairseq2.datasets import DataReader, Seq2SeqBatch, SyncMode
from fairseq2.device import CPU
from fairseq2.gang import Gangs, create_fake_gangs
from hypothesis import given
from hypothesis import strategies as st

from tests.gangs import run_ranks
from wavellama.data.dataset import AsrDataset
from wavellama.data.plan import ReaderOptions
from wavellama.data.toy import ToyTones, ToyTonesConfig
from wavellama.data.utterance import Utterance
from wavellama.errors import AudioError, DataError, UnknownLanguageError, UnknownNameError
from wavellama.text.languages import LanguageTable
from wavellama.units import seconds_to_samples

OPTIONS = ReaderOptions(batch_audio_secs=4.0, max_audio_secs=2.0, max_bad_share=1.0)
TONES = ToyTonesConfig(num_train=40)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer("toy_tokenizer")


def create_reader(
    tokenizer: Tokenizer, options: ReaderOptions, dataset: AsrDataset | None = None
) -> DataReader[Seq2SeqBatch]:
    dataset = dataset or ToyTones(TONES)
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


class Broken(AsrDataset):
    """The toy tones, but for some utterances without audio."""

    def __init__(self, bad: Collection[int]) -> None:
        self._tones, self._bad = ToyTones(TONES), bad

    def utterances(self, split: str) -> Sequence[Utterance]:
        return self._tones.utterances(split)

    def read_audio(self, utterance: Utterance) -> torch.Tensor:
        if int(utterance.audio.name.split("-")[1]) in self._bad:
            raise AudioError(str(utterance.audio), "it is broken.")
        return self._tones.read_audio(utterance)


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


def read_steps(
    reader: DataReader[Seq2SeqBatch], num_steps: int | None = None
) -> list[list[list[str]]]:
    """Return what the next steps read: the names of the rows of each batch."""
    steps: list[list[list[str]]] = []
    while num_steps is None or len(steps) < num_steps:
        try:
            batches = next(reader)
        except StopIteration:
            break
        steps.append([columns(batch, "audio") for batch in batches])
    return steps


def rows_of(steps: Sequence[Sequence[Sequence[str]]]) -> list[str]:
    return [name for step in steps for batch in step for name in batch]


TRAINING = replace(OPTIONS, shuffle=True, sync_mode=SyncMode.UNTIL_FIRST)


@pytest.mark.parametrize("worlds", [(1,), (2,), (3,), (1, 2), (2, 1), (1, 2, 1), (3, 5, 2)])
@pytest.mark.parametrize("bad", [(), (3, 7, 8, 9, 21)], ids=["good", "bad"])
def test_every_row_is_read_once_in_whatever_worlds(
    tokenizer: Tokenizer, worlds: tuple[int, ...], bad: tuple[int, ...]
) -> None:
    """Each world reads two steps of the epoch from where the one before was left."""

    def work(
        num_steps: int | None, state: dict[str, object] | None, gangs: Gangs
    ) -> tuple[list[list[list[str]]], dict[str, object]]:
        reader = Broken(bad).create_reader("train", tokenizer, gangs, TRAINING)
        if state is not None:
            reader.load_state_dict(state)
        return read_steps(reader, num_steps), reader.state_dict()

    state: dict[str, object] | None = None
    read: list[str] = []
    for i, size in enumerate(worlds):
        results = run_ranks(size, partial(work, 2 if i + 1 < len(worlds) else None, state))
        state = results[0][1]
        assert all(own == state for _, own in results), "any process can go on from any file"
        assert len({len(steps) for steps, _ in results}) == 1, "all take equally many steps"
        read += [name for steps, _ in results for name in rows_of(steps)]
    assert sorted(read) == sorted(f"train-{i}" for i in range(40) if i not in bad)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("num_read", [0, 1, 3, 100])
def test_the_same_world_resumes_exactly(tokenizer: Tokenizer, size: int, num_read: int) -> None:
    """Also where a batch before was unreadable, and behind the end of the epoch."""

    def work(gangs: Gangs) -> bool:
        dataset = Broken((3, 7, 8, 9, 21))
        reader, resumed = (
            dataset.create_reader("train", tokenizer, gangs, TRAINING) for _ in range(2)
        )
        read_steps(reader, num_read)
        resumed.load_state_dict(reader.state_dict())
        rests = []
        for each in (reader, resumed):
            rest = read_steps(each)
            each.reset()
            rests.append((rest, read_steps(each)))
        return rests[0] == rests[1]

    assert run_ranks(size, work) == [True] * size


def test_two_processes_read_what_one_accumulates(tokenizer: Tokenizer) -> None:
    def work(gangs: Gangs) -> list[list[list[str]]]:
        options = replace(TRAINING, num_accumulate=2 // gangs.dp.size)
        return read_steps(ToyTones(TONES).create_reader("train", tokenizer, gangs, options))

    (one,), two = run_ranks(1, work), run_ranks(2, work)
    together = [first + second for first, second in zip(*two, strict=True)]
    assert one[:-1] == together[: len(one) - 1]
    assert sorted(rows_of(one)) == sorted(rows_of(together))


def test_processes_never_read_the_same_row(tokenizer: Tokenizer) -> None:
    def work(gangs: Gangs) -> list[str]:
        return read_names(ToyTones(TONES).create_reader("train", tokenizer, gangs, TRAINING))

    first, second, third = map(set, run_ranks(3, work))
    assert len(first | second | third) == len(first) + len(second) + len(third)


def test_validation_goes_on_until_the_last_process_is_done(tokenizer: Tokenizer) -> None:
    """No batch is cut for it, and every row is read."""

    def work(gangs: Gangs) -> list[list[list[str]]]:
        return read_steps(ToyTones(TONES).create_reader("train", tokenizer, gangs, OPTIONS))

    (alone,), steps = run_ranks(1, work), run_ranks(4, work)
    assert [batch for own in zip(*steps, strict=True) for step in own for batch in step] == [
        batch for step in alone for batch in step
    ]


def test_a_state_of_other_batches_begins_the_epoch_again(
    tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    """Its position would skip rows, and repeat others."""
    reader = create_reader(tokenizer, TRAINING)
    read_steps(reader)
    reader.reset()
    read_steps(reader, 2)
    resumed = create_reader(tokenizer, replace(TRAINING, batch_audio_secs=5.0))
    resumed.load_state_dict(reader.state_dict())
    assert "epoch 2 begins again" in caplog.text
    assert sorted(rows_of(read_steps(resumed))) == sorted(f"train-{i}" for i in range(40))


def test_a_split_without_any_audio_is_an_error(tokenizer: Tokenizer) -> None:
    def work(gangs: Gangs) -> None:
        reader = Broken(range(40)).create_reader("train", tokenizer, gangs, TRAINING)
        with pytest.raises(DataError, match="There is nothing to read"):
            next(reader)

    run_ranks(2, work)
