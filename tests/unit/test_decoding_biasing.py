"""Hotwords, language models and scripts: from words and a tokenizer to texts."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sentencepiece
import torch
from fairseq2.data.tokenizers import Tokenizer
from fairseq2.data.tokenizers.char import load_char_tokenizer
from fairseq2.data.tokenizers.sentencepiece import (
    RawSentencePieceTokenizer,
    load_sentencepiece_model,
)

from tests.fakes import EOS, TableDecoder, golden_case, golden_model, golden_tokenizer
from tests.unit.test_search_ngram import ARPA, ArpaModel
from wavellama import TranscribeOptions, Wav2Vec2LlamaBeamSearchConfig, generate
from wavellama.batch import to_asr_batch
from wavellama.decoding import prompt_search
from wavellama.decoding.biasing import NO_BIAS, Bias, script_constraint
from wavellama.decoding.hotword_bias import hotword_tree
from wavellama.decoding.lm_bias import lm_pieces, load_lm
from wavellama.decoding.streaming import StreamDecoder
from wavellama.decoding.token_texts import token_texts
from wavellama.errors import ConfigError
from wavellama.pipeline.biasing import create_bias
from wavellama.search.beam import BeamSearch, Row, SearchOptions
from wavellama.search.biasing import HotwordScorer
from wavellama.search.constraints import AllowedTokens
from wavellama.search.ngram import NgramScorer, WordModel
from wavellama.search.scorers import WeightedScorer
from wavellama.search.types import Hypothesis

BEAM = Wav2Vec2LlamaBeamSearchConfig(nbest=5, max_new_tokens=20)
GREEDY = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=20)
LINES = ["new york city", "a yorkshire man", "кот", "漢字かな", "ภาษาไทย", "हिन्दी", "don't"]


# Tokenizers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


def _train(folder: Path, model_type: str, **options: Any) -> Path:
    name = f"{model_type}{len(list(folder.iterdir()))}"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 20),
        model_prefix=str(folder / name),
        model_type=model_type,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return folder / f"{name}.model"


@pytest.fixture(scope="module")
def characters(folder: Path) -> Tokenizer:
    """Characters of many scripts, and a space, as the published models have them."""
    ids = {"bos_id": 0, "pad_id": 1, "eos_id": EOS, "unk_id": 3}
    path = _train(folder, "char", vocab_size=100, add_dummy_prefix=False, **ids)
    return load_char_tokenizer(path, None)


@pytest.fixture(scope="module")
def subwords(folder: Path) -> Tokenizer:
    """Pieces of several letters, a space before each word, and bytes for all other characters."""
    path = _train(folder, "bpe", vocab_size=420, byte_fallback=True)
    return RawSentencePieceTokenizer(load_sentencepiece_model(path))


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    tokens: list[int] = tokenizer.create_raw_encoder()(text).tolist()
    return tokens


def test_texts_of_characters(characters: Tokenizer) -> None:
    texts = token_texts(characters)
    assert texts[:4] == ("", "", "", "")
    assert [texts[i] for i in _encode(characters, "a 漢")] == ["a", " ", "漢"]


def test_texts_of_subwords(subwords: Tokenizer) -> None:
    texts, size = token_texts(subwords), subwords.vocab_info.size
    tokens = _encode(subwords, "a york")
    assert "".join(texts[i] for i in tokens) == " a york"
    assert " york" in texts
    assert [texts[i] for i in _encode(subwords, "é")] == [" ", "", ""]
    assert len([text for text in texts if not text]) == 256 + 3
    assert len(texts) == size


def test_texts_are_read_once(characters: Tokenizer) -> None:
    assert token_texts(characters) is token_texts(characters)


# Scripts


@pytest.mark.parametrize(
    ("script", "letters"),
    [("Latn", "newyorkcitashmd"), ("cyrl", "кот"), ("Jpan", "漢字かな"), ("Deva", "हिन्दी")],
)
def test_letters_of_one_script_are_allowed(
    characters: Tokenizer, script: str, letters: str
) -> None:
    size = characters.vocab_info.size
    scores = script_constraint(characters, script)(torch.zeros(1, size), [[]])
    allowed = [i for i, score in enumerate(scores[0].tolist()) if score == 0.0]
    assert {token_texts(characters)[i] for i in allowed} == {*letters, " ", "'", ""}
    assert [i for i in allowed if not token_texts(characters)[i]] == [EOS]


def test_bytes_are_of_no_script(subwords: Tokenizer) -> None:
    scores = script_constraint(subwords, "Latn")(torch.zeros(1, subwords.vocab_info.size), [[]])
    allowed = {token_texts(subwords)[i] for i in scores[0].isfinite().nonzero()[:, 0].tolist()}
    assert {" york", "'", " a"} <= allowed
    assert not {"кот", "漢"} & allowed
    assert {text for text in allowed if not text.strip()} == {" ", ""}  # and EOS


@pytest.mark.parametrize(
    ("script", "message"),
    [("Grek", "no letters of the script 'Grek'"), ("latin", "Did you mean Latn")],
)
def test_a_script_that_cannot_be_written_is_an_error(script: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        script_constraint(golden_tokenizer(), script)


# Hotwords


def _covered(tokenizer: Tokenizer, hotwords: Sequence[str], text: str) -> float:
    """Return how many tokens of a text hotwords cover, by the scorer."""
    scorer, total = HotwordScorer(hotword_tree(tokenizer, hotwords), 1), 0.0
    scores = scorer.prefill()
    for token in _encode(tokenizer, text):
        total += scores[0, token].item()
        scorer.reorder([0])
        scores = scorer.step([token])
    eos_idx = tokenizer.vocab_info.eos_idx
    assert eos_idx is not None
    return total + scores[0, eos_idx].item()


@pytest.mark.parametrize(
    ("hotword", "text", "covered"),
    [
        ("york", "york", 4),
        ("york", "a york city", 4),
        ("york", "yorkshire", 0),
        ("york", "ayork", 0),
        ("YORK", "new york", 4),  # lower-cased
        (" new  york ", "a new york city", 8),
        ("new york", "new yorkshire", 0),
        ("don", "don't", 3),  # apostrophes end words
        ("don't", "don't", 5),
        ("漢字", "かな漢字かな", 2),
        ("字", "漢字かな", 1),
        ("ไทย", "ภาษาไทย", 3),
        ("ทย", "ภาษาไทย", 0),  # its vowel is written before it
        ("हिन्", "हिन्दी", 0),
        ("ह", "हि", 0),  # a mark follows
    ],
)
def test_hotwords_of_characters(
    characters: Tokenizer, hotword: str, text: str, covered: int
) -> None:
    assert _covered(characters, [hotword], text) == covered


@pytest.mark.parametrize(
    ("hotword", "text", "whole"),
    [("york", "york", True), ("york", "new york city", True), ("york", "yorkshire", False)],
)
def test_hotwords_of_subwords(subwords: Tokenizer, hotword: str, text: str, whole: bool) -> None:
    assert (_covered(subwords, [hotword], text) > 0) is whole


@pytest.mark.parametrize(("hotword", "unknown"), [("öt", "ö"), ("new öüß", "ö ü ß"), ("Ω", "Ω")])
def test_a_hotword_that_cannot_be_written_is_an_error(
    characters: Tokenizer, subwords: Tokenizer, hotword: str, unknown: str
) -> None:
    for tokenizer in (characters, subwords):
        with pytest.raises(ConfigError) as error:
            hotword_tree(tokenizer, ["york", hotword])
        assert repr(hotword) in str(error.value)
        assert f"does not know {unknown}." in str(error.value)


def test_an_empty_hotword_is_an_error(characters: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="empty"):
        hotword_tree(characters, ["york", "  "])


# The language model


def _fake_kenlm() -> ModuleType:
    """Return a module in the place of kenlm."""
    module = ModuleType("kenlm")

    class Config:
        show_progress = True

    def read(path: str, config: Config) -> ArpaModel:
        text = Path(path).read_bytes().decode(errors="replace")
        if not text.startswith("\\data\\"):
            raise OSError(f"Cannot read model '{path}' (lm/read_arpa.cc)")
        assert not config.show_progress
        return ArpaModel(text)

    complain = type("ARPALoadComplain", (), {"NONE": 0})
    vars(module).update(Config=Config, Model=read, State=list, ARPALoadComplain=complain)
    return module


@pytest.fixture
def arpa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A language model's file, and a kenlm that reads it."""
    monkeypatch.setitem(sys.modules, "kenlm", _fake_kenlm())
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA)
    return path


def test_a_language_model_is_read(arpa: Path) -> None:
    model = load_lm(arpa)
    score, _ = model.follow(model.begin(), "the")
    assert score == pytest.approx(-0.2 * math.log(10))


def test_without_kenlm_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(ConfigError, match=r"pip install 'wavellama\[lm\]'"):
        load_lm(tmp_path / "lm.arpa")


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"\x00\xff" * 50])
def test_what_is_no_language_model_is_an_error(arpa: Path, content: bytes | None) -> None:
    path = arpa.with_name("other.arpa")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"no language model .*other|other.* is not a language"):
        load_lm(path)


def test_words_of_characters_end_at_spaces(characters: Tokenizer) -> None:
    """And around each character of a script without spaces."""
    ngrams, words = ArpaModel(ARPA), ["don't", "man", "漢", "字", "a", "हिन्दी"]
    scorer = NgramScorer(WordModel(ngrams, list), lm_pieces(characters), 1)
    scorer.prefill()
    for token in _encode(characters, "don't man  漢字a हिन्दी "):
        scorer.reorder([0])
        scorer.step([token])
    scored = [word for word in ngrams.asked if word != "</s>"]
    assert [word for word in dict.fromkeys(scored) if word in words] == words
    assert "漢字" not in scored


def test_spaces_at_the_end_of_tokens_are_an_error(folder: Path) -> None:
    path = _train(folder, "bpe", vocab_size=70, treat_whitespace_as_suffix=True)
    tokenizer = RawSentencePieceTokenizer(load_sentencepiece_model(path))
    with pytest.raises(ConfigError, match="does not end where a word ends"):
        lm_pieces(tokenizer)


# Texts of a small model

ROWS = golden_case("llm_asr").utterances


def _bias(**options: Any) -> Bias:
    return create_bias(golden_tokenizer(), TranscribeOptions(**options))


def _results(
    bias: Bias,
    config: Wav2Vec2LlamaBeamSearchConfig = BEAM,
    order: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    return generate(golden_model("llm_asr"), ROWS.batch(order), config, bias=bias)


def _text(hypothesis: Hypothesis) -> str:
    decode = golden_tokenizer().create_decoder()
    return str(decode(torch.tensor(hypothesis.tokens, dtype=torch.int64)))


def _texts(bias: Bias, config: Wav2Vec2LlamaBeamSearchConfig = BEAM) -> list[str]:
    return [_text(row[0]) for row in _results(bias, config)]


def test_without_hotwords_or_weight_nothing_changes() -> None:
    assert _bias() == NO_BIAS
    expected = generate(golden_model("llm_asr"), ROWS.batch(), BEAM)
    for bias in (_bias(), _bias(hotwords=("chog",), hotword_weight=0.0)):
        assert _results(bias) == expected
    greedy = generate(golden_model("llm_asr"), ROWS.batch(), GREEDY)
    assert _results(_bias(), GREEDY) == greedy


@pytest.mark.parametrize("config", [BEAM, GREEDY], ids=["beam", "greedy"])
def test_a_near_miss_becomes_the_hotword(config: Wav2Vec2LlamaBeamSearchConfig) -> None:
    assert _texts(NO_BIAS)[1] == "l cog"
    texts = _texts(_bias(hotwords=("Chog",), hotword_weight=1.5), config)
    assert "chog" in texts[1].split()


@pytest.mark.parametrize("config", [BEAM, GREEDY], ids=["beam", "greedy"])
def test_hotwords_that_are_nowhere_near_change_no_text(
    config: Wav2Vec2LlamaBeamSearchConfig,
) -> None:
    far = _bias(hotwords=("quixz", "zzyzx", "bumblebee"), hotword_weight=0.5)
    assert _texts(far, config) == _texts(NO_BIAS, config)
    pairs = zip(_results(far, config), _results(NO_BIAS, config), strict=True)
    for biased, plain in pairs:
        assert biased[0].score == pytest.approx(plain[0].score, abs=1e-4)


def test_a_hypothesis_gains_what_its_hotwords_weigh() -> None:
    results = _results(_bias(hotwords=("chog", "me"), hotword_weight=1.5))
    assert any("chog" in _text(h).split() for row in results for h in row)
    for row in results:
        for h in row:
            if h.finished:
                covered = sum(len(word) for word in _text(h).split() if word in ("chog", "me"))
                gain = h.score - sum(h.token_logprobs)
                assert gain == pytest.approx(1.5 * covered, abs=1e-4)


@pytest.mark.parametrize("order", [[2, 0, 1], [1], [0, 2]])
def test_a_row_does_not_know_of_other_rows(order: list[int]) -> None:
    bias = _bias(hotwords=("chog", "dog"), hotword_weight=1.0)
    together = _results(bias)
    for place, row in zip(_results(bias, order=order), order, strict=True):
        assert [h.tokens for h in place] == [h.tokens for h in together[row]]
        expected = [h.score for h in together[row]]
        assert [h.score for h in place] == pytest.approx(expected, abs=1e-4)


def test_the_language_model_changes_what_is_open(arpa: Path) -> None:
    log = "ngram 1=6", "-0.1\tchog\n-2.5\tcog\n-0.2\tl\nngram 1=6"
    arpa.write_text(ARPA.replace(*log).replace("-1.5\t<unk>", "-2.5\t<unk>"))
    assert _texts(_bias(lm=arpa, lm_weight=0.0)) == _texts(NO_BIAS)
    assert _texts(NO_BIAS)[1] == "l cog"
    assert _texts(_bias(lm=arpa, lm_weight=0.5))[1] == "l chog"


def test_a_script_holds_in_all_hypotheses() -> None:
    expected = _texts(NO_BIAS)
    assert _texts(_bias(script="Latn")) == expected
    bias = Bias((AllowedTokens(_encode(golden_tokenizer(), "nice to"), EOS),))
    for row in _results(bias):
        assert all(set(_text(h)) <= set("nice to") for h in row)


def test_constraints_are_added_to_those_of_a_bias() -> None:
    letters = [AllowedTokens(_encode(golden_tokenizer(), text), EOS) for text in ("nic", "ice")]
    (hypotheses, *_) = generate(
        golden_model("llm_asr"),
        ROWS.batch(),
        BEAM,
        bias=Bias((letters[0],)),
        constraints=[letters[1]],
    )
    assert all(set(_text(h)) <= set("ic") for h in hypotheses)
    assert any(_text(h) for h in hypotheses)


def test_an_observer_sees_biased_searches() -> None:
    seen: list[int] = []

    def observe(rows: Sequence[Row]) -> None:
        seen.append(len(rows))

    bias = _bias(hotwords=("chog",), hotword_weight=1.5)
    results = generate(golden_model("llm_asr"), ROWS.batch(), BEAM, bias=bias, observer=observe)
    assert results == _results(bias)
    assert seen[0] == 3


# Drafts


def test_drafts_together_with_hotwords_are_an_error() -> None:
    bias = _bias(hotwords=("chog",))
    with pytest.raises(ConfigError, match="together with hotwords"):
        generate(golden_model("llm_asr"), ROWS.batch(), GREEDY, bias=bias, drafts=[[], [], []])


def test_scripts_hold_with_drafts() -> None:
    bias = _bias(script="Latn")
    plain = generate(golden_model("llm_asr"), ROWS.batch(), GREEDY)
    drafts = [row[0].tokens for row in plain]
    drafted = generate(golden_model("llm_asr"), ROWS.batch(), GREEDY, bias=bias, drafts=drafts)
    assert [row[0].tokens for row in drafted] == drafts


def test_a_search_with_hotwords_follows_no_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_search, "SpeculativeSearch", None)
    monkeypatch.setattr(prompt_search, "ctc_drafts", lambda model, frames: [[5]] * 3)
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=20, ctc_draft=True)
    bias = _bias(hotwords=("chog",), hotword_weight=1.5)
    assert _results(bias, config) == _results(bias, GREEDY)


# Streams


def test_streams_are_biased_segment_by_segment() -> None:
    model, case = golden_model("streaming"), golden_case("streaming")
    batch = case.utterances.batch([2])
    ((plain,),) = generate(model, batch, BEAM)
    assert "five" not in _text(plain)
    bias = _bias(hotwords=("five",), hotword_weight=2.0)
    ((biased,),) = generate(model, batch, BEAM, bias=bias)
    assert "five" in _text(biased).split()
    typed = to_asr_batch(batch)
    decoder = StreamDecoder(model, BEAM, normalization="clip", bias=bias)
    state = decoder.start(typed.langs[0] if typed.langs else None)
    parts = [*decoder.feed(state, typed.audio[0, : typed.audio_lens[0]]), decoder.finish(state)]
    assert [token for part in parts for token in part[0].tokens] == biased.tokens


# Hotwords and a table


def test_taken_back_at_the_end_of_a_text(characters: Tokenizer) -> None:
    """A hotword that is cut off by the end wins nothing."""
    assert _covered(characters, ["new york"], "new yor") == 0
    eos_idx, size = characters.vocab_info.eos_idx, characters.vocab_info.size
    assert eos_idx == EOS
    text = _encode(characters, "new yor")

    def row(tokens: tuple[int, ...]) -> torch.Tensor:
        probs = torch.full((size,), 1e-9, dtype=torch.float64)
        probs[text[len(tokens)] if len(tokens) < len(text) else EOS] = 1.0
        return probs.log()

    tree = hotword_tree(characters, ["new york"])
    scorers = [WeightedScorer(HotwordScorer(tree, 1), 2.0, is_additive=True)]
    search = BeamSearch(SearchOptions(1, EOS), scorers=scorers)
    ((best,),) = search.run(TableDecoder([row]), [20])
    assert best.tokens == text
    assert best.score == pytest.approx(0.0)
