"""What a training run has recorded about itself: the JSON lines below ``metrics/``."""

from __future__ import annotations

import json
from json import JSONDecodeError
from pathlib import Path
from typing import Any, TypeAlias

from fairseq2.logging import log

from wavellama.files import read_lines

Row: TypeAlias = dict[str, Any]
"""What was measured at one step: ``Step``, and values by the display names of their metrics."""


def read_history(output_dir: Path, category: str, last_step: int) -> list[Row]:
    """Return what a run has recorded up to ``last_step``: one row per step, in their order.

    A resumed run repeats the steps after its checkpoint. From the first one on, its rows replace
    those of the attempt before.

    :param category: ``train`` or ``valid``.
    """
    path = output_dir / "metrics" / f"{category}.jsonl"
    rows: list[Row] = []
    for row in _read_rows(path) if path.is_file() else []:
        while rows and rows[-1]["Step"] >= row["Step"]:
            rows.pop()
        rows.append(row)
    return [row for row in rows if row["Step"] <= last_step]


def _read_rows(path: Path) -> list[Row]:
    """Read all rows but those that a crash of the machine or a full disk has cut off."""
    rows: list[Row] = []
    for line_nr, line in enumerate(read_lines(path), start=1):
        try:
            rows.append(json.loads(line))
        except JSONDecodeError as ex:
            log.warning("{}, line {}, is left out: {}", path, line_nr, ex)
    return rows
