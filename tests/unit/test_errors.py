"""Errors name the value and the way out."""

from __future__ import annotations

import pytest

from wavellama import errors


def test_nearest_ignores_case_and_puts_the_best_first() -> None:
    known = ["omniASR_LLM_300M", "omniASR_LLM_3B", "omniASR_CTC_300M", "unrelated"]
    near = errors.nearest("omniasr_llm_300m", known)
    assert near[0] == "omniASR_LLM_300M"
    assert len(near) <= 3
    assert "unrelated" not in near


def test_nearest_finds_nothing_in_nothing() -> None:
    assert errors.nearest("x", []) == []
    assert errors.suggestion([]) == ""


def test_unknown_name_says_what_it_may_mean() -> None:
    error = errors.UnknownNameError("model", "omniASR_LM_7B", ["omniASR_LLM_7B"], " See cards.")
    assert (error.kind, error.name, error.near) == ("model", "omniASR_LM_7B", ["omniASR_LLM_7B"])
    assert (
        str(error) == "omniASR_LM_7B is not a known model. Did you mean omniASR_LLM_7B? See cards."
    )


def test_unknown_config_key_says_where_it_stands() -> None:
    error = errors.ConfigKeyError("n_best", "train.yaml", ["nbest", "length_norm"])
    assert error.near == ["nbest"]
    assert str(error) == "train.yaml has an unknown key `n_best`. Did you mean nbest?"


def test_context_too_long_names_both_lengths() -> None:
    message = str(errors.ContextTooLongError(90, 64))
    assert "90" in message
    assert "64" in message


@pytest.mark.parametrize(
    ("kls", "exit_code"),
    [
        (errors.ConfigError, 2),
        (errors.UnknownLanguageError, 2),
        (errors.BatchError, 2),
        (errors.AudioError, 1),
        (errors.CheckpointError, 1),
        (errors.DataError, 1),
        (errors.DecodingError, 1),
    ],
)
def test_exit_codes_tell_wrong_requests_from_bad_files(
    kls: type[errors.WavellamaError], exit_code: int
) -> None:
    assert kls.exit_code == exit_code
