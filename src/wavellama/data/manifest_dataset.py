"""The dataset family ``manifest_asr``: audio files and a table of what is said in them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Final, final

from torch import Tensor
from typing_extensions import override

from wavellama.audio.load import load_audio
from wavellama.data.dataset import AsrDataset, check_length
from wavellama.data.manifest import find_manifests, read_manifest
from wavellama.data.utterance import Utterance
from wavellama.errors import DataError, UnknownNameError
from wavellama.units import seconds_to_samples

MANIFEST_ASR_FAMILY: Final = "manifest_asr"

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class ManifestDatasetConfig:
    """Where the data set is."""

    path: Path = field(default_factory=Path)
    """A manifest, or a folder with ``manifest.tsv`` or one manifest per split; a path that begins
    with ``wavellama.assets/`` is one of the data sets that ship with the package."""

    cache_gib: float = 1.0
    """Decoded audio to keep in memory per process, in GiB (1 GiB holds 4.6 hours); what does not
    fit is decoded anew in every epoch."""


@final
class ManifestDataset(AsrDataset):
    """Utterances listed in manifests (see ``data.manifest``)."""

    def __init__(self, config: ManifestDatasetConfig) -> None:
        self._path = config.path
        self._cache: dict[Utterance, Tensor] = {}
        self._cache_room = int(config.cache_gib * 2**30)

    @override
    def utterances(self, split: str) -> Sequence[Utterance]:
        if split not in self._by_split:
            raise UnknownNameError(f"split of {self._path}", split, self._by_split)
        return self._by_split[split]

    @override
    def read_audio(self, utterance: Utterance) -> Tensor:
        waveform = self._cache.get(utterance)
        if waveform is None:
            waveform = self._decode(utterance)
            if waveform.nbytes <= self._cache_room:
                self._cache_room -= waveform.nbytes
                self._cache[utterance] = waveform
        return waveform

    def _decode(self, utterance: Utterance) -> Tensor:
        waveform = load_audio(*utterance.sound)
        if utterance.offset is not None:
            begin = seconds_to_samples(utterance.offset)
            waveform = waveform[begin : begin + seconds_to_samples(utterance.duration)].clone()
        return check_length(waveform, utterance, "manifest")

    @cached_property
    def _by_split(self) -> dict[str, list[Utterance]]:
        """All good rows by split; broken rows are logged."""
        splits: dict[str, list[Utterance]] = {}
        for manifest in find_manifests(self._path):
            content = read_manifest(manifest)
            for utterance in content.utterances:
                splits.setdefault(utterance.split or "all", []).append(utterance)
            for row in content.broken:
                _log.warning("%s, line %d is left out: %s", row.path, row.line, row.reason)
        if not splits:
            raise DataError(
                f"{self._path} has no row that is an utterance; `wavellama data check` says why."
            )
        return splits


def open_manifest_dataset(config: ManifestDatasetConfig) -> ManifestDataset:
    """Open the data set (fairseq2's opener of the family)."""
    package, *rest = config.path.parts or ("",)
    if package == "wavellama.assets":
        return ManifestDataset(replace(config, path=Path(str(files(package).joinpath(*rest)))))
    return ManifestDataset(config)
