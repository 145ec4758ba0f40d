"""Which tokens make which word, with tokenizers of every kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from fairseq2.data.tokenizers import TokenDecoder, Tokenizer, load_tokenizer
from fairseq2.data.tokenizers.sentencepiece import RawSentencePieceTokenizer, SentencePieceModel
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceTrainer
from torch import Tensor

from tests.fakes import golden_tokenizer
from wavellama.decoding.token_texts import find_joints, word_token_spans
from wavellama.text.words import split_words

TEXT = "the cat sat on the mat, that the rat ate at the flat: über 東京 ไทย"

SCRIPTS = "abct he,.¿'é ñ ß дж 漢字 かな ทเกั ཀ་ \u00a0\u0301"


@cache
def trained(kind: str) -> Tokenizer:
    """Return a tokenizer of pieces, trained on a sentence."""
    options: dict[str, Any] = {
        "unigram": {"model_type": "unigram", "vocab_size": 60},
        "bpe": {"model_type": "bpe", "vocab_size": 60},
        "phrases": {"model_type": "bpe", "vocab_size": 70, "split_by_whitespace": False},
        "bytes": {"model_type": "bpe", "vocab_size": 320, "byte_fallback": True},
    }[kind]
    with TemporaryDirectory() as folder:
        SentencePieceTrainer.train(
            sentence_iterator=iter([TEXT] * 20),
            model_prefix=f"{folder}/m",
            hard_vocab_limit=False,
            minloglevel=2,
            **{"bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3, **options},
        )
        return RawSentencePieceTokenizer(SentencePieceModel(Path(folder, "m.model")))


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "golden": golden_tokenizer,
    "mini": lambda: load_tokenizer("mini_tokenizer"),
    "debian_speech": lambda: load_tokenizer("debian_speech_tokenizer"),
    "unigram": lambda: trained("unigram"),
    "bpe": lambda: trained("bpe"),
    "phrases": lambda: trained("phrases"),
    "bytes": lambda: trained("bytes"),
}


def letters(decode: TokenDecoder, tokens: Sequence[int]) -> str:
    return "".join(decode(torch.tensor(tokens)).split()) if tokens else ""


def spans_of(tokenizer: Tokenizer, tokens: Sequence[int], lang: str | None = None) -> list[Any]:
    """Return each word with the pieces of its tokens."""
    assert isinstance(tokenizer, RawSentencePieceTokenizer)
    decode, piece = tokenizer.create_decoder(), tokenizer._model.index_to_token
    words = split_words(decode(torch.tensor(tokens)), lang)
    spans = word_token_spans(decode, tokens, words)
    return [
        (word.text, [piece(token) for token in tokens[span]])
        for word, span in zip(words, spans, strict=True)
    ]


def check_spans(decode: TokenDecoder, tokens: Sequence[int], lang: str | None) -> None:
    """Compare with the letters of every prefix: nothing is left out, and nothing too much in."""
    words = split_words(decode(torch.tensor(tokens)), lang)
    counts = [len(letters(decode, tokens[:end])) for end in range(len(tokens) + 1)]
    begin = 0
    for word, span in zip(words, word_token_spans(decode, tokens, words), strict=True):
        end = begin + len(word.text)
        assert counts[span.start] <= begin < counts[span.start + 1]
        assert counts[span.stop - 1] < end <= counts[span.stop]
        begin = end


@given(
    name=st.sampled_from([name for name in TOKENIZERS if name != "bytes"]),
    draws=st.lists(st.integers(0, 10_000), min_size=1, max_size=40),
    lang=st.sampled_from([None, "eng_Latn", "cmn_Hans"]),
)
def test_any_tokens(name: str, draws: list[int], lang: str | None) -> None:
    """What a decoder writes need not be what the tokenizer would: unknowns, spaces in a row."""
    tokenizer = TOKENIZERS[name]()
    tokens = [3 + draw % (tokenizer.vocab_info.size - 3) for draw in draws]
    check_spans(tokenizer.create_decoder(), tokens, lang)


@given(
    name=st.sampled_from(sorted(TOKENIZERS)),
    text=st.text(SCRIPTS, min_size=1, max_size=30),
    lang=st.sampled_from([None, "eng_Latn", "jpn_Jpan", "tha_Thai"]),
)
def test_any_text(name: str, text: str, lang: str | None) -> None:
    """The letters of a word come from its tokens, and spans follow each other."""
    tokenizer = TOKENIZERS[name]()
    decode = tokenizer.create_decoder()
    tokens = tokenizer.create_encoder()(f"a{text}").tolist()
    words = split_words(decode(torch.tensor(tokens)), lang)
    spans = word_token_spans(decode, tokens, words)
    assert len(spans) == len(words)
    before = slice(0, 0)
    for word, span in zip(words, spans, strict=True):
        assert word.text in letters(decode, tokens[span])
        assert before.start <= span.start
        assert before.stop <= span.stop <= len(tokens)
        assert before.stop - 1 <= span.start < span.stop  # at most one token in common
        before = span


def test_characters_and_the_token_for_space() -> None:
    tokenizer = load_tokenizer("debian_speech_tokenizer")
    tokens = tokenizer.create_encoder()("so  es").tolist()
    assert spans_of(tokenizer, tokens) == [("so", ["s", "o"]), ("es", ["e", "s"])]


def test_unknown_tokens_are_words_or_parts_of_them() -> None:
    tokenizer = load_tokenizer("mini_tokenizer")
    space, unknown, a = 4, 3, 6
    assert [text for text, _ in spans_of(tokenizer, [a, unknown, a, space, unknown])] == [
        *("a", "⁇", "a", "⁇")
    ]
    assert spans_of(tokenizer, [a, unknown, a])[1] == ("⁇", ["<unk>"])


def test_a_piece_of_several_words_belongs_to_each() -> None:
    tokenizer = trained("phrases")
    tokens = tokenizer.create_encoder()("that the rat").tolist()
    found = dict(spans_of(tokenizer, tokens))
    shared = [piece for piece in found["that"] if piece in found["the"]]
    assert shared, found
    assert "▁" in shared[0][1:]


def test_characters_are_words_in_scripts_without_spaces() -> None:
    tokenizer = trained("bpe")
    tokens = tokenizer.create_encoder()("東京 cat").tolist()
    found = spans_of(tokenizer, tokens)
    assert [text for text, _ in found] == ["東", "京", "cat"]
    assert all(pieces for _, pieces in found)


def test_bytes_belong_to_their_character_together() -> None:
    tokenizer = trained("bytes")
    tokens = tokenizer.create_encoder()("ж字 a").tolist()
    found = dict(spans_of(tokenizer, tokens, "cmn_Hans"))
    assert [piece for piece in found["ж"] if piece != "▁"] == ["<0xD0>", "<0xB6>"]
    assert found["字"] == ["<0xE5>", "<0xAD>", "<0x97>"]


def test_broken_bytes_are_words_as_well() -> None:
    tokenizer = trained("bytes")
    e5, ad, *_ = tokenizer.create_encoder()("字").tolist()[-3:]
    cat = tokenizer.create_encoder()("cat").tolist()
    decode = tokenizer.create_decoder()
    for tokens in ([e5, *cat], [*cat, e5, ad], [e5, e5, ad, *cat]):
        words = split_words(decode(torch.tensor(tokens)))
        spans = word_token_spans(decode, tokens, words)
        assert all(span.start < span.stop <= len(tokens) for span in spans)


def test_the_work_grows_with_the_text() -> None:
    decode = load_tokenizer("mini_tokenizer").create_decoder()
    decoded: list[int] = []

    class Counting(TokenDecoder):
        def __call__(self, token_indices: Tensor) -> str:
            decoded.append(len(token_indices))
            return decode(token_indices)

        def decode_from_tokens(self, tokens: Sequence[str]) -> str:
            raise NotImplementedError

    tokens = [5, 6, 4, 3, 7] * 40
    words = split_words(decode(torch.tensor(tokens)))
    word_token_spans(Counting(), tokens, words)
    assert len(decoded) == len(tokens) + 1
    assert sum(decoded) == 2 * len(tokens)


def test_no_tokens_make_no_words() -> None:
    assert word_token_spans(golden_tokenizer().create_decoder(), [], []) == []


def test_words_of_another_text_are_an_error() -> None:
    tokenizer = load_tokenizer("mini_tokenizer")
    with pytest.raises(ValueError, match="not those of the tokens' text"):
        word_token_spans(tokenizer.create_decoder(), [5, 6], split_words("other"))


@pytest.mark.parametrize("punctuation", [0, 1])
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("ab", "c", True),
        ("ab", " c", False),
        ("ab ", "c", False),
        ("ab", " ", False),
        ("ab", "", False),
        ("a", "1", True),
        ("字", "字", False),
        ("字", "\u0301", True),
        ("เ", "ก", True),
        ("a", ".", None),
        (".", "a", None),
    ],
)
def test_a_word_goes_on_from_one_token_to_the_next(
    first: str, second: str, expected: bool | None, punctuation: int
) -> None:
    """What stands beside punctuation (None) is as the caller says."""
    joints = find_joints([first, second], punctuation)
    goes_on = bool(punctuation) if expected is None else expected
    assert joints.goes_on(joints.ends[0], 1) is goes_on
    assert joints.going_on([joints.ends[0]])[0, 1].item() is goes_on
