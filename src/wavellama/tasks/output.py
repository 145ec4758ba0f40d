"""Files that several processes write together: one part per rank, merged by the first."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path
from typing import Any, TextIO, TypeAlias

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


def open_rank_file(output_dir: Path, name: str, gangs: Gangs) -> TextIO:
    """Open this process's part of ``name`` for writing."""
    return _part(output_dir, name, gangs.root.rank).open("w", encoding="utf-8")


def merge_ranks(output_dir: Path, name: str, gangs: Gangs) -> list[Record]:
    """Merge all parts into ``name.jsonl``; returns its records on the first process, else none."""
    gangs.root.barrier()
    if gangs.root.rank != 0:
        return []
    parts = [_part(output_dir, name, rank) for rank in range(gangs.root.size)]
    lines = [line for part in parts for line in read_lines(part)]
    records: list[Record] = sorted((json.loads(line) for line in lines), key=_place)
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    write_atomic(output_dir / f"{name}.jsonl", text)
    for part in parts:
        part.unlink()
    return records


def _part(output_dir: Path, name: str, rank: int) -> Path:
    return output_dir / f".{name}.rank{rank}.jsonl"


def _place(record: Record) -> tuple[str, float]:
    return str(record["audio"]), record["offset"] or 0.0
