"""A card's model configuration, with paths that start at the folder of the card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

from fairseq2.assets import AssetCard, AssetConfigLoader
from typing_extensions import override

_FIELD: Final = "languages"
"""The field of a model's configuration that may be a path."""


@final
class CardConfigLoader(AssetConfigLoader):
    """fairseq2's loader, which knows the folder of ``checkpoint`` and ``tokenizer`` alone."""

    def __init__(self, loader: AssetConfigLoader) -> None:
        self._loader = loader

    @override
    def load(self, card: AssetCard, base_config: object, config_key: str) -> object:
        return self._loader.load(_anchor(card, config_key), base_config, config_key)


def _anchor(card: AssetCard, config_key: str) -> AssetCard:
    """Return the card, and those it builds on, with the path of each below that card's folder."""
    base = None if card.base is None else _anchor(card.base, config_key)
    config, folder = card.metadata.get(config_key), card.metadata.get("__base_path__")
    metadata = dict(card.metadata)
    if isinstance(config, Mapping) and isinstance(folder, Path):
        path = config.get(_FIELD)
        if isinstance(path, str) and not path.startswith("${"):  # a variable of fairseq2's
            metadata[config_key] = {**config, _FIELD: str(folder / Path(path).expanduser())}
    return AssetCard(card.name, metadata, base)
