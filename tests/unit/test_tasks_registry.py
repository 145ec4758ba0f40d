"""Every recipe that ships: its configuration is valid, and the cards that it names exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fairseq2.assets import get_asset_store
from fairseq2.recipe.config import SupportsStructure
from fairseq2.runtime.dependency import get_dependency_resolver
from fairseq2.utils.structured import StandardValueConverter
from fairseq2.utils.validation import StandardObjectValidator

from tests.fakes import merge
from wavellama.tasks.registry import load_recipe, shipped_recipes
from wavellama.yaml_files import read_yaml

RECIPES = shipped_recipes()
OF_A_RUN = ("best_checkpoint", "last_checkpoint")


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_yaml(path)
    return content


def _structure(config: Any) -> None:
    """Let those sections finish what they read that need none of fairseq2's components."""
    for section in (config.dataset, config):
        if isinstance(section, SupportsStructure):
            section.structure(get_dependency_resolver())


@pytest.mark.parametrize("name", RECIPES)
def test_the_configuration_is_valid(name: str) -> None:
    content = _read(RECIPES[name])
    kls = load_recipe(content["recipe"]).config_kls
    converter = StandardValueConverter()
    default: Any = converter.unstructure(kls())
    config = converter.structure(merge(default, content), kls)
    _structure(config)
    StandardObjectValidator().validate(config)


@pytest.mark.parametrize("name", RECIPES)
def test_the_cards_exist(name: str) -> None:
    content, store = _read(RECIPES[name]), get_asset_store()
    names = [content.get(section, {}).get("name") for section in ("model", "dataset", "tokenizer")]
    encoder = content.get("encoder_from") or ""
    for card in [*names, None if Path(encoder).suffix else encoder or None]:
        assert card is None or card in OF_A_RUN or store.maybe_retrieve_card(card), card


@pytest.mark.parametrize("name", RECIPES)
def test_the_header_says_what_it_does_and_how_to_start_it(name: str) -> None:
    path = RECIPES[name]
    lines = path.read_text("utf-8").splitlines()
    header = [line for line in lines if line.startswith("#")]
    verb = _read(path)["recipe"]
    assert f"wavellama recipe asr {verb} {name}" in header[-1]
    assert lines[len(header)] == f"recipe: {verb}"


def test_every_variant_can_be_trained_evaluated_and_transcribed() -> None:
    for kind in ("llm", "ctc", "zero_shot", "streaming"):
        assert {f"{kind}_finetune", f"{kind}_eval", f"{kind}_transcribe"} <= RECIPES.keys()
