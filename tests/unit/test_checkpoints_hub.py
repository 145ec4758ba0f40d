"""What a model's name means: a card, or a training run."""

from __future__ import annotations

from pathlib import Path

import pytest
from fairseq2.assets import AssetCard, AssetCardError

from tests.fakes_checkpoints import write_run
from wavellama import (
    ASRInferencePipeline,
    Wav2Vec2LlamaBeamSearchConfig,
    Wav2Vec2LlamaModel,
    load_model,
)
from wavellama.checkpoints.hub import find_model
from wavellama.cli.main import main
from wavellama.errors import ConfigError, UnknownNameError

CARD = "omniASR_LLM_300M"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, which is the home directory, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("has_run", [False, True])
def test_a_card_goes_before_a_folder_of_its_name(here: Path, has_run: bool) -> None:
    """As ``--model CARD --output-dir CARD`` makes one: the card could not be loaded any more."""
    write_run(here / CARD) if has_run else (here / CARD).mkdir()
    found = find_model(CARD)
    assert (found.card.name, found.run, found.tokenizer_name) == (CARD, None, CARD)
    assert isinstance(load_model(CARD, device="meta"), Wav2Vec2LlamaModel)


@pytest.mark.parametrize("name", [f"./{CARD}", f"{CARD}/", f"~/{CARD}", "runs/../" + CARD])
def test_a_path_means_a_run(here: Path, name: str) -> None:
    (here / "runs").mkdir()
    write_run(here / CARD)
    run = find_model(name).run
    assert run is not None
    assert run.folder.samefile(here / CARD)


def test_a_folder_with_a_run_needs_no_separator(here: Path) -> None:
    write_run(here / "toy", "tokenizer: {name: toy_tokenizer}\ndataset: {max_audio_secs: 7}\n")
    found = find_model("toy")
    assert found.run is not None
    assert found.card.name == found.run.checkpoint == "last_checkpoint"
    assert (found.tokenizer_name, found.max_audio_secs) == ("toy_tokenizer", 7.0)
    assert found.load_tokenizer().vocab_info.size == 32


@pytest.mark.parametrize("name", ["runs/none", "~/none", ".", "empty", "~nobody_at_all/x"])
def test_a_path_without_a_run(here: Path, name: str) -> None:
    (here / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no training run with a checkpoint"):
        find_model(name)


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name(name: str) -> None:
    with pytest.raises(ConfigError, match="name is empty"):
        find_model(name)


def test_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match=f"omniASR_LLM_300 .*{CARD}"):
        find_model("omniASR_LLM_300")
    with pytest.raises(UnknownNameError, match="toy_tokenizer is not a known model card"):
        find_model("toy_tokenizer")


def test_what_a_card_or_a_run_does_not_know(here: Path) -> None:
    found = find_model(str(write_run(here / "toy")))
    assert (found.tokenizer_name, found.max_audio_secs) == (None, None)
    with pytest.raises(ConfigError, match="does not name the card of its tokenizer"):
        found.load_tokenizer()
    card = find_model(AssetCard("bare", {"model_family": "wav2vec2_asr"}))
    assert (card.tokenizer_name, card.max_audio_secs) == (None, None)
    with pytest.raises(AssetCardError, match="tokenizer_family"):
        card.load_tokenizer()


def test_an_encoder_is_refused_before_its_checkpoint_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("wavellama.checkpoints.fetch.download", None)
    message = "A Wav2Vec2Model does not recognise speech"
    with pytest.raises(ConfigError, match=message):
        ASRInferencePipeline("omniASR_W2V_300M")
    Path("manifest.tsv").write_text("audio\ttext\tduration\n")
    with pytest.raises(SystemExit, match="2"):
        main(["data", "align", ".", "--out", "x.tsv", "--model", "omniASR_W2V_300M"])
    assert message in capsys.readouterr().err
    for recipe in (("transcribe", "transcribe_files"), ("eval", "llm_eval")):
        with pytest.raises(SystemExit, match="2"):
            main(["recipe", "asr", *recipe, "--model", "omniASR_W2V_300M"])
        assert message in capsys.readouterr().err


def test_a_card_says_how_its_model_is_searched() -> None:
    fields: dict[str, object] = {"model_family": "wav2vec2_llama"}
    assert find_model(AssetCard("plain", fields)).read_search().nbest == 1
    fields["search"] = {"nbest": 4, "ctc_weight": 0.7}
    found = find_model(AssetCard("joint", fields)).read_search()
    assert found == Wav2Vec2LlamaBeamSearchConfig(nbest=4, ctc_weight=0.7)
    assert find_model(AssetCard("empty", {**fields, "search": {}})).read_search().nbest == 1


@pytest.mark.parametrize(
    "search", ["fast", 3, ["nbest"], {"nbest": "many"}, {"nbest": 0}, {"beams": 4}, {1: 2}]
)
def test_a_search_that_cannot_be(search: object) -> None:
    fields = {"model_family": "wav2vec2_llama", "search": search}
    with pytest.raises(ConfigError, match="`search` of the card odd is impossible"):
        find_model(AssetCard("odd", fields)).read_search()
