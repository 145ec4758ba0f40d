"""Files that several processes write together: one part per rank, merged by the first."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import isnan
from pathlib import Path
from typing import Any, TypeAlias

from fairseq2.gang import Gangs

from wavellama.files import read_lines
from wavellama.pipeline.results import write_atomic
from wavellama.tasks.transcriber import Transcription

Record: TypeAlias = dict[str, Any]


def to_record(row: Transcription) -> Record:
    """Return a transcription as one JSON object."""
    record: Record = {
        "audio": row.audio,
        "offset": row.offset,
        "lang": row.lang,
        "duration": row.duration,
        "reference": row.reference,
    }
    if row.hypothesis is None:  # a CTC model: its text is the hypothesis
        return {**record, "hypothesis": row.ctc_text}
    record["hypothesis"] = row.text
    score = row.hypothesis.score
    record["score"] = None if isnan(score) else score
    record["stop_reason"] = row.hypothesis.stop_reason
    if row.ctc_text is not None:
        record["ctc_hypothesis"] = row.ctc_text
    return record


class RankFiles:
    """``NAME.jsonl``, which all processes write together: a part each, merged by the first."""

    def __init__(self, output_dir: Path, name: str, gangs: Gangs) -> None:
        self._dir, self._name, self._gang = output_dir, name, gangs.root
        self._file = self._part(self._gang.rank).open("w", encoding="utf-8")

    def _part(self, rank: int) -> Path:
        return self._dir / f".{self._name}.rank{rank}.jsonl"

    def write(self, rows: Iterable[Transcription]) -> None:
        """Add rows to the part of this process."""
        self._file.writelines(_to_line(to_record(row)) for row in rows)
        self._file.flush()

    def merge(self) -> list[Record]:
        """Merge all parts; return their records on the first process, else none."""
        self._file.close()
        self._gang.barrier()
        if self._gang.rank != 0:
            return []
        parts = [self._part(rank) for rank in range(self._gang.size)]
        records: list[Record] = [json.loads(line) for part in parts for line in read_lines(part)]
        records.sort(key=lambda record: (str(record["audio"]), record["offset"] or 0.0))
        write_atomic(self._dir / f"{self._name}.jsonl", "".join(map(_to_line, records)))
        for part in parts:
            part.unlink()
        return records


def _to_line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
