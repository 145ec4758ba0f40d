"""How adapters become a model: the weights of a base, changed by an adapter."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from fairseq2.assets import AssetCard, AssetStore
from fairseq2.device import CPU
from fairseq2.gang import create_fake_gangs
from fairseq2.runtime.dependency import get_dependency_resolver
from torch import Tensor

from wavellama.checkpoints.fetch import CheckpointFetcher, find_sha256
from wavellama.checkpoints.trained_run import read_run
from wavellama.errors import CheckpointError
from wavellama.files import write_text
from wavellama.model.lora import LoraConfig, merge_weight

LORA_FILE: Final = "lora.json"
"""What a run notes, beside its checkpoints, of the adapters in them."""


@dataclass(frozen=True)
class BaseWeights:
    """The weights that an adapter was trained for."""

    name: str
    """The card of the base model, or the folder of the training run that made it."""

    path: str | None = None
    """Where the weights were; None if that is not known."""

    sha256: str | None = None
    """Their digest (``digest_weights``); None if it is not known."""

    def find(self) -> Path:
        """Return where the weights are: where they were, or where their card leads.

        :raises CheckpointError: they are nowhere, or not those that the adapter was trained for.
        """
        fetcher = CheckpointFetcher.create(get_dependency_resolver())
        if self.path is not None and Path(self.path).exists():
            path = Path(self.path)
        else:
            path = fetcher.fetch(self._find_card(), create_fake_gangs(CPU))
        if self.sha256 not in (None, digest_weights(path, fetcher)):
            raise CheckpointError(
                f"The weights in {path} are not those of {self.name} that the adapter was trained"
                f" for: they have changed since. Their digest was {self.sha256}."
            )
        return path

    def _find_card(self) -> AssetCard:
        card = get_dependency_resolver().resolve(AssetStore).maybe_retrieve_card(self.name)
        if card is not None:
            return card
        if Path(self.name).is_dir():
            return read_run(Path(self.name)).load_card()
        there = "" if self.path is None else f", and its weights are no longer in {self.path}"
        raise CheckpointError(
            f"The adapter's base model is not found: {self.name} is neither a model card nor the"
            f" directory of a training run{there}."
        )


@dataclass(frozen=True)
class Adapter:
    """What training has changed in a model."""

    base: BaseWeights

    alpha: float
    """What an adapter of rank R computes counts ``alpha / R`` times."""

    weights: Mapping[str, Tensor]
    """``lora_A`` and ``lora_B`` below the names of projections; all others replace the base's."""

    def merge(self, base: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Yield the weights of the adapted model, by the names of the base's.

        A masker that the base has not is left out: it acts in training only.

        :raises CheckpointError: the adapter changes what the base has not.
        """
        left = {name for name in self.weights if not name.startswith("masker.")}
        for name, weight in base:
            weight = self.weights.get(name, weight)
            pair = [f"{name.removesuffix('weight')}{part}" for part in ("lora_A", "lora_B")]
            left -= {name, *pair}
            if name.endswith(".weight") and pair[0] in self.weights:
                lora_a, lora_b = (self.weights[own] for own in pair)
                if weight.shape != (len(lora_b), lora_a.shape[1]):
                    raise CheckpointError(
                        f"The adapter does not fit {self.base.name}, whose {name} has the shape"
                        f" {tuple(weight.shape)}."
                    )
                weight = merge_weight(weight, lora_a, lora_b, self.alpha)
            yield name, weight
        if left:
            raise CheckpointError(
                f"The adapter does not fit {self.base.name}, which has nothing to take {min(left)}."
            )


def digest_weights(path: Path, fetcher: CheckpointFetcher) -> str:
    """Return a digest of a checkpoint: the SHA-256 of its file, or that of the sums of its files.

    :param fetcher: whose cache remembers the sums of files.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    sums = [find_sha256(file, fetcher.cache_dir / "verified") for file in files]
    return sums[0] if len(sums) == 1 else sha256("\n".join(sums).encode()).hexdigest()


def write_note(checkpoints: Path, base: BaseWeights, config: LoraConfig) -> None:
    """Note in a run's folder of checkpoints what its adapters are."""
    note = {"base": asdict(base), "lora": asdict(config)}
    write_text(checkpoints / LORA_FILE, f"{json.dumps(note, indent=2)}\n")


def read_note(checkpoints: Path) -> tuple[BaseWeights, dict[str, Any]] | None:
    """Return the base of a run's adapters and their configuration; None for a run without any."""
    file = checkpoints / LORA_FILE
    if not file.is_file():
        return None
    note = json.loads(file.read_text("utf-8"))
    return BaseWeights(**note["base"]), note["lora"]
