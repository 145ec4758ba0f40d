"""The options of the command line, and what they become for the pipeline."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from wavellama.checkpoints.hub import find_model
from wavellama.cli.main import create_parser
from wavellama.cli.pipeline_options import create_pipeline, flags, to_options
from wavellama.errors import ConfigError
from wavellama.options import declared, named
from wavellama.pipeline.options import DEFAULT_MODEL, TranscribeOptions

DEFAULTS = TranscribeOptions()


def parse(
    *words: str, command: str = "transcribe", model: str = "omniASR_LLM_300M"
) -> TranscribeOptions:
    paths = ["a.wav"] if command == "transcribe" else []
    with named(flags()):
        return to_options(create_parser().parse_args([command, *paths, "--model", model, *words]))


def test_nothing_said_is_what_python_does_by_default() -> None:
    assert parse() == DEFAULTS


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--lang", "deu_Latn"], "lang", "deu_Latn"),
        (["--languages", "deu_Latn, eng_Latn"], "languages", ("deu_Latn", "eng_Latn")),
        (["--script", "Latn"], "script", "Latn"),
        (["--hotwords", "Ada Lovelace,engine"], "hotwords", ("Ada Lovelace", "engine")),
        (["--hotword-weight", "0.5"], "hotword_weight", 0.5),
        (["--lm", "words.arpa"], "lm", Path("words.arpa")),
        (["--lm-weight", "0.1"], "lm_weight", 0.1),
        (["--draft-model", "omniASR_CTC_300M"], "draft_model", "omniASR_CTC_300M"),
        (["--audio-track", "2"], "audio_track", "2"),
        (["--audio-track", "eng"], "audio_track", "eng"),
        (["--channel", "1"], "channel", "1"),
        (["--vad"], "vad", True),
        (["--no-vad"], "vad", False),
        (["--chunk-seconds", "12"], "chunk_secs", 12.0),
        (["--batch-seconds", "30"], "batch_secs", 30.0),
        (["--normalization", "causal"], "normalization", "causal"),
        (["--word-timestamps"], "word_timestamps", True),
        (["--no-word-timestamps"], "word_timestamps", False),
        (["--aligner", "omniASR_CTC_300M"], "aligner", "omniASR_CTC_300M"),
    ],
)
def test_each_option_is_a_field(words: list[str], field: str, value: Any) -> None:
    chosen = parse(*words)
    assert getattr(chosen, field) == value
    assert type(getattr(chosen, field)) is type(value)
    others = [one.name for one in fields(chosen) if one.name != field]
    assert all(getattr(chosen, name) == getattr(DEFAULTS, name) for name in others)


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--beam", "4"], "nbest", 4),
        (["--ctc-weight", "0.3"], "ctc_weight", 0.3),
        (["--ctc-draft"], "ctc_draft", True),
        (["--weights", "int8"], "weights", "int8"),
        (["--weights", "int4"], "weights", "int4"),
    ],
)
def test_options_of_the_search(words: list[str], field: str, value: Any) -> None:
    assert getattr(parse(*words).beam, field) == value


def test_hypotheses_to_return_are_not_beams() -> None:
    chosen = parse("--beam", "4", "--nbest", "3")
    assert (chosen.nbest, chosen.beam.nbest) == (3, 4)


def test_as_many_beams_as_hypotheses_to_return() -> None:
    """``--nbest 5`` alone was once an error that did not say how many beams there must be."""
    assert parse("--nbest", "5").beam.nbest == 5
    assert parse("--nbest", "1").search is None
    with pytest.raises(ConfigError, match="`--nbest 5` needs as many beams, but `--beam` is 2"):
        parse("--nbest", "5", "--beam", "2")
    with pytest.raises(ConfigError, match="`--nbest` must be at least 1, but is 0"):
        parse("--nbest", "0")


@pytest.mark.parametrize("words", [("--nbest", "2"), ("--word-timestamps",), ("--aligner", "x")])
def test_live_offers_nothing_that_it_does_not_print(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(*words, command="live")
    assert "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", "hpu", "mps"])
def test_a_device_that_is_not_there_is_one_sentence(name: str) -> None:
    """Of the card no weights are loaded: there is none."""
    words = ["transcribe", "a.wav", "--model", "no_such_card", "--device", name]
    message = rf"`--device {name}` cannot be used \(.{{5,200}}\)"
    with pytest.raises(ConfigError, match=message), named(flags()):
        create_pipeline(create_parser().parse_args(words))


def test_an_impossible_search_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"`--beam` must be at least 1, but is 0"):
        parse("--beam", "0")


def test_options_of_live_audio() -> None:
    chosen = parse("--update-seconds", "0.5", "--endpoint-seconds", "0.9", command="live")
    assert (chosen.update_secs, chosen.endpoint_secs) == (0.5, 0.9)


def test_hotwords_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("Ada Lovelace\n\n engine \n", "utf-8")
    assert parse("--hotwords", f"@{path}").hotwords == ("Ada Lovelace", "engine")


def test_every_field_has_an_option_but_those_of_python_alone() -> None:
    parser = create_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    offered = {
        action.dest
        for command in ("transcribe", "live")
        for action in commands.choices[command]._actions
    }
    missing = {name for name in declared(TranscribeOptions) if name not in offered}
    assert {name for name in missing if "." not in name} == {"search", "in_order"}
    inner = {"length_norm", "repetition_guard", "compression_window", "compression_threshold"}
    inner.add("max_new_tokens")
    assert {name for name in missing if "." in name} == {f"search.{name}" for name in inner}


def test_what_is_said_of_the_search_changes_that_of_the_card() -> None:
    best = find_model(DEFAULT_MODEL).read_search()
    assert best.ctc_weight > 0
    assert parse("--beam", "7", model=DEFAULT_MODEL).search == replace(best, nbest=7)
    alone = parse("--ctc-weight", "0", model=DEFAULT_MODEL).search
    assert alone == replace(best, ctc_weight=0.0)
    assert parse("--lang", "ita_Latn", model=DEFAULT_MODEL).search is None
