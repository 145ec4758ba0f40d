"""Utterances that cannot be used: skipped, counted and listed; too many of them stop the run."""

from __future__ import annotations

import json
from pathlib import Path

from wavellama.data.utterance import Sound, Utterance
from wavellama.errors import DataError
from wavellama.files import read_lines


class Failures:
    """Collects what is wrong with the utterances of a split, each of them once.

    A run that goes on does not list again what it listed before.
    """

    def __init__(self, path: Path | None, num_utterances: int, max_share: float) -> None:
        """
        :param path: where to list the files, as JSON lines; None: nowhere.
        :param num_utterances: the size of the split.
        :param max_share: the share of bad utterances above which the run stops; one never does.
        """
        self._path = path
        self._limit = max(1.0, max_share * num_utterances)
        self._num_utterances = num_utterances
        self._reasons: dict[tuple[Sound, float | None], str] = {}
        self._listed = _read_list(path) if path is not None and path.is_file() else set()

    def add(self, utterance: Utterance, reason: str) -> None:
        """Note a bad utterance, and what is wrong with it.

        :raises DataError: there are more bad ones than the run puts up with.
        """
        key, audio = (utterance.sound, utterance.offset), str(utterance.audio)
        if key in self._reasons:
            return
        self._reasons[key] = reason
        if self._path is not None and (audio, utterance.offset, reason) not in self._listed:
            record = {"audio": audio, "offset": utterance.offset, "reason": reason}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        if len(self._reasons) > self._limit:
            where = f"; {self._path} lists them" if self._path is not None else ""
            raise DataError(
                f"{len(self._reasons)} of {self._num_utterances} utterances are unusable{where},"
                f" the last one {utterance.audio}: {reason}"
            )


def _read_list(path: Path) -> set[tuple[str, float | None, str]]:
    """Return what is listed already; a line that a killed run did not finish is not."""
    listed: set[tuple[str, float | None, str]] = set()
    for line in read_lines(path):
        if line.endswith("}"):
            record = json.loads(line)
            listed.add((record["audio"], record["offset"], record["reason"]))
    return listed
