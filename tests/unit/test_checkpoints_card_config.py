"""Paths in the model configuration of a card."""

from __future__ import annotations

from pathlib import Path

from fairseq2.assets import AssetCard, AssetConfigLoader
from fairseq2.runtime.dependency import get_dependency_resolver

from tests.fakes import LID, arch_config
from wavellama.checkpoints.card_config import CardConfigLoader


def _languages(card: AssetCard) -> object:
    loader = CardConfigLoader(get_dependency_resolver().resolve(AssetConfigLoader))
    config = loader.load(card, arch_config("tiny", LID), "model_config")
    return getattr(config, "languages")  # noqa: B009  typed as an object


def _card(folder: Path, languages: object, base: AssetCard | None = None) -> AssetCard:
    config = {"languages": languages, "encoder_stacking": 1}
    return AssetCard("mine", {"model_config": config, "__base_path__": folder}, base)


def test_a_path_starts_at_the_folder_of_the_card_that_has_it(tmp_path: Path) -> None:
    for name in ("base", "leaf"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.txt").write_text(f"ita_Latn\nx-{name}\n")
    base = _card(tmp_path / "base", "own.txt")
    assert _languages(base) == ["ita_Latn", "x-base"]
    assert _languages(_card(tmp_path / "leaf", "own.txt", base)) == ["ita_Latn", "x-leaf"]
    leaf = AssetCard("leaf", {"__base_path__": tmp_path / "leaf"}, base)
    assert _languages(leaf) == ["ita_Latn", "x-base"]
    assert _languages(_card(tmp_path, "../" + tmp_path.name + "/leaf/own.txt")) == [
        *("ita_Latn", "x-leaf")
    ]


def test_absolute_paths_and_lists_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("ita_Latn")
    assert _languages(_card(Path("/nowhere"), str(tmp_path / "own.txt"))) == ["ita_Latn"]
    assert _languages(_card(tmp_path, ["deu_Latn"])) == ["deu_Latn"]
    assert _languages(_card(tmp_path, None)) is None
    in_memory = AssetCard("mine", {"model_config": {"languages": ["deu_Latn"]}})
    assert _languages(in_memory) == ["deu_Latn"]
