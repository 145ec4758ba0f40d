"""Words and tokens, with tokenizers of every kind that sentencepiece makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fairseq2.data.tokenizers import Tokenizer, load_tokenizer
from fairseq2.data.tokenizers.sentencepiece import RawSentencePieceTokenizer, SentencePieceModel
from sentencepiece import SentencePieceTrainer

from wavellama.alignment.spelling import Speller, Spelling
from wavellama.errors import AlignmentError
from wavellama.text.words import split_words

MakeTokenizer = Callable[..., Tokenizer]

TEXT = "the cat sat on the mat that the rat ate at the flat"


@pytest.fixture
def make_tokenizer(tmp_path: Path) -> MakeTokenizer:
    """Trains a tokenizer on a text."""

    def make(text: str, **options: Any) -> Tokenizer:
        defaults: dict[str, Any] = {
            "model_type": "char",
            "vocab_size": len(set(text)) + 5,
            "hard_vocab_limit": False,
            "character_coverage": 1.0,
        }
        ids: dict[str, Any] = {"bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3, "minloglevel": 2}
        SentencePieceTrainer.train(
            sentence_iterator=iter([text] * 3),
            model_prefix=str(tmp_path / "m"),
            **(defaults | ids | options),
        )
        return RawSentencePieceTokenizer(SentencePieceModel(tmp_path / "m.model"))

    return make


def pieces_of_words(tokenizer: Tokenizer, text: str, lang: str | None = None) -> list[list[str]]:
    """Return the pieces that each word touches; check that the tokens are those of one text."""
    words = split_words(text, lang)
    spelling = Speller(tokenizer).spell(words)
    pieces = pieces_of(tokenizer, spelling)
    return [
        [] if places is None else pieces[places[0].token_idx : places[1].token_idx + 1]
        for places in spelling.words
    ]


def pieces_of(tokenizer: Tokenizer, spelling: Spelling) -> list[str]:
    """Return the pieces of a spelling's tokens."""
    assert isinstance(tokenizer, RawSentencePieceTokenizer)
    return [tokenizer._model.index_to_token(token) for token in spelling.tokens]


def test_a_tokenizer_of_characters() -> None:
    tokenizer = load_tokenizer("toy_tokenizer")
    assert pieces_of_words(tokenizer, "a world's end") == [["a"], list("world's"), list("end")]
    spelling = Speller(tokenizer).spell(split_words("ab  c"))
    assert spelling.tokens == tokenizer.create_raw_encoder()("ab c").tolist()


def test_case_marks_and_punctuation_that_are_not_known() -> None:
    tokenizer = load_tokenizer("toy_tokenizer")
    words = ["“HÉLLO,”", "Feed\u2019st", "ﬁ", "n\u0303", "Ⅳ"]
    expected = [list("hello"), list("feed'st"), list("fi"), ["n"], list("iv")]
    assert pieces_of_words(tokenizer, " ".join(words)) == expected


def test_what_is_known_stays_as_it_is() -> None:
    tokenizer = load_tokenizer("debian_speech_tokenizer")
    assert pieces_of_words(tokenizer, "año è") == [list("año"), ["è"]]
    assert pieces_of_words(tokenizer, "an\u0303o") == [list("año")]


def test_a_vocabulary_in_upper_case(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(TEXT.upper())
    assert pieces_of_words(tokenizer, "the Cat") == [list("THE"), list("CAT")]


def test_words_without_a_known_character_have_no_place() -> None:
    tokenizer = load_tokenizer("toy_tokenizer")
    assert pieces_of_words(tokenizer, "1 a 漢字 b ...") == [[], ["a"], [], [], ["b"], []]
    spelling = Speller(tokenizer).spell(split_words("1 a 漢字 b ..."))
    assert spelling.tokens == tokenizer.create_raw_encoder()("a b").tolist()


def test_a_word_beside_unknown_characters_keeps_its_space() -> None:
    tokenizer = load_tokenizer("toy_tokenizer")
    spelling = Speller(tokenizer).spell(split_words("a 漢b"))
    assert spelling.tokens == tokenizer.create_raw_encoder()("a b").tolist()


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("suffix", [True, False])
@pytest.mark.parametrize("rule", ["identity", "nmt_nfkc_cf"])
def test_tokenizers_that_change_spaces_and_characters(
    make_tokenizer: MakeTokenizer, prefix: bool, suffix: bool, rule: str
) -> None:
    tokenizer = make_tokenizer(
        TEXT,
        normalization_rule_name=rule,
        add_dummy_prefix=prefix,
        treat_whitespace_as_suffix=suffix,
    )
    assert pieces_of_words(tokenizer, "The ﬂat") == [list("the"), list("flat")]


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_pieces_of_several_letters(make_tokenizer: MakeTokenizer, model_type: str) -> None:
    tokenizer = make_tokenizer(TEXT, model_type=model_type, vocab_size=24)
    words = pieces_of_words(tokenizer, "The flat cat!")
    assert ["".join(word).replace("▁", "") for word in words] == ["the", "flat", "cat"]
    assert any(len(piece.replace("▁", "")) > 1 for word in words for piece in word)


def test_a_piece_is_shared_between_the_words_that_it_spans(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("你好世界 你好 世界 你好", model_type="bpe", vocab_size=12)
    spelling = Speller(tokenizer).spell(split_words("你好"))
    (piece,) = [piece for piece in pieces_of(tokenizer, spelling) if "你好" in piece]
    shares = [(places[0].share, places[1].share) for places in spelling.words if places]
    assert (len(piece.replace("▁", "")), shares) == (2, [(0.0, 0.5), (0.5, 1.0)])


def test_bytes_are_not_taken_for_characters(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(TEXT, model_type="bpe", vocab_size=300, byte_fallback=True)
    words = pieces_of_words(tokenizer, "漢 cat")
    assert words[0] == []
    assert "".join(words[1]).replace("▁", "") == "cat"


@pytest.mark.parametrize("text", ["", "  ", "1 2", "漢字"])
def test_a_text_without_a_known_character_is_refused(text: str) -> None:
    with pytest.raises(AlignmentError, match=r"There is no text to align\. "):
        Speller(load_tokenizer("toy_tokenizer")).spell(split_words(text))


class Scrambler:
    """A tokenizer whose pieces for two words differ from those for each of them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._encoder = tokenizer.create_raw_encoder()
        self.vocab_info = tokenizer.vocab_info

    def create_raw_encoder(self) -> Any:
        return self

    def encode_as_tokens(self, text: str) -> list[str]:
        return self._encoder.encode_as_tokens(text[::-1] if " " in text else text)

    def __call__(self, text: str) -> Any:
        return self._encoder(text)


def test_pieces_that_do_not_spell_the_text_are_refused() -> None:
    scrambler: Any = Scrambler(load_tokenizer("toy_tokenizer"))
    with pytest.raises(AlignmentError, match="do not spell the text"):
        Speller(scrambler).spell(split_words("ab cd"))
