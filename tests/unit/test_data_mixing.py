"""Corpora and languages are read as often as the formula says, and rows in turn."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from fairseq2.data.tokenizers import load_tokenizer
from fairseq2.datasets import SyncMode
from fairseq2.gang import Gangs
from hypothesis import given
from hypothesis import strategies as st

from tests.gangs import run_ranks
from wavellama.data.dataset import AsrDataset
from wavellama.data.facts import Facts, Names, StoredUtterances
from wavellama.data.mixing import Betas, Mixture, Part, compute_shares, count_draws
from wavellama.data.plan import ReaderOptions
from wavellama.data.shuffle import WINDOW
from wavellama.data.utterance import Utterance
from wavellama.errors import DataError
from wavellama.units import seconds_to_samples

SIZES = {
    Part("studio", "eng_Latn"): 6000,
    Part("studio", "ita_Latn"): 3000,
    Part("street", "eng_Latn"): 900,
    Part("street", "rus_Cyrl"): 100,
}

BY_ROOT = Betas(corpus=0.5, language=0.5)


def utterances(sizes: Mapping[Part, int], secs: float = 1.0) -> list[Utterance]:
    return [
        Utterance(Path(f"{part.corpus}-{part.lang}-{i}"), "a", secs, part.lang, corpus=part.corpus)
        for part, size in sizes.items()
        for i in range(size)
    ]


def part_of(utterance: Utterance) -> Part:
    return Part(*utterance.audio.name.split("-")[:2])


def draw(rows: Sequence[Utterance], betas: Betas, seed: int = 0) -> list[Utterance]:
    drawn = Mixture(rows, betas).draw_rows(torch.Generator().manual_seed(seed))
    return [rows[index] for index in drawn.tolist()]


def test_shares_are_those_of_the_formula() -> None:
    """Worked out by hand: corpora of 90 and 10 hours, languages of 60 and 30, and of 9 and 1."""
    corpora = 0.9**0.5, 0.1**0.5
    studio, street = (own / sum(corpora) for own in corpora)
    first, second = (6 / 9) ** 0.25, (3 / 9) ** 0.25
    third, fourth = 0.9**0.25, 0.1**0.25
    expected = [
        *(studio * first / (first + second), studio * second / (first + second)),
        *(street * third / (third + fourth), street * fourth / (third + fourth)),
    ]
    shares = compute_shares(SIZES, Betas(corpus=0.5, language=0.25))
    assert list(shares) == list(SIZES)
    assert list(shares.values()) == pytest.approx(expected)
    assert sum(shares.values()) == pytest.approx(1.0)


def test_one_is_by_hours_and_zero_all_alike() -> None:
    by_hours = compute_shares(SIZES, Betas(corpus=1.0, language=1.0))
    assert list(by_hours.values()) == pytest.approx([0.6, 0.3, 0.09, 0.01])
    assert compute_shares(SIZES, Betas()) == pytest.approx(by_hours)
    alike = compute_shares(SIZES, Betas(corpus=0.0, language=0.0))
    assert list(alike.values()) == pytest.approx([0.25] * 4)
    corpora = compute_shares(SIZES, Betas(corpus=0.0))
    assert list(corpora.values()) == pytest.approx([1 / 3, 1 / 6, 0.45, 0.05])


@pytest.mark.parametrize("betas", [BY_ROOT, Betas(corpus=0.0), Betas(corpus=0.3, language=0.0)])
def test_ten_thousand_draws_are_within_a_hundredth_of_the_formula(betas: Betas) -> None:
    """So is each thousand of them: a part comes at regular intervals."""
    drawn = [part_of(utterance) for utterance in draw(utterances(SIZES), betas)]
    assert len(drawn) == 10_000
    shares = compute_shares(SIZES, betas)
    for size in (1000, 10_000):
        for begin in range(0, 10_000, size):
            counts = Counter(drawn[begin : begin + size])
            for part, share in shares.items():
                assert counts[part] / size == pytest.approx(share, abs=0.01)


def test_hours_count_and_not_rows() -> None:
    rows = [
        *utterances({Part("short", "eng_Latn"): 300}, secs=1.0),
        *utterances({Part("long", "eng_Latn"): 100}, secs=9.0),
    ]
    drawn = Counter(part_of(utterance).corpus for utterance in draw(rows, Betas(corpus=1.0)))
    assert drawn == {"short": 100, "long": 300}


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    corpus=st.floats(0.0, 2.0),
    language=st.floats(0.0, 2.0),
)
def test_no_row_comes_again_before_all_of_its_part(
    sizes: list[int], corpus: float, language: float
) -> None:
    rows = utterances({Part(f"c{i % 3}", f"l{i}"): size for i, size in enumerate(sizes)})
    drawn = Counter(draw(rows, Betas(corpus=corpus, language=language)))
    assert sum(drawn.values()) == len(rows)
    for part in {part_of(row) for row in rows}:
        times = [drawn[row] for row in rows if part_of(row) == part]
        assert max(times) - min(times) <= 1
        assert max(times) >= 1, "no part is left out"


@given(
    weights=st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=20),
    more=st.integers(0, 1000),
)
def test_counts_are_whole_and_close_to_shares(weights: list[float], more: int) -> None:
    shares = {Part("", str(i)): weight / sum(weights) for i, weight in enumerate(weights)}
    total = len(weights) + more
    counts = count_draws(shares, total)
    assert sum(counts.values()) == total
    assert min(counts.values()) >= 1
    for part, share in shares.items():
        assert counts[part] < total * share + 1 or counts[part] == 1


def test_epochs_read_other_rows_of_a_part_that_gets_less() -> None:
    rows = utterances(SIZES)
    first, second = (set(draw(rows, BY_ROOT, seed)) for seed in (1, 2))
    assert draw(rows, BY_ROOT, 1) == draw(rows, BY_ROOT, 1)
    studio = {row for row in rows if part_of(row) == Part("studio", "eng_Latn")}
    assert first & studio != second & studio


def test_shares_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        Mixture(utterances(SIZES), Betas(corpus=1.0, language=0.0))
    assert (
        "studio ita_Latn: 45.00% of its rows (by the formula 45.00%), each of 3000 rows, 0.83 h,"
        " 1.50 times" in caplog.text
    )
    assert caplog.text.count("_Latn: ") + caplog.text.count("_Cyrl: ") == 4


def test_rows_that_name_no_corpus_are_named_and_mixed(caplog: pytest.LogCaptureFixture) -> None:
    rows = [*utterances({Part("studio", "eng_Latn"): 30}), Utterance(Path("x.wav"), "a", 1.0)]
    drawn = draw(rows, Betas(corpus=0.0, language=0.0))
    assert "1 of 31 rows name no corpus, such as x.wav; they are mixed as" in caplog.text
    assert "1 of 31 rows name no language, such as x.wav" in caplog.text
    assert sum(row.audio == Path("x.wav") for row in drawn) in (15, 16)


@pytest.mark.parametrize("kind", ["corpus", "language"])
def test_an_exponent_of_what_no_row_names_is_refused(kind: str) -> None:
    rows = [Utterance(Path("x.wav"), "a", 1.0)]
    with pytest.raises(DataError, match=f"`beta_{kind}` mixes the data by their {kind}, but no"):
        Mixture(rows, Betas(**{kind: 0.5}))


class Silent(AsrDataset):
    """Utterances of two corpora, one of which is small; all are silent."""

    def utterances(self, split: str) -> list[Utterance]:
        return utterances({Part("large", "eng_Latn"): 90, Part("small", "ita_Latn"): 30}, 0.1)

    def read_audio(self, utterance: Utterance) -> torch.Tensor:
        return torch.zeros(seconds_to_samples(utterance.duration))


@pytest.mark.parametrize("beta", [1.0, 0.0])
def test_processes_share_the_draws_of_an_epoch(beta: float) -> None:
    """No row is read by two of them, but where a part gets more than it has."""
    options = ReaderOptions(
        batch_audio_secs=0.8,
        max_audio_secs=0.2,
        shuffle=True,
        betas=Betas(corpus=beta),
        sync_mode=SyncMode.UNTIL_FIRST,
    )

    tokenizer = load_tokenizer("toy_tokenizer")

    def work(gangs: Gangs) -> list[str]:
        reader = Silent().create_reader("train", tokenizer, gangs, options)
        batches = [batch for step in reader for batch in step]
        return [name for batch in batches for name in cast("Any", batch.example)["audio"]]

    first, second = run_ranks(2, work)
    (alone,) = run_ranks(1, work)
    assert Counter(first + second) == Counter(alone)
    assert len(first) == len(second) == 60
    twice = set(first) & set(second)
    assert all(name.startswith("small") for name in twice)
    assert bool(twice) == (beta == 0.0)
    share = sum(name.startswith("small") for name in alone) / len(alone)
    assert share == (0.25 if beta == 1.0 else 0.5)


class _InGroups(StoredUtterances[Utterance]):
    """Rows of 20 corpora, 2000 of each, a hundred to a group."""

    @property
    def facts(self) -> Facts:
        places = np.arange(40_000)
        corpora = Names(places // 2000, [f"corpus {i}" for i in range(20)])
        return Facts(np.ones(40_000), Names(places * 0, ["eng_Latn"]), corpora, places // 100)

    def take(self, places: object) -> _InGroups:
        return self

    def __len__(self) -> int:
        return 40_000

    def __getitem__(self, index: Any) -> Any:
        return Utterance(Path("a"), "a", 1.0)


def test_of_each_of_many_corpora_few_groups_are_read_at_a_time() -> None:
    """A window had rows of every group of the data: each was read again for each window."""
    rows = _InGroups()
    order = Mixture(rows, Betas(corpus=0.0)).draw_rows(torch.Generator().manual_seed(0)).numpy()

    assert np.array_equal(np.sort(order), np.arange(40_000))
    groups = [len(np.unique(order[i : i + WINDOW] // 100)) for i in range(0, 40_000, WINDOW)]
    assert max(groups) <= 20 * 4
    assert (np.diff(order) == 1).mean() < 0.01
