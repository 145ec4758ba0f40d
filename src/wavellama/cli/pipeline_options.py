"""The options of commands that transcribe, and what they mean for the pipeline."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wavellama.cli.interrupt import ended_by_interrupt
from wavellama.errors import ConfigError
from wavellama.files import read_lines

if TYPE_CHECKING:
    from wavellama.model.config import Wav2Vec2LlamaBeamSearchConfig
    from wavellama.pipeline.inference import ASRInferencePipeline
    from wavellama.pipeline.inputs import ContextExample
    from wavellama.pipeline.options import TranscribeOptions

DTYPES: Final = ("float32", "bfloat16", "float16")

SEARCH_OPTIONS: Final = ("ctc_weight", "ctc_draft", "weights")
"""Options that are fields of the search; its ``nbest`` is the number of beams."""

PIPELINE_OPTIONS: Final = (
    *(
        "lang",
        "languages",
        "script",
        "nbest",
        "draft_model",
        "hotwords",
        "hotword_weight",
        "lm",
        "lm_weight",
    ),
    *("audio_track", "channel"),
    *("vad", "chunk_secs", "batch_secs", "normalization", "word_timestamps", "aligner"),
    *("update_secs", "endpoint_secs"),
)
"""Options that are fields of ``TranscribeOptions``."""


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add what says where and with which model to work."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        required=True,
        metavar="CARD|DIR",
        help="a model card, or the output directory of a training run",
    )
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, ...; default: a GPU if any")
    group.add_argument("--dtype", choices=DTYPES, help="default: bfloat16 on a GPU, else float32")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    group.add_argument(
        "--weights", choices=("native", "int8"), help="int8: the decoder in 8 bits, on a CPU"
    )


def add_language_options(parser: argparse.ArgumentParser) -> None:
    """Add what is known of the language."""
    group = parser.add_argument_group("language")
    group.add_argument("--lang", metavar="CODE", help="the language that is spoken: eng_Latn, ...")
    group.add_argument(
        "--languages",
        type=_comma_list,
        metavar="CODE,CODE,...",
        help="languages that may be spoken: the likeliest is detected, piece by piece",
    )
    group.add_argument("--script", metavar="CODE", help="the only script to write in: Latn, ...")
    group.add_argument(
        "--hotwords",
        type=_words,
        metavar="WORD,...|@FILE",
        help="words and phrases that are likely; @FILE: one per line",
    )
    group.add_argument("--hotword-weight", type=float, metavar="W", help="how much they count")
    group.add_argument("--lm", type=Path, metavar="FILE", help="n-gram language model (kenlm)")
    group.add_argument("--lm-weight", type=float, metavar="W", help="how much it counts")
    group.add_argument(
        "--examples",
        type=Path,
        metavar="TSV",
        help="zero-shot models: a table of audio files and their texts to read first",
    )


def add_audio_options(parser: argparse.ArgumentParser) -> None:
    """Add which sound of a file is read."""
    group = parser.add_argument_group("audio")
    group.add_argument(
        "--audio-track",
        metavar="N|LANG",
        help="by number from 1 on, or language (the default track of the file)",
    )
    group.add_argument("--channel", metavar="N|mix", help="a channel alone (mix: their mean)")


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Add how to search, and how to cut audio."""
    group = parser.add_argument_group("search")
    group.add_argument(
        "--beam", type=int, metavar="N", help="beams (default: as many as --nbest returns)"
    )
    group.add_argument("--ctc-weight", type=float, metavar="W", help="share of a CTC head (0)")
    group.add_argument(
        "--ctc-draft", action="store_true", default=None, help="read drafts of the CTC head: faster"
    )
    group.add_argument("--draft-model", metavar="CARD|DIR", help="a CTC model that drafts texts")
    group.add_argument(
        "--chunk-seconds", dest="chunk_secs", type=float, metavar="S", help="longest piece"
    )
    group.add_argument("--normalization", choices=("clip", "causal"), help="of streaming models")


def add_result_options(parser: argparse.ArgumentParser) -> None:
    """Add what to find out beside the text."""
    group = parser.add_argument_group("results")
    group.add_argument("--nbest", type=int, metavar="N", help="hypotheses to return (1)")
    group.add_argument(
        "--word-timestamps",
        action=argparse.BooleanOptionalAction,
        help="find the times of words (default: where the format has them)",
    )
    group.add_argument("--aligner", metavar="CARD|DIR", help="a CTC model that finds word times")


def add_cutting_options(parser: argparse.ArgumentParser) -> None:
    """Add how to cut files, and how much of them to recognise at a time."""
    group = parser.add_argument_group("long audio")
    group.add_argument(
        "--vad",
        action=argparse.BooleanOptionalAction,
        help="cut in silences, or at fixed times (default: in silences, and only what is too long)",
    )
    group.add_argument(
        "--batch-seconds", dest="batch_secs", type=float, metavar="S", help="audio at a time (60)"
    )


def to_options(args: argparse.Namespace, **more: Any) -> TranscribeOptions:
    """Return the options that were given; all others keep their defaults.

    :raises ConfigError: a value is out of range.
    :raises UnknownLanguageError: a language code is not known.
    """
    with ended_by_interrupt():
        from wavellama.pipeline.options import TranscribeOptions

    given = {key: value for key, value in vars(args).items() if value is not None}
    fields = {name: given[name] for name in SEARCH_OPTIONS if name in given}
    num_beams = _num_beams(args.beam, given.get("nbest"))
    searches = bool(fields) or args.beam is not None or num_beams > 1
    search = search_config(nbest=num_beams, **fields) if searches else None
    chosen = {name: given[name] for name in PIPELINE_OPTIONS if name in given}
    return TranscribeOptions(search=search, **chosen, **more)


def _num_beams(beam: int | None, nbest: int | None) -> int:
    """Return the number of beams: what was asked for, or as many as return the hypotheses.

    :raises ConfigError: fewer beams than hypotheses were asked for.
    """
    if beam is None:
        return max(1, nbest or 1)
    if nbest is not None and nbest > max(1, beam):
        raise ConfigError(
            f"`--nbest {nbest}` needs as many beams, but `--beam` is {beam}: let it be {nbest}, or"
            " leave it out."
        )
    return beam


def search_config(**fields: Any) -> Wav2Vec2LlamaBeamSearchConfig:
    """Return how to search.

    :raises ConfigError: a value is out of range.
    """
    from fairseq2.utils.validation import StandardObjectValidator, ValidationError

    from wavellama.model.config import Wav2Vec2LlamaBeamSearchConfig

    config = Wav2Vec2LlamaBeamSearchConfig(**fields)
    try:
        StandardObjectValidator().validate(config)
    except ValidationError as ex:
        raise ConfigError(f"The search is impossible: {ex}") from ex
    return config


def create_pipeline(args: argparse.Namespace) -> ASRInferencePipeline:
    """Load the model.

    :raises ConfigError: the number of threads is not positive, or there is no such device.
    :raises UnknownLanguageError: the model does not know a language that was given.
    """
    with ended_by_interrupt():
        import torch

        from wavellama.pipeline.devices import default_device, find_device
        from wavellama.pipeline.inference import ASRInferencePipeline

    if args.threads is not None:
        if args.threads < 1:
            raise ConfigError(f"`--threads` must be at least 1, but is {args.threads}.")
        if args.threads > (cores := os.cpu_count() or 1):
            raise ConfigError(
                f"`--threads` must be at most {cores}, the cores of this machine, but is"
                f" {args.threads}."
            )
        torch.set_num_threads(args.threads)
    device = find_device(args.device, "--device") if args.device else default_device()
    dtype = args.dtype or ("float32" if device.type == "cpu" else "bfloat16")
    _check_languages(args)
    return ASRInferencePipeline(args.model, device=device, dtype=getattr(torch, dtype))


def _check_languages(args: argparse.Namespace) -> None:
    """Check languages before the model is loaded; one that takes none says so itself.

    :raises UnknownLanguageError: the model does not know one of them.
    """
    from wavellama.checkpoints.hub import find_model

    codes = [args.lang, *(args.languages or ())]
    if any(codes):
        table = find_model(args.model).languages
        for code in codes if table else ():
            table.row(code)


def read_examples(path: Path | None) -> Sequence[ContextExample] | None:
    """Return the examples of a table; None where there is none.

    :raises DataError: the table cannot be read, or has a row that is not an audio file and a text.
    """
    if path is None:
        return None
    from wavellama.pipeline.examples import read_examples_tsv

    return read_examples_tsv(path)


def _comma_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _words(text: str) -> tuple[str, ...]:
    """Return words separated by commas, or the lines of a file."""
    if not text.startswith("@"):
        return _comma_list(text)
    try:
        lines = read_lines(Path(text[1:]))
    except (OSError, UnicodeDecodeError) as ex:
        raise argparse.ArgumentTypeError(f"{text[1:]} cannot be read ({ex})") from ex
    return tuple(line.strip() for line in lines if line.strip())
