"""The recipe ``transcribe``: a data set or files in, JSON lines and text out."""

from __future__ import annotations

import fairseq2.recipe  # noqa: F401  # isort: skip  # before fairseq2.generator, which needs it loaded

from pathlib import Path
from typing import final

from fairseq2.datasets import Seq2SeqBatch
from fairseq2.gang import Gangs
from fairseq2.generator import GeneratorUnit
from fairseq2.metrics import MetricBag, Sum
from fairseq2.recipe import Recipe, RecipeContext
from fairseq2.task import Task
from typing_extensions import override

from wavellama.pipeline.results import write_atomic
from wavellama.tasks.file_transcription import create_file_transcription
from wavellama.tasks.inference_config import TranscribeConfig
from wavellama.tasks.output import RankFiles
from wavellama.tasks.transcriber import Transcriber, open_split
from wavellama.transcript.writers import table_row


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

    @override
    def create_task(self, context: RecipeContext) -> Task:
        config = context.get_config_as(TranscribeConfig)
        config.check_model()
        if config.files is not None:
            return create_file_transcription(context, config)
        reader, transcriber = open_split(context, config)
        unit = TranscriptionUnit(transcriber, context.output_dir, context.gangs)
        return context.create_generator(unit, reader)

    @property
    @override
    def config_kls(self) -> type[object]:
        return TranscribeConfig
