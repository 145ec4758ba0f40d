"""The rule that turns a caption into the words that are spoken."""

from __future__ import annotations

import pytest

from wavellama.corpora.errors import RejectedClipError
from wavellama.corpora.transcript import clean_transcript, comparison_key, count_letters


@pytest.mark.parametrize(
    ("raw", "lang", "text"),
    [
        ("Hello,  World!", "eng_Latn", "hello world"),
        ("Добавлено…", "rus_Cyrl", "добавлено"),
        ("Ένα πουλί ΜΕΓΑΛΟΣ;", "ell_Grek", "ένα πουλί μεγαλος"),
        ("Quell’operatore è già lì.", "ita_Latn", "quell'operatore è già lì"),
        ("Aspetta un po' 'adesso'", "ita_Latn", "aspetta un po' adesso"),
        ("'t Is 's nachts", "nld_Latn", "'t is 's nachts"),
        ("Est-ce que c'est - là -bas?", "fra_Latn", "est-ce que c'est là bas"),
        ("Una col·lecció · paraŀlela", "cat_Latn", "una col·lecció paral·lela"),
        ("Peşte şi ţânţar", "ron_Latn", "pește și țânțar"),
        ("¿Qué? ¡Ya! «no» “si” „da”", "spa_Latn", "qué ya no si da"),
        ("cafe\u0301", "fra_Latn", "café"),
        ("з'яўляецца", "bel_Cyrl", "з'яўляецца"),
    ],
)
def test_words_are_kept(raw: str, lang: str, text: str) -> None:
    assert clean_transcript(raw, lang) == text
    assert clean_transcript(text, lang) == text


@pytest.mark.parametrize(
    ("raw", "lang", "reason"),
    [
        ("press 1 now", "eng_Latn", "digit"),
        ("x² there", "eng_Latn", "digit"),
        ("at [@]", "eng_Latn", "symbol or bracket"),
        ("(silence)", "eng_Latn", "symbol or bracket"),
        ("a + b", "eng_Latn", "symbol or bracket"),
        ("and/or", "eng_Latn", "symbol or bracket"),
        ("snake_case", "eng_Latn", "symbol or bracket"),
        ("Буква b", "rus_Cyrl", "another script"),
        ("Oικόσιτο", "ell_Grek", "another script"),
        ("Подожди", "ces_Latn", "another script"),
        ("1ª", "spa_Latn", "digit"),
        ("la ª", "spa_Latn", "another script"),
        ("a", "eng_Latn", "fewer than two letters"),
        ("...", "eng_Latn", "fewer than two letters"),
        ("", "eng_Latn", "fewer than two letters"),
    ],
)
def test_what_is_not_spelled_out_is_rejected(raw: str, lang: str, reason: str) -> None:
    with pytest.raises(RejectedClipError, match=reason):
        clean_transcript(raw, lang)


def test_letters_are_counted_without_the_rest() -> None:
    assert count_letters("l'eau-de là ") == 8


def test_texts_that_sound_alike_have_the_same_key() -> None:
    assert comparison_key("решётку") == comparison_key("решетку")
    assert comparison_key("est-ce que l'eau") == comparison_key("est ce que leau")
    assert comparison_key("otto") != comparison_key("sotto")
