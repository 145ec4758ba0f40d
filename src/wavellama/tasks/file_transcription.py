"""The recipe ``transcribe`` on files of any length: what the command does, over many processes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import final

from fairseq2.gang import Gangs
from fairseq2.recipe import RecipeContext
from fairseq2.task import Task, TaskStopException
from typing_extensions import override

from wavellama.errors import ConfigError, TranscriptionError
from wavellama.pipeline.inference import ASRInferencePipeline
from wavellama.pipeline.options import TranscribeOptions
from wavellama.pipeline.results import ResultFolder, merge_journals
from wavellama.pipeline.sources import SourceFile, find_files
from wavellama.tasks.config import TranscribeConfig
from wavellama.transcript.writers import check_formats

_log = logging.getLogger(__name__)


@final
class FileTranscription(Task):
    """Transcribes this process's share of the files into the run's folder.

    File i belongs to process i modulo their number. What a run before has completed, with however
    many processes, is not done again.
    """

    def __init__(
        self,
        pipeline: ASRInferencePipeline,
        options: TranscribeOptions,
        files: Sequence[SourceFile],
        folder: ResultFolder,
        gangs: Gangs,
    ) -> None:
        self._pipeline, self._options = pipeline, options
        self._files, self._folder, self._gangs = files, folder, gangs
        self._step_nr, self._stop_requested = 0, False

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
            self._transcribe(own)
        except TranscriptionError as ex:
            failure = ex
        gang.barrier()
        if gang.rank == 0:
            merge_journals(self._folder.path, [str(file.path) for file in self._files])
        gang.barrier()
        self._gangs.close()
        if failure is not None:
            raise failure

    def _transcribe(self, files: Sequence[SourceFile]) -> None:
        paths = [file.path for file in files]
        for transcript in self._pipeline.stream_results(paths, self._options):
            self._folder.save(files[transcript.index], transcript)
            self._step_nr += 1
            if self._stop_requested:
                raise TaskStopException
            if self._step_nr % 10 == 0:
                _log.info("%d of %d files are done.", self._step_nr, len(files))

    @override
    def request_stop(self) -> None:
        self._stop_requested = True

    @property
    @override
    def step_nr(self) -> int:
        return self._step_nr

    @override
    def close(self) -> None:
        """Nothing is open between two files."""


def create_file_transcription(context: RecipeContext, config: TranscribeConfig) -> Task:
    """Return the task that transcribes the files of a configuration.

    :raises ConfigError: there are no files, a folder holds no audio, the model cannot do what the
        options ask for, or the output folder holds results of another model or other options.
    """
    if not config.files:
        raise ConfigError("`files` names no file; say which: --config 'files=[a.wav,folder]'.")
    rank = context.gangs.root.rank
    model = context.get_model()
    pipeline = ASRInferencePipeline(
        None,
        model=model,
        tokenizer=context.get_tokenizer(),
        device=context.gangs.device,
        dtype=next(model.parameters()).dtype,
    )
    files = find_files([Path(file) for file in config.files])
    formats = check_formats(",".join(config.formats), config.layout)
    settings = {"model": asdict(config.model), **config.options.settings}
    settings |= {"formats": formats, **asdict(config.layout)}
    folder = ResultFolder(context.output_dir, formats, config.layout, settings, rank)
    return FileTranscription(pipeline, config.options, files, folder, context.gangs)
