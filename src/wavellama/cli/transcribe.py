"""``transcribe PATH...``: what is said in audio files, as text, subtitles or JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from wavellama.cli.pipeline_options import (
    Subparsers,
    add_machine_options,
    add_model_options,
    add_options,
    add_transcription_options,
    create_pipeline,
    read_examples,
    to_options,
)
from wavellama.errors import AudioError, ConfigError, TranscriptionError
from wavellama.transcript.options import READABLE
from wavellama.transcript.writers import (
    Formats,
    WriterOptions,
    find_formats,
    format_names,
    has_subtitles,
    readable,
    table_row,
)

if TYPE_CHECKING:
    from wavellama.audio.load import AudioInput
    from wavellama.pipeline.options import TranscribeOptions
    from wavellama.pipeline.sources import SourceFile
    from wavellama.transcript.types import Transcript

    Save: TypeAlias = Callable[[SourceFile, Transcript], None]

STDIN: Final = Path("-")


def add_transcribe_parser(subparsers: Subparsers) -> None:
    """Add the command ``transcribe``."""
    parser = subparsers.add_parser("transcribe", help="write down what is said in audio files")
    parser.add_argument(
        "paths",
        nargs="+",
        type=_not_empty,
        metavar="PATH",
        help="audio or video files, folders of them, or - for standard input",
    )
    model = parser.add_argument_group("model")
    add_machine_options(model)
    add_model_options(model)
    add_transcription_options(parser)
    _add_output_options(parser)
    parser.set_defaults(run=run_transcribe)


def _not_empty(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("a path is empty")
    return Path(text)


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "--format",
        default="txt",
        metavar="NAME,...",
        help=f"one or more of {', '.join(format_names())} (%(default)s)",
    )
    group.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="write files there; an interrupted job goes on where it was (default: print)",
    )
    add_options(group, WriterOptions)
    group.add_argument(
        "--raw-rate", type=int, metavar="HZ", help="standard input is raw 16-bit mono audio"
    )


def run_transcribe(args: argparse.Namespace) -> int:
    """Write the transcript of each file as soon as it is there; bad files are named at the end."""
    from wavellama.pipeline.sources import find_files

    formats, layout = _choose_layout(args)
    if has_subtitles(formats):
        if args.highlight_words and args.word_timestamps is False:
            raise ConfigError("`--highlight-words` needs word times: drop `--no-word-timestamps`.")
        args.word_timestamps = args.word_timestamps is not False
    options = to_options(args, in_order=args.output_dir is None)
    files = find_files(args.paths)
    if args.raw_rate is not None and STDIN not in args.paths:
        raise ConfigError("`--raw-rate` is about standard input: name it as -.")
    if args.output_dir is None:
        return _run(args, options, files, _printer(formats, layout, len(files)))
    from wavellama.pipeline.results import ResultFolder

    settings = {"model": args.model, "dtype": args.dtype, "examples": args.examples}
    settings |= {"format": tuple(formats), **asdict(layout), **options.settings}
    with closing(ResultFolder(args.output_dir, formats, layout, settings)) as folder:
        todo = folder.remaining(files)
        if len(todo) < len(files):
            print(f"{len(files) - len(todo)} of {len(files)} files are done.", file=sys.stderr)
        return _run(args, options, todo, folder.save)


def _choose_layout(args: argparse.Namespace) -> tuple[Formats, WriterOptions]:
    """Return the formats, and the layout of subtitles: two lines of 42 columns by default."""
    formats = find_formats(args.format)
    width, count = args.max_line_width, args.max_line_count
    if count is not None and width is None and has_subtitles(formats):
        width = READABLE.max_line_width
    return formats, readable(WriterOptions(width, count, bool(args.highlight_words)), formats)


def _run(
    args: argparse.Namespace, options: TranscribeOptions, files: Sequence[SourceFile], save: Save
) -> int:
    """Transcribe files, and return the exit code; no model is loaded for files that are missing."""
    from wavellama.audio.sources import missing_reason

    if all(file.path != STDIN and missing_reason(file.path) for file in files):
        missing = ((str(file.path), missing_reason(file.path)) for file in files)
        return _report(AudioError(path, reason or "") for path, reason in missing)
    from wavellama.cli.progress import audio_progress

    examples = read_examples(args.examples)
    pipeline = create_pipeline(args)
    audio = [_open(file, args.raw_rate) for file in files]
    with audio_progress(audio) as advance:
        transcripts = pipeline.stream_results(
            audio, options, examples=examples, on_progress=advance
        )
        try:
            for transcript in transcripts:
                save(files[transcript.index], transcript)
        except TranscriptionError as ex:
            failures = ex.failures
        else:
            return 0
    return _report(failures.values())


def _report(failures: Iterable[AudioError]) -> int:
    code = 0
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
        code = 1
    return code


def _open(file: SourceFile, raw_rate: int | None) -> AudioInput:
    """Return what the pipeline reads; standard input is read as it is needed."""
    if file.path != STDIN:
        return file.path
    if raw_rate is None:
        return sys.stdin.buffer
    from wavellama.audio.sources import RawPcm

    return RawPcm(sys.stdin.buffer, raw_rate)


def _printer(formats: Formats, options: WriterOptions, num_files: int) -> Save:
    (name, chosen), *more = formats.items()
    if more or (num_files > 1 and not chosen.is_line_based):
        raise ConfigError(
            f"{' and '.join(formats)} of {num_files} file(s) cannot be printed one after the other;"
            " say where to write files: --output-dir DIR."
        )

    def save(file: SourceFile, transcript: Transcript) -> None:
        if name == "txt" and num_files > 1:
            text = table_row(str(file.path), transcript.text)
        else:
            text = chosen.write(transcript, options)
        sys.stdout.write(text)
        sys.stdout.flush()

    return save
