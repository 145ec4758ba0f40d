"""The report of an evaluation: ``report.json`` (spec: section 6), ``report.md``, ``report.png``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypedDict

from wavellama.errors import DataError
from wavellama.metrics.error_rates import (
    Edits,
    Scores,
    count_edits,
    is_scorable,
    macro_score,
    score,
)
from wavellama.pipeline.results import write_atomic
from wavellama.tasks.output import Record
from wavellama.tasks.plots import draw_error_rates, drawing, save_figure
from wavellama.text.normalize import normalize_text

NUM_EXAMPLES: Final = 8
"""Utterances that ``report.md`` shows."""

_COLUMNS: Final = ("lang", "reference", "hypothesis", "ctc_hypothesis")

_NOT_SCORED: Final = "\nNot in the rows nor in `macro`: {}, of which no reference has text.\n"


class Rates(TypedDict):
    """Scores over all utterances, averaged over languages, and per language."""

    overall: Scores
    macro: Scores
    languages: dict[str, Scores]


class Report(TypedDict):
    """The rates of the texts as they are, and of the normalised ones."""

    raw: Rates
    normalized: Rates


def write_report(records: Sequence[Record], output_dir: Path) -> str:
    """Write ``report.json``, ``report.md`` and ``report.png`` about the hypotheses in ``records``.

    Where there are hypotheses of the CTC head, too, ``report_ctc.json`` is about these.

    :returns: the text of ``report.md``.
    """
    if not records:
        raise DataError("There is nothing to report: no utterance could be read.")
    sections, bars = [], {}
    first = _first_system(records)
    systems = {"hypothesis": (first, "report"), "ctc_hypothesis": ("CTC head", "report_ctc")}
    for column, (title, name) in systems.items():
        if column in records[0]:
            report = create_report(records, column)
            write_atomic(output_dir / f"{name}.json", json.dumps(report, indent=2) + "\n")
            sections.append(to_markdown(report, records, title))
            bars[_legend(title, report["normalized"])] = report["normalized"]["languages"]
    text = "\n".join([*sections, _examples(records)])
    write_atomic(output_dir / "report.md", text)
    with drawing(output_dir / "report.png"):
        save_figure(draw_error_rates(bars), output_dir / "report.png")
    return text


def create_report(records: Sequence[Record], column: str = "hypothesis") -> Report:
    """Compare the references with the texts of ``column``, as they are and normalised."""
    return Report(
        raw=_rates(records, column, str), normalized=_rates(records, column, normalize_text)
    )


def to_markdown(report: Report, records: Sequence[Record], title: str = "Error rates") -> str:
    """Return the report as two tables, error rates in percent with 95 % intervals."""
    sections = [
        f"## {name}\n\n{_table(rates)}"
        for name, rates in (("Normalised", report["normalized"]), ("Raw", report["raw"]))
    ]
    left_out = {_lang(record) for record in records} - report["normalized"]["languages"].keys()
    note = _NOT_SCORED.format(", ".join(sorted(left_out))) if left_out else ""
    return f"# {title}\n\n" + "\n".join(sections) + note


def _rates(records: Sequence[Record], column: str, normalize: Callable[[str], str]) -> Rates:
    by_language: dict[str, list[Edits]] = {}
    for record in records:
        reference, hypothesis = normalize(record["reference"]), normalize(record[column])
        edits = count_edits(reference, hypothesis, record["duration"], record["lang"])
        by_language.setdefault(_lang(record), []).append(edits)
    by_language = dict(sorted(by_language.items()))
    every = [edits for group in by_language.values() for edits in group]
    scorable = {lang: group for lang, group in by_language.items() if is_scorable(group)}
    return Rates(
        overall=score(every),
        macro=macro_score(list(scorable.values()) or [every]),
        languages={lang: score(group) for lang, group in scorable.items()},
    )


def _table(rates: Rates) -> str:
    rows = [*rates["languages"].items(), ("all", rates["overall"]), ("macro", rates["macro"])]
    lines = ["| language | utterances | minutes | CER % | WER % |", "|---|--:|--:|--:|--:|"]
    lines += [
        f"| {name} | {s['num_utterances']} | {s['audio_secs'] / 60:.1f}"
        f" | {_percent(s['cer'], s['cer_ci95'])} | {_percent(s['wer'], s['wer_ci95'])} |"
        for name, s in rows
    ]
    return "\n".join(lines) + "\n"


def _examples(records: Sequence[Record]) -> str:
    """Show a few references beside what was recognised, spread over the records."""
    step = max(1, len(records) // NUM_EXAMPLES)
    first = "decoder" if _first_system(records) == "Decoder" else "CTC model"
    lines = ["# Examples", "", f"| | reference | {first} | CTC head |", "|---|---|---|---|"]
    lines += [
        f"| {' | '.join(_cell(record.get(column)) for column in _COLUMNS)} |"
        for record in records[::step][:NUM_EXAMPLES]
    ]
    return "\n".join(lines) + "\n"


def _first_system(records: Sequence[Record]) -> str:
    """Return what wrote the hypotheses: those of a decoder have a score."""
    return "Decoder" if "score" in records[0] else "CTC model"


def _cell(text: str | None) -> str:
    """Return a text as it can stand in a table of Markdown."""
    return " ".join((text or "").replace("|", "\\|").split())


def _lang(record: Record) -> str:
    return record["lang"] or "unknown"


def _legend(title: str, rates: Rates) -> str:
    every, macro = (100 * rates[name]["cer"] for name in ("overall", "macro"))
    return f"{title}: all {every:.1f}, mean of the languages {macro:.1f}"


def _percent(rate: float, interval: Sequence[float]) -> str:
    low, high = interval
    return f"{100 * rate:.2f} ({100 * low:.2f}-{100 * high:.2f})"
