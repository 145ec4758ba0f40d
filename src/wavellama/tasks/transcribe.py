"""The recipe ``transcribe``: a data set or files in, JSON lines and text out."""

from __future__ import annotations

import fairseq2.recipe  # noqa: F401  # isort: skip  # before fairseq2.generator, which needs it loaded

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast, final

from fairseq2.datasets import Seq2SeqBatch
from fairseq2.gang import Gangs
from fairseq2.generator import GeneratorUnit
from fairseq2.metrics import MetricBag, Sum
from fairseq2.recipe import Recipe, RecipeContext
from fairseq2.task import Task, TaskStopException
from typing_extensions import override

from wavellama.errors import ConfigError, TranscriptionError
from wavellama.options import declared, named
from wavellama.pipeline.inference import ASRInferencePipeline
from wavellama.pipeline.inputs import read_examples_tsv
from wavellama.pipeline.options import TranscribeOptions
from wavellama.pipeline.results import ResultFolder, merge_journals, write_atomic
from wavellama.pipeline.sources import SourceFile, find_files
from wavellama.tasks.adapters import adapt
from wavellama.tasks.inference_config import TranscribeConfig
from wavellama.tasks.output import RankFiles
from wavellama.tasks.transcriber import Transcriber, open_split
from wavellama.transcript.types import Transcript
from wavellama.transcript.writers import WriterOptions, find_formats, readable, table_row

_log = logging.getLogger(__name__)


@final
class TranscriptionUnit(GeneratorUnit[Seq2SeqBatch]):
    """Decodes a batch and writes what was recognised."""

    def __init__(self, transcriber: Transcriber, output_dir: Path, gangs: Gangs) -> None:
        self._transcriber, self._output_dir, self._gangs = transcriber, output_dir, gangs
        self._files = RankFiles(output_dir, "transcripts", gangs)

    @override
    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        metric_bag.add("num_transcripts", Sum())

    @override
    def process_batch(self, batch: Seq2SeqBatch, metric_bag: MetricBag) -> None:
        rows = self._transcriber.transcribe(batch)
        self._files.write(rows)
        metric_bag.get("num_transcripts", Sum).update(len(rows))

    @override
    def finalize(self, metric_bag: MetricBag) -> None:
        records = self._files.merge()
        if self._gangs.root.rank == 0:
            lines = [table_row(record["audio"], record["hypothesis"]) for record in records]
            write_atomic(self._output_dir / "transcripts.txt", "".join(lines))


class AsrTranscription(Recipe):
    """Transcribes one split, or files."""

    config_kls = TranscribeConfig

    @override
    def create_task(self, context: RecipeContext) -> Task:
        config = context.get_config_as(TranscribeConfig)
        config.check_model()
        if config.files is not None:
            return create_file_transcription(context, config)
        reader, transcriber = open_split(context, config)
        unit = TranscriptionUnit(transcriber, context.output_dir, context.gangs)
        return context.create_generator(unit, reader)


@final
class FileTranscription(Task):
    """Transcribes this process's share of files of any length, as the command does.

    File i belongs to process i modulo their number. What a run before has completed, with however
    many processes, is not done again.
    """

    step_nr = 0
    """How many files are done."""

    def __init__(
        self,
        transcribe: Callable[[list[Path]], Iterator[Transcript]],
        files: Sequence[SourceFile],
        folder: ResultFolder,
        gangs: Gangs,
    ) -> None:
        """Take what yields the transcripts of files, and the folder of this process."""
        self._transcribe = transcribe
        self._files, self._folder, self._gangs = files, folder, gangs
        self._stop_requested = False

    @override
    def run(self) -> None:
        """Transcribe; bad files are logged, and are an error when all is done.

        :raises TranscriptionError: some files of this process are bad.
        """
        gang = self._gangs.root
        own = self._folder.remaining(self._files)[gang.rank :: gang.size]
        _log.info("%d of %d files are this process's to do.", len(own), len(self._files))
        gang.barrier()  # all have read what is done before anybody adds to it
        failure: TranscriptionError | None = None
        try:
            self._save_all(own)
        except TranscriptionError as ex:
            failure = ex
        gang.barrier()
        if gang.rank == 0:
            merge_journals(self._folder.path, [str(file.path) for file in self._files])
        gang.barrier()
        self._gangs.close()
        if failure is not None:
            raise failure

    def _save_all(self, files: Sequence[SourceFile]) -> None:
        for transcript in self._transcribe([file.path for file in files]):
            self._folder.save(files[transcript.index], transcript)
            self.step_nr += 1
            if self._stop_requested:
                raise TaskStopException
            if self.step_nr % 10 == 0:
                _log.info("%d of %d files are done.", self.step_nr, len(files))

    @override
    def request_stop(self) -> None:
        self._stop_requested = True

    @override
    def close(self) -> None:
        """Let others write into the folder."""
        self._folder.close()


def create_file_transcription(context: RecipeContext, config: TranscribeConfig) -> Task:
    """Return the task that transcribes the files of a configuration.

    :raises ConfigError: there are no files, a folder holds no audio, the tokenizer is not the
        model's, the model cannot do what the options ask for, or the output folder holds results of
        another model or other options.
    :raises DataError: the table of examples cannot be read.
    """
    paths = cast("Sequence[str]", config.files)
    if not paths:
        raise ConfigError("`files` names no file; say which: --config 'files=[a.wav,folder]'.")
    files = find_files(list(map(Path, paths)))
    examples = None if config.examples is None else read_examples_tsv(config.examples)
    options = cast("TranscribeOptions", config.options)  # made by `TranscribeConfig.structure`
    options = replace(options, in_order=False)  # what is done is saved at once
    card = _find_card(config)
    folder = _open_folder(context, config, card, options)
    try:
        pipeline = _create_pipeline(context, card)
    except BaseException:
        folder.close()
        raise

    def transcribe(paths: list[Path]) -> Iterator[Transcript]:
        with named({name: f"options.{name}" for name in declared(TranscribeOptions)}):
            return pipeline.stream_results(paths, options, examples=examples)

    return FileTranscription(transcribe, files, folder, context.gangs)


def _open_folder(
    context: RecipeContext, config: TranscribeConfig, card: str | None, options: TranscribeOptions
) -> ResultFolder:
    formats = find_formats(",".join(cast("Sequence[str]", config.formats)))
    layout = readable(cast("WriterOptions | None", config.layout) or WriterOptions(), formats)
    settings: dict[str, object] = {
        "card": card and card.rstrip(os.sep),
        "model": asdict(config.model),
        "examples": config.examples,
        "formats": tuple(formats),
        **asdict(layout),
        **options.settings,
    }
    rank = context.gangs.root.rank
    return ResultFolder(context.output_dir, formats, layout, settings, rank)


def _create_pipeline(context: RecipeContext, card: str | None) -> ASRInferencePipeline:
    """Load the model, and check that the tokenizer is its own, as the other recipes do."""
    model, tokenizer = context.get_model(), context.get_tokenizer()
    adapt(model).use_tokenizer(tokenizer)
    dtype = next(model.parameters()).dtype
    return ASRInferencePipeline(
        card, model=model, tokenizer=tokenizer, device=context.gangs.device, dtype=dtype
    )


def _find_card(config: TranscribeConfig) -> str | None:
    """Return the model's card, or the training run it comes from; None if it has neither."""
    checkpoints = config.common.assets.prev_checkpoint_dir
    if checkpoints is not None and "checkpoint" in str(config.model.name):
        # fairseq2 names these cards last_checkpoint and the like.
        return f"{checkpoints.parent}{os.sep}"
    return config.model.name
