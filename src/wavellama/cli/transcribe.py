"""``transcribe FILE...``: the text of audio files, with a model by card or by training run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from wavellama.errors import AudioError, ConfigError, TranscriptionError, WavellamaError

if TYPE_CHECKING:
    from wavellama.pipeline.inference import ASRInferencePipeline

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

DTYPES: Final = ("float32", "bfloat16", "float16")


def add_transcribe_parser(subparsers: Subparsers) -> None:
    """Add the command ``transcribe``."""
    parser = subparsers.add_parser("transcribe", help="write down what is said in audio files")
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio of any common format")
    parser.add_argument(
        "--model",
        required=True,
        metavar="CARD|DIR",
        help="a model card, or the output directory of a training run",
    )
    parser.add_argument("--lang", metavar="CODE", help="the language of the files: eng_Latn, ...")
    parser.add_argument("--beam", type=int, default=1, metavar="N", help="beams (%(default)s)")
    parser.add_argument(
        "--batch-size", type=int, default=2, metavar="N", help="files at a time (%(default)s)"
    )
    parser.add_argument(
        "--format",
        choices=("txt", "jsonl"),
        default="txt",
        help="txt: the text, after the file's name if there are several; jsonl: JSON lines",
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, ...; default: a GPU if any")
    parser.add_argument("--dtype", choices=DTYPES, help="default: bfloat16 on a GPU, else float32")
    parser.set_defaults(run=run_transcribe)


def run_transcribe(args: argparse.Namespace) -> int:
    """Print the text of each file as soon as its batch is done; bad files are named at the end."""
    if args.batch_size < 1:
        raise ConfigError(f"`--batch-size` must be at least 1, but is {args.batch_size}.")
    pipeline = _create_pipeline(args)
    failures: list[WavellamaError] = []
    for begin in range(0, len(args.files), args.batch_size):
        files = args.files[begin : begin + args.batch_size]
        for file, text in _transcribe(pipeline, files, args.lang, failures):
            print(_format(file, text, args), flush=True)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _create_pipeline(args: argparse.Namespace) -> ASRInferencePipeline:
    import torch

    from wavellama.model.config import Wav2Vec2LlamaBeamSearchConfig
    from wavellama.pipeline.inference import ASRInferencePipeline, default_device

    device = torch.device(args.device) if args.device else default_device()
    dtype = args.dtype or ("float32" if device.type == "cpu" else "bfloat16")
    return ASRInferencePipeline(
        args.model,
        device=device,
        dtype=getattr(torch, dtype),
        beam_search_config=Wav2Vec2LlamaBeamSearchConfig(nbest=args.beam),
    )


def _transcribe(
    pipeline: ASRInferencePipeline,
    files: Sequence[str],
    lang: str | None,
    failures: list[WavellamaError],
) -> Iterator[tuple[str, str]]:
    """Yield the files that could be transcribed, with their texts; note the others."""
    try:
        texts: Sequence[str | None] = pipeline.transcribe(
            [Path(file) for file in files], lang=lang, batch_size=len(files)
        )
    except AudioError as ex:
        texts = [None]
        failures.append(ex)
    except TranscriptionError as ex:
        texts = ex.texts
        failures.extend(ex.failures.values())
    for file, text in zip(files, texts, strict=True):
        if text is not None:
            yield file, text


def _format(file: str, text: str, args: argparse.Namespace) -> str:
    if args.format == "jsonl":
        return json.dumps({"audio": file, "lang": args.lang, "text": text}, ensure_ascii=False)
    return text if len(args.files) == 1 else f"{file}\t{text}"
