"""``wavellama languages``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from tests.e2e.forked import run_forked
from tests.e2e.runs import last_line, run_cli, weights, write_golden_card
from tests.fakes import GOLDEN
from tests.pages import code_blocks
from wavellama.text.languages import languages

PUBLISHED = "omniASR_LLM_300M"
"""The model that the page adds a language to; here a small one stands in for it."""


def test_all_languages_are_listed() -> None:
    result = run_cli("languages")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert len(lines) == len(languages())
    assert lines[0].split() == ["aae_Latn", "Arbëreshë", "Albanian", "Latin", "(Latn)", "supported"]
    assert len({line.index("supported") for line in lines if "not supported" not in line}) == 1


@pytest.mark.parametrize(
    ("pattern", "codes"),
    [
        ("deu_l", ["deu_Latn"]),
        ("GERMAN", ["deu_Latn"]),
        ("voro", ["vro_Latn"]),
        ("tifinagh", ["thv_Tfng", "ttq_Tfng", "zgh_Tfng"]),
        ("jpan", ["jpn_Jpan"]),
        ("en-GB", ["eng_Latn"]),
    ],
)
def test_a_pattern_is_looked_for_in_code_name_and_script(pattern: str, codes: list[str]) -> None:
    result = run_cli("languages", pattern)
    assert result.returncode == 0
    found = [line.split()[0] for line in result.stdout.splitlines()]
    assert found == codes


def test_what_a_code_means_comes_before_what_it_is_part_of() -> None:
    first, second, *_ = run_cli("languages", "nn").stdout.splitlines()
    assert first.startswith("nno_Latn")
    assert second.startswith("amf_Latn")


def test_the_published_flag_is_shown() -> None:
    (line,) = run_cli("languages", "zgh_").stdout.splitlines()
    assert line.endswith("Tifinagh (Tfng)  not supported")


def test_no_match_suggests_near_ones() -> None:
    result = run_cli("languages", "germann")
    assert result.returncode == 1
    assert result.stdout == ""
    message = last_line(result)
    assert message.startswith("error: no language has 'germann' in its code, name or script.")
    assert "deu_Latn (German)" in message


def _follow_the_page(folder: Path) -> dict[str, str]:
    """Do what CONTRIBUTING says, beside the card of a small model; return the environment."""
    shutil.copy(GOLDEN / "llm_asr_lid" / "model.pt", folder / "good.pt")
    write_golden_card(folder, "my_good", "good.pt")
    blocks = [block for block in code_blocks("CONTRIBUTING.md") if PUBLISHED in block.text]
    commands, card = (block.text.replace(PUBLISHED, "my_good") for block in blocks)
    (folder / "my_qaa.yaml").write_text(card)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "FAIRSEQ2_USER_ASSET_DIR": str(folder)}
    script = "set -e\n" + commands.replace("$ ", "")
    subprocess.run(["bash", "-c", script], cwd=folder, env=env, check=True)
    return {"FAIRSEQ2_USER_ASSET_DIR": str(folder)}


def _write_data(folder: Path) -> Path:
    """Write a few clips in a language that no published model knows."""
    folder.mkdir()
    lines = ["audio\tduration\ttext\tlang\tsplit"]
    for i in range(4):
        soundfile.write(folder / f"{i}.wav", torch.randn(8000).numpy() * 0.1, 16_000)
        lines.append(f"{i}.wav\t0.5\tabc\tqaa_Latn\t{'dev' if i == 3 else 'train'}")
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_language_is_added_to_a_model_as_the_page_says(tmp_path: Path) -> None:
    cards, data, out = tmp_path / "cards", _write_data(tmp_path / "data"), tmp_path / "out"
    cards.mkdir()
    env = _follow_the_page(cards)

    listed = run_forked("languages", "qaa", "--model", "my_qaa", env=env)
    assert listed.stdout.split() == ["qaa_Latn", "Latin", "(Latn)", "supported"], listed.stderr
    assert run_forked("data", "check", data, "--model", "my_qaa", env=env).returncode == 0
    stranger = run_forked("data", "check", data, "--model", "my_good", env=env)
    assert stranger.returncode == 1
    assert "Not among the languages of my_good: qaa_Latn." in stranger.stderr

    train = ("recipe", "asr", "train", "toy_train", "--output-dir", out, "--config")
    options = [f"dataset.path={data}", "set:masker=null", "regime.num_steps=1"]
    options += ["regime.validate_every_n_steps=1", "regime.checkpoint_every_n_steps=1"]
    refused = run_forked(*train, *options, "model.name=my_good", cwd=tmp_path, env=env)
    assert refused.returncode == 2
    assert "'qaa_Latn' is not a known language code" in last_line(refused)
    trained = run_forked(*train, *options, "model.name=my_qaa", cwd=tmp_path, env=env)
    assert trained.returncode == 0, trained.stderr
    assert "knows 1693 languages, the model 1694" in trained.stderr

    published = torch.load(cards / "good.pt")["model"]["lang_embeddings.weight"]
    ours = weights(out, 1)["lang_embeddings.weight"]
    assert len(ours) == len(published) + 1

    shutil.rmtree(cards)  # the checkpoint keeps the list
    said = run_forked("transcribe", data / "0.wav", "--model", out, "--lang", "qaa", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    unknown = run_forked("transcribe", data / "0.wav", "--model", out, "--lang", "qab_Latn")
    assert unknown.returncode == 2
    assert "'qab_Latn' is not a known language code" in last_line(unknown)


@pytest.mark.parametrize("languages", ["nowhere.txt", "[eng_Latn, english]"])
def test_languages_that_cannot_be_read_are_one_sentence(languages: str, tmp_path: Path) -> None:
    result = run_forked(
        *("recipe", "asr", "train", "toy_train", "--config"),
        f"model.config_overrides.languages={languages}",
        cwd=tmp_path,
    )
    assert result.returncode == 2, result.stderr
    assert languages.strip("[]").split()[-1] in last_line(result)
    assert "Traceback" not in result.stderr


def test_a_model_without_languages_lists_none() -> None:
    result = run_forked("languages", "--model", "omniASR_CTC_300M")
    assert result.returncode == 2
    assert last_line(result) == "error: The model omniASR_CTC_300M takes no language."
