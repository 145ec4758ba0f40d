"""Audio files that cannot be used: skipped, counted and listed; too many of them stop the run."""

from __future__ import annotations

import json
from pathlib import Path

from wavellama.data.utterance import Utterance
from wavellama.errors import AudioError, DataError


class AudioFailures:
    """Collects what is wrong with the audio of a split, each file once."""

    def __init__(self, path: Path | None, num_utterances: int, max_share: float) -> None:
        """
        :param path: where to list the files, as JSON lines; None: nowhere.
        :param num_utterances: the size of the split.
        :param max_share: the share of bad utterances above which the run stops; one never does.
        """
        self._path = path
        self._limit = max(1.0, max_share * num_utterances)
        self._num_utterances = num_utterances
        self._reasons: dict[tuple[str, float | None], str] = {}

    def add(self, utterance: Utterance, error: AudioError) -> None:
        """Note a bad utterance.

        :raises DataError: there are more bad ones than the run puts up with.
        """
        key = (str(utterance.audio), utterance.offset)
        if key in self._reasons:
            return
        self._reasons[key] = error.reason
        if self._path is not None:
            record = {"audio": key[0], "offset": key[1], "reason": error.reason}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        if len(self._reasons) > self._limit:
            where = f"; {self._path} lists them" if self._path is not None else ""
            raise DataError(
                f"{len(self._reasons)} of {self._num_utterances} utterances have unusable audio"
                f"{where}, the last one {error}"
            )
