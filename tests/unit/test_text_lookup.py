"""Which languages people mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavellama.errors import FEW, UnknownLanguageError
from wavellama.text.languages import LanguageTable, language_table, languages
from wavellama.text.lookup import fold

ONE = {
    # ISO 639-1 and 639-3, with script and region
    "deu_Latn": "de DE deu de-DE de_AT ger de-1996 de-CH-1901 de_DE.UTF-8 de-u-co-phonebk deu-x-a",
    "eng_Latn": "en_Latn eng-Latn en-Latn-GB EN_us en-GB-oxendict",
    "spa_Latn": "es-419 es-MX spa",
    "srp_Cyrl": "sr sr-RS sr-ME sr-Cyrl scc",
    "tuk_Arab": "tuk-Arab tk_arab",
    "tuk_Latn": "tk-TM",
    "cmn_Hans": "zh-CN zh_CN ZH-cn zh-Hans zh_Hans_CN zho_Hans zh-SG zh-cmn-Hans-CN chi-Hans",
    "cmn_Hant": "zh-TW zh-Hant zh-HK zh-Hant-TW cmn_hant zho_Hant",
    "yue_Hant": "yue-HK zh-yue-HK yue-Hant",
    "urd_Arab": "ur-PK urd-Arab",
    "uzb_Latn": "uz-UZ",
    "swh_Latn": "sw swa sw-KE",  # the only one of the macrolanguage
    "lav_Latn": "lv lav lvs",  # not Latgalian, whose macrolanguage it is
    "ell_Grek": "el gre el-polyton",  # not the variety of Cyprus
    "ell_Grek_cypr1249": "ell-cypr1249 el_CYPR1249",
    "roh_Latn_surs1244": "roh_surs1244",
    "kor_Hang": "ko ko-KR ko-Kore",
    "jpn_Jpan": "ja ja-JP jpn",
    # ISO 639-2/B
    "fra_Latn": "fre fr-CA",
    "nld_Latn": "dut",
    "ces_Latn": "cze",
    "fas_Arab": "per fa fas pes prs fa-AF pes_Arab",
    "ron_Latn": "rum mo mol ro-MD",
    "mya_Mymr": "bur",
    "bod_Tibt": "tib",
    "slk_Latn": "slo",
    # withdrawn
    "heb_Hebr": "iw he iw-IL",
    "ind_Latn": "in id",
    "jav_Latn": "jw jv",
    "nob_Latn": "nb no-bok",
    # macrolanguages and their predominant languages
    "arb_Arab": "arb arb_Arab ar-arb",
    "arz_Arab": "arz ar-arz",
    "zsm_Latn": "zsm ms-MY",
    "nep_Deva": "nep ne",
    "npi_Deva": "npi",
    "ory_Orya": "or ori ory",
    "fil_Latn": "fil fil-PH",
    "tgl_Latn": "tl tgl",
    "aze_Latn": "azj_Latn az-AZ",
    "aze_Arab": "az-IR",
    "kur_Arab": "ku kur",
    "kmr_Latn": "ku-Latn kmr-Latn",
    "orm_Latn": "gaz",
}
"""What means one language."""

SEVERAL = {
    "tk": "tuk_Latn tuk_Arab",
    "no-NO": "nob_Latn nno_Latn",
    "et": "ekk_Latn vro_Latn",
    "yue": "yue_Hant yue_Hans",
    "zh-yue": "yue_Hant yue_Hans",
    "rm": "roh_Latn_lowe1386 roh_Latn_surs1244",
    "zh": "cmn_Hans cmn_Hant yue_Hant yue_Hans nan_Latn",
    "chi": "cmn_Hans cmn_Hant yue_Hant yue_Hans nan_Latn",
    "ara": "arb_Arab arz_Arab apc_Arab arq_Arab ary_Arab",
    "ar-EG": "arb_Arab arz_Arab apc_Arab arq_Arab ary_Arab",
    "sh": "srp_Cyrl bos_Latn hrv_Latn",
    "alb": "als_Latn aln_Latn aae_Latn",
}
"""What can mean several, and which of them are named: most spoken first."""

UNKNOWN = {
    "eng_Latin": "eng_Latn",
    "eng_Lat": "eng_Latn",
    "en_Cyrl": "eng_Latn",
    "sr-Latn": "srp_Cyrl",
    "ell_Grek_crete": "ell_Grek",
    "acq": "arb_Arab",  # another Arabic
    "azb_Arab": "aze_Arab",
    "german": "deu_Latn",
    " German ": "deu_Latn",
    "germann": "deu_Latn",
    "nepali": "nep_Deva",
    "arbereshe albanian": "aae_Latn",
    "Greek": "ell_Grek",
    "mandarin": "cmn_Hans",
    "Farsi": "fas_Arab",
    "fārsī": "fas_Arab",
    "Cantonese": "yue_Hant",
    "Chinese": "cmn_Hans",
    "Chinese (Traditional)": "cmn_Hans",
    "Castilian": "spa_Latn",
    "Flemish": "nld_Latn",
    "Odia": "ory_Orya",
    "Arabic": "arb_Arab",
    "Azerbaijani": "aze_Arab",
    "Deutsch": "deu_Latn",
    "français": "fra_Latn",
    "中文": "cmn_Hans",
    "русский": "rus_Cyrl",
    "فارسی": "fas_Arab",
    "한국어": "kor_Hang",
}
"""What is no code of the table, and what is suggested first."""


def _pairs(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(text, code) for code, texts in table.items() for text in texts.split()]


@pytest.mark.parametrize(("text", "code"), _pairs(ONE))
def test_codes_old_and_new_and_tags_are_understood(text: str, code: str) -> None:
    table = language_table()
    assert table.resolve(text) == code
    assert table.row(text) == table[code] == table.get(text)
    assert text in table


@pytest.mark.parametrize(("text", "codes"), SEVERAL.items())
def test_what_can_mean_several_languages_is_not_guessed(text: str, codes: str) -> None:
    assert text not in language_table()
    assert language_table().get(text, 7) == 7
    with pytest.raises(UnknownLanguageError, match=f"^'{text}' is the code of .*: say") as caught:
        language_table().row(text)
    assert caught.value.near == codes.split()
    for code in codes.split():
        assert languages()[code].label in str(caught.value)


def test_those_that_are_not_named_are_counted() -> None:
    with pytest.raises(UnknownLanguageError, match=r"Moroccan Arabic.* and 9 more: say which"):
        language_table().row("ara")


@pytest.mark.parametrize(("text", "code"), UNKNOWN.items())
def test_an_unknown_code_suggests_by_code_and_by_name(text: str, code: str) -> None:
    assert text not in language_table()
    with pytest.raises(UnknownLanguageError, match="is not a known language code") as caught:
        language_table().row(text)
    assert caught.value.code == text
    assert caught.value.near[0] == code
    assert len(caught.value.near) <= FEW
    assert f"Did you mean {languages()[code].label}" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", " ", "-", "xx", "und", "mul", "123", "x", "x-", "a" * 100_000]
)
def test_what_is_no_language_is_unknown(text: str) -> None:
    with pytest.raises(UnknownLanguageError, match="is not a known language code"):
        language_table().row(text)


def test_a_name_suggests_no_other_name() -> None:
    with pytest.raises(
        UnknownLanguageError, match=r"Did you mean eng_Latn \(English\)\?"
    ) as caught:
        language_table().row("english")
    assert caught.value.near == ["eng_Latn"]


def test_a_macrolanguage_means_what_the_model_has_of_it() -> None:
    assert LanguageTable.of(["arz_Arab", "deu_Latn"]).resolve("ara") == "arz_Arab"
    assert LanguageTable.of(["ara_Arab", "deu_Latn"]).resolve("arb") == "ara_Arab"
    assert LanguageTable.of(["tgl_Latn", "deu_Latn"]).resolve("fil") == "tgl_Latn"
    with pytest.raises(UnknownLanguageError) as caught:  # another Arabic than the model's
        LanguageTable.of(["arz_Arab", "deu_Latn"]).resolve("arb")
    assert caught.value.near == ["arz_Arab"]


def test_languages_outside_the_package_have_names() -> None:
    lookup = LanguageTable.of(["ydd_Hebr", "tlh", "x-elvish"]).lookup
    assert [lookup.describe(code).name for code in ("ydd_Hebr", "tlh", "x-elvish")] == [
        "Eastern Yiddish",
        "Klingon",
        "",
    ]


codes = st.sampled_from(sorted(language_table()))
separators = st.sampled_from(["-", "_", " ", " - ", "–"])


@given(codes, separators, st.sampled_from([str.lower, str.upper, str.title]), st.booleans())
def test_case_separators_and_blanks_do_not_matter(
    code: str, separator: str, write: type[str], is_padded: bool
) -> None:
    text = write(code.replace("_", separator))
    assert language_table().resolve(f"  {text}\t" if is_padded else text) == code


@given(st.text(max_size=12) | st.text("abdehilnrstz-_ ", max_size=12))
def test_any_text_means_one_language_or_is_answered(text: str) -> None:
    table = language_table()
    if text in table:
        assert table.resolve(text) in set(table)
        return
    with pytest.raises(UnknownLanguageError) as caught:
        table.resolve(text)
    assert len(caught.value.near) <= FEW
    assert set(caught.value.near) <= set(table)


@given(st.lists(codes, min_size=1, max_size=4, unique=True), codes)
def test_a_smaller_model_never_takes_another_language(own: list[str], text: str) -> None:
    """What a model makes of a published code is the same language, or is its macrolanguage."""
    found = LanguageTable.of(own).get(text)
    if found is not None:
        code = own[found - 1]
        close = LanguageTable.of([text]).get(code) or LanguageTable.of([code]).get(text)
        assert code == text or close


def test_folding_drops_case_and_accents() -> None:
    assert fold(" Arbëreshë Albanian ") == "arbereshe albanian"
    assert fold("Võro") == "voro"
