"""The dataset family ``audio_files``: audio files without transcripts, to be transcribed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, final

from torch import Tensor
from typing_extensions import override

from wavellama.audio.load import load_audio
from wavellama.data.dataset import AsrDataset
from wavellama.data.utterance import Utterance
from wavellama.errors import AudioError
from wavellama.text.languages import language_table
from wavellama.units import samples_to_seconds

AUDIO_FILES_FAMILY: Final = "audio_files"

UNREADABLE_SECS: Final = 1.0
"""The duration that a file which cannot be read is given, so that the reader meets it, too, and
lists it with its reason."""


@dataclass(kw_only=True)
class AudioFilesConfig:
    """Which files."""

    files: Sequence[Path] = field(default_factory=list)
    """Audio files of any format that FFmpeg reads."""

    lang: str | None = None
    """The language of all of them."""


@final
class AudioFiles(AsrDataset):
    """Audio files, the same ones in every split."""

    def __init__(self, config: AudioFilesConfig) -> None:
        """Check the language.

        :raises UnknownLanguageError: its code is not known.
        """
        language_table().row(config.lang)
        self._config = config

    @override
    def utterances(self, split: str) -> Sequence[Utterance]:
        return self._utterances

    @override
    def read_audio(self, utterance: Utterance) -> Tensor:
        return load_audio(utterance.audio)

    @cached_property
    def _utterances(self) -> list[Utterance]:
        return [
            Utterance(audio=path, duration=_duration(path), text="", lang=self._config.lang)
            for path in map(Path, self._config.files)
        ]


def _duration(path: Path) -> float:
    """Decode a file to measure it: headers are not to be believed."""
    try:
        return samples_to_seconds(len(load_audio(path)))
    except AudioError:
        return UNREADABLE_SECS
