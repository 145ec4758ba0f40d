"""The door between fairseq2's batch and ours."""

from __future__ import annotations

import pytest
import torch
from fairseq2.datasets import Seq2SeqBatch

from tests.fakes import make_batch, make_waveforms
from wavellama.batch import BatchColumns, to_asr_batch
from wavellama.errors import BatchError


def _batch(example: object, rows: int = 2) -> Seq2SeqBatch:
    return Seq2SeqBatch(
        torch.zeros(rows, 500), [500] * rows, torch.full((rows, 1), 4), None, example=example
    )


def test_targets_lose_their_padding() -> None:
    batch = to_asr_batch(make_batch(make_waveforms([500, 600]), [[4, 5, 6], [7]]))
    assert batch.targets == [[4, 5, 6], [7]]
    assert batch.audio_lens == [500, 600]
    assert batch.num_rows == 2


@pytest.mark.parametrize("example", [None, {}, {"lang": None}, {"other": ["x"]}])
def test_without_a_column_no_language_is_known(example: object) -> None:
    assert to_asr_batch(_batch(example)).langs is None


@pytest.mark.parametrize("langs", [["eng_Latn", None], ("eng_Latn", "deu_Latn"), [None, None]])
def test_languages_are_one_entry_per_row(langs: object) -> None:
    assert to_asr_batch(_batch({"lang": langs})).langs == list(langs)  # type: ignore[call-overload]


def test_the_column_has_a_configurable_name() -> None:
    batch = _batch({"lang": ["eng_Latn"] * 2, "language": ["deu_Latn"] * 2})
    assert to_asr_batch(batch, BatchColumns(language="language")).langs == ["deu_Latn"] * 2


@pytest.mark.parametrize("langs", ["eng_Latn", ["eng_Latn"], ["eng_Latn"] * 3, {"a": 1}, 5])
def test_a_column_of_another_shape_is_refused(langs: object) -> None:
    with pytest.raises(BatchError, match="2 rows") as caught:
        to_asr_batch(_batch({"lang": langs}))
    assert repr(langs) in str(caught.value)
    assert "`lang`" in str(caught.value)


def test_the_typed_batch_shares_nothing_that_can_change() -> None:
    langs = ["eng_Latn", None]
    batch = _batch({"lang": langs})
    typed = to_asr_batch(batch)
    assert typed.langs is not None
    typed.langs[0] = "changed"
    typed.audio_lens[0] = 1
    assert langs == ["eng_Latn", None]
    assert list(batch.source_seq_lens) == [500, 500]


@pytest.mark.parametrize("example", ["text", [], [{"lang": "eng_Latn"}]])
def test_metadata_that_is_no_mapping_is_an_error_where_languages_are_read(example: object) -> None:
    batch = make_batch(make_waveforms([500]))
    batch = Seq2SeqBatch(
        batch.source_seqs, [500], batch.target_seqs, list(batch.target_seq_lens), example=example
    )
    with pytest.raises(BatchError, match="mapping of columns"):
        to_asr_batch(batch)
    assert to_asr_batch(batch, BatchColumns(language=None)).langs is None


def test_a_language_must_be_text() -> None:
    batch = make_batch(make_waveforms([500]), langs=[7])  # type: ignore[list-item]
    with pytest.raises(BatchError, match=r"but is \[7\]"):
        to_asr_batch(batch)
