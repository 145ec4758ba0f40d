"""Faults that other packages met."""

from __future__ import annotations

import pytest
from fairseq2.utils.structured import StandardValueConverter

from wavellama.tasks.config import DecodingSection, EvalConfig, TrainConfig, TranscribeConfig


@pytest.mark.parametrize("kls", [TrainConfig, EvalConfig, TranscribeConfig])
def test_another_generator_is_not_given_the_configuration_of_fairseq2s(kls: type[object]) -> None:
    """``--config del:seq2seq_generator.config`` left that of fairseq2's beam search behind."""
    structured = StandardValueConverter().structure({"seq2seq_generator": {"name": "theirs"}}, kls)
    assert structured.seq2seq_generator == DecodingSection(name="theirs", config={})
