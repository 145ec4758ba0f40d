"""Codes and names of languages that people wrote and that were not understood."""

from __future__ import annotations

import pytest

from wavellama.errors import FEW, UnknownLanguageError
from wavellama.pipeline.options import TranscribeOptions
from wavellama.text.languages import language_table

MEANT = {
    "ger": "deu_Latn",
    "fre": "fra_Latn",
    "dut": "nld_Latn",
    "cze": "ces_Latn",
    "gre": "ell_Grek",
    "per": "fas_Arab",
    "rum": "ron_Latn",
    "iw": "heb_Hebr",
    "in": "ind_Latn",
    "jw": "jav_Latn",
    "pes": "fas_Arab",
    "prs": "fas_Arab",
    "fas": "fas_Arab",
    "zh-CN": "cmn_Hans",
    "zh-TW": "cmn_Hant",
    "nep": "nep_Deva",
    "npi": "npi_Deva",
    "ori": "ory_Orya",
    "ory": "ory_Orya",
    "arb": "arb_Arab",
    "fil": "fil_Latn",
    " de ": "deu_Latn",
    "de_Latn\n": "deu_Latn",
}

ANSWERED = {
    "chi": ["cmn_Hans", "cmn_Hant", "yue_Hant"],
    "zho": ["cmn_Hans", "cmn_Hant", "yue_Hant"],
    "Chinese": ["cmn_Hans", "cmn_Hant", "yue_Hant"],
    "ara": ["arb_Arab", "arz_Arab"],
    "zh-yue": ["yue_Hant", "yue_Hans"],
    "Cantonese": ["yue_Hant", "yue_Hans"],
    "sr-Latn": ["srp_Cyrl"],
    "Farsi": ["fas_Arab"],
}


@pytest.mark.parametrize(("text", "code"), MEANT.items())
def test_a_code_that_means_one_language_is_understood(text: str, code: str) -> None:
    assert language_table().resolve(text) == code


@pytest.mark.parametrize(("text", "codes"), ANSWERED.items())
def test_what_means_several_or_is_a_name_is_answered_with_a_few(
    text: str, codes: list[str]
) -> None:
    with pytest.raises(UnknownLanguageError) as caught:
        language_table().resolve(text)
    assert caught.value.near[: len(codes)] == codes
    assert len(caught.value.near) <= FEW


def test_a_language_that_no_published_model_knows_may_be_asked_for() -> None:
    """Whatever the model knew, the packaged table was asked."""
    assert TranscribeOptions(lang="qaa_Latn", languages=()).lang == "qaa_Latn"
