"""Every command of the documentation is run as printed, in a folder that has what it names."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.forked import run_forked
from tests.pages import PAGES, ROOT, code_blocks
from tests.third_party import documented_entry_points, documented_files, install
from wavellama.data.manifest import read_manifest, write_manifest

CANNOT: Final[Mapping[str, str]] = {
    "make ": "installs, or runs all checks and tests",
    ".venv/bin/pre-commit install": "changes this repository's hooks",
    ". .venv/bin/activate": "changes a shell",
    "five=": "sets a variable of a shell",
    "python benchmarks/": "measures for minutes, with the models of the full demo",
    "python examples/": "draws with a model of the full demo",
    "torchrun ": "needs eight GPUs",
    "arecord ": "needs a microphone",
    "yt-dlp ": "needs another program and a network",
    "wavellama archive": "downloads 30 GB; test_archive runs all of it",
    "wavellama serve": "serves until it is ended; test_serve runs it",
    "wavellama transcribe film.mp4 --model omniASR_LLM_300M_v2": "downloads 6.5 GB",
    "wavellama transcribe talk.mp3 --model omniASR_LLM_300M_v2": "downloads 6.5 GB",
    "wavellama transcribe talk.mp3 --model omniASR_LLM_7B_ZS": "downloads 30 GB",
    "wavellama languages --model omniASR_LLM_300M |": "a pipe of a shell; test_languages runs it",
    "echo ": "writes a file of a shell; test_languages runs it",
    "wavellama data fetch": "downloads up to 377 MB, or speaks for hours",
    "wavellama data merge": "needs fetched corpora; test_corpora_merge runs it",
    "wavellama calibrate": "needs a model that gets words right",
    "wavellama recipe asr train demo_ctc": "trains for minutes",
    "wavellama recipe asr train debian_speech_13": "trains for an hour",
    "wavellama recipe asr train small_joint": "trains for an hour; test_recipes mixes",
    "wavellama recipe asr train small_ctc": "trains for an hour",
    "wavellama asset convert omniASR_": "downloads gigabytes; test_convert runs it",
    "wavellama transcribe talk.mp3 --model hub": "needs a converted model; test_convert runs it",
    "wavellama recipe asr train llm_finetune": "downloads 6.5 GB",
    "wavellama recipe asr eval llm_eval --model runs/llm_finetune": "needs data of a reader's own",
    "wavellama recipe asr eval demo_eval --model runs/my_joint": "needs data of a reader's own",
    "wavellama recipe asr train llm_lora": "downloads 31 GB; test_lora runs it",
    "wavellama recipe asr eval llm_eval --model omniASR_LLM_7B_v2": "downloads 31 GB",
    "wavellama recipe asr eval llm_eval --model runs/llm_lora": "needs adapters, as in test_lora",
    "wavellama transcribe talk.mp3 --model runs/llm_lora": "needs adapters, as test_lora makes",
    "wavellama transcribe talk.mp3 --model ./my_adapter": "needs an adapter, as test_lora makes",
    "wavellama asset convert runs/llm_lora": "needs adapters; test_lora converts them",
    "wavellama asset convert wavellama_small": "takes a minute; test_in_onnx runs it",
    "pip install": "installs",
    "uv pip install": "installs",
    "wavellama asset convert whisper-base": "needs a download; test_checkpoints_whisper converts",
}
"""How the commands begin that cannot be run here, and why."""

READERS: Final = {"CARD|RUN_DIR": "runs/demo_full_ctc", "IN OUT": "runs/demo_joint OUT.pt"}
"""What a reader is to fill in, where a folder of that name cannot stand for it."""

RUNS: Final = (
    "demo_joint",
    "demo_full_joint",
    "demo_full_ctc",
    "debian_speech_13",
    "toy_train",
    "small_finetune",
)

LANGUAGES: Final = ("eng_Latn", "fra_Latn", "ita_Latn", "rus_Cyrl", "spa_Latn")

FINETUNE: Final = """
recipe: train
model:
  family: wav2vec2_llama
  arch: transformer_4m
  config_overrides:
    ctc_head: true
    wav2vec2_asr_config:
      target_vocab_size: 72
      encoder_config: {model_dim: 32, ffn_inner_dim: 64, num_encoder_layers: 1}
    llama_config: {model_dim: 32, vocab_size: 72, num_layers: 1, ffn_inner_dim: 64}
dataset: {path: data/debian-speech, max_audio_secs: 2, batch_audio_secs: 8, max_unwritable_share: 1}
tokenizer: {name: mini_tokenizer}
objective: {ctc_weight: 0.5}
seq2seq_generator: {name: wav2vec2_llama_beam, config: {nbest: 1, max_new_tokens: 10}}
regime: {num_steps: 2, validate_every_n_steps: 2, checkpoint_every_n_steps: 2}
"""


def commands_of(page: str) -> Iterator[str]:
    """Yield the commands of a page, each in one line and without its comment."""
    for block in code_blocks(page):
        text = re.sub(r" *\\\n *", " ", block.text)
        if block.language == "console":
            yield from (shown[2:] for shown in text.splitlines() if shown.startswith("$ "))
        elif not block.language:
            yield from (re.sub(r"\s+# .*", "", line) for line in text.splitlines() if line)


def reason_not_to_run(command: str) -> str | None:
    return next((why for start, why in CANNOT.items() if command.startswith(start)), None)


COMMANDS: Final = {page: list(commands_of(page)) for page in PAGES}
RUNNABLE: Final = {
    page: runnable
    for page, commands in COMMANDS.items()
    if (runnable := [command for command in commands if reason_not_to_run(command) is None])
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings, a data set of five languages, a run, and another's package."""
    folder = tmp_path_factory.mktemp("prepared")
    mini = read_manifest(ROOT / "assets/corpora/mini/manifest.tsv").utterances
    short = [u for u in mini if u.duration < 1.2 and u.lang == "ita_Latn"][: len(LANGUAGES)]
    data = folder / "data/debian-speech"
    for name in (data, folder / "talks", folder / "recordings", folder / "my"):
        name.mkdir(parents=True)
    for utterance in short:
        shutil.copy(utterance.audio, data)
    rows = [
        replace(utterance, audio=data / utterance.audio.name, lang=lang, split=split)
        for split in ("train", "dev", "test", "test_unseen")
        for utterance, lang in zip(short, LANGUAGES, strict=True)
    ]
    write_manifest(data / "manifest.tsv", rows)
    for copy in ("talk.mp3", "talks/talk.ogg", "recordings/talk.ogg"):
        shutil.copy(short[0].audio, folder / copy)
    (folder / "my/finetune.yaml").write_text(FINETUNE)
    install(folder, documented_files(), documented_entry_points())
    trained = run_forked(
        *("recipe", "run", "my/finetune.yaml", "--output-dir", "trained", "--no-rich"), cwd=folder
    )
    assert trained.returncode == 0, trained.stderr
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path, page: str) -> Path:
    """A folder of a page's own with links to what is prepared, but for the runs that it trains."""
    for path in prepared.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "DIR").symlink_to(prepared / "data/debian-speech")
    (tmp_path / "CARD").symlink_to(prepared / "trained")
    (tmp_path / "runs").mkdir()
    for name in RUNS:
        if not any(f"asr train {name}" in command for command in RUNNABLE[page]):
            (tmp_path / "runs" / name).symlink_to(prepared / "trained")
    return tmp_path


@pytest.mark.parametrize("page", RUNNABLE)
def test_the_commands_of_a_page_run_as_printed(page: str, folder: Path) -> None:
    for command in RUNNABLE[page]:
        for placeholder, value in READERS.items():
            command = command.replace(placeholder, value)
        program, *words = shlex.split(command)
        assert program == "wavellama", f"{command}: say in CANNOT why it is not run here"
        result = run_forked(*words, cwd=folder, env={"PYTHONPATH": str(folder)})
        assert result.returncode == 0, f"{command}\n{result.stderr[-3000:]}"


@pytest.mark.parametrize("start", CANNOT)
def test_what_is_not_run_is_printed_somewhere(start: str) -> None:
    assert any(command.startswith(start) for page in COMMANDS.values() for command in page)


def test_blocks_without_a_language_are_commands() -> None:
    """A drawing or a table says ``text`` behind its fence."""
    words = {command.split()[0] for commands in RUNNABLE.values() for command in commands}
    assert words == {"wavellama"}
