"""The commands that list and show."""

from __future__ import annotations

import sys

from tests.e2e.runs import run_cli
from wavellama.tasks.registry import shipped_recipes


def test_help_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from wavellama.cli.main import create_parser\n"
        "create_parser().format_help()\n"
        "heavy = {'torch', 'fairseq2', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    import subprocess

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_recipe_list_names_every_shipped_recipe() -> None:
    result = run_cli("recipe", "list")
    assert result.returncode == 0
    names = [line.split()[0] for line in result.stdout.splitlines()]
    assert names == list(shipped_recipes())
    assert "toy_train" in names


def test_asset_list_of_one_kind() -> None:
    result = run_cli("asset", "list", "--kind", "tokenizer")
    assert result.returncode == 0
    assert "tokenizer  omniASR_tokenizer_v1\n" in result.stdout
    assert "omniASR_LLM_300M" not in result.stdout


def test_asset_show_resolves_the_configuration() -> None:
    result = run_cli("asset", "show", "omniASR_LLM_7B")
    assert result.returncode == 0
    assert "model_arch: 7b_v1_variant7" in result.stdout
    assert "target_vocab_size: 9818" in result.stdout
    assert "num_encoder_layers: 128" in result.stdout


def test_both_names_are_the_same_program() -> None:
    versions = {run_cli("--version", program=name).stdout for name in ("wavellama", "fairseq2")}
    assert len(versions) == 1
