"""The report of an evaluation: ``report.json`` (spec: section 6) and ``report.md``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

from wavellama.metrics.error_rates import Edits, Scores, count_edits, macro_score, score
from wavellama.tasks.output import Record, write_atomic
from wavellama.text.normalize import normalize_text


class Rates(TypedDict):
    """Scores over all utterances, averaged over languages, and per language."""

    overall: Scores
    macro: Scores
    languages: dict[str, Scores]


class Report(TypedDict):
    """The rates of the texts as they are, and of the normalised ones."""

    raw: Rates
    normalized: Rates


def write_report(records: Sequence[Record], output_dir: Path) -> Report:
    """Write ``report.json`` and ``report.md`` about the hypotheses in ``records``."""
    report = Report(raw=_rates(records, str), normalized=_rates(records, normalize_text))
    write_atomic(output_dir / "report.json", json.dumps(report, indent=2) + "\n")
    write_atomic(output_dir / "report.md", to_markdown(report))
    return report


def to_markdown(report: Report) -> str:
    """Return the report as two tables, error rates in percent with 95 % intervals."""
    sections = [
        f"## {title}\n\n{_table(rates)}"
        for title, rates in (("Normalised", report["normalized"]), ("Raw", report["raw"]))
    ]
    return "# Error rates\n\n" + "\n".join(sections)


def _rates(records: Sequence[Record], normalize: Callable[[str], str]) -> Rates:
    by_language: dict[str, list[Edits]] = {}
    for record in records:
        reference, hypothesis = normalize(record["reference"]), normalize(record["hypothesis"])
        edits = count_edits(reference, hypothesis, record["duration"])
        by_language.setdefault(record["lang"] or "unknown", []).append(edits)
    by_language = dict(sorted(by_language.items()))
    every = [edits for group in by_language.values() for edits in group]
    return Rates(
        overall=score(every),
        macro=macro_score(list(by_language.values())),
        languages={lang: score(group) for lang, group in by_language.items()},
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


def _percent(rate: float, interval: Sequence[float]) -> str:
    low, high = interval
    return f"{100 * rate:.2f} ({100 * low:.2f}-{100 * high:.2f})"
