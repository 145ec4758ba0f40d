"""Faults that other packages met."""

from __future__ import annotations

from pathlib import Path

import pytest
from fairseq2.utils.structured import StandardValueConverter

from tests.e2e.forked import run_forked
from tests.e2e.runs import Runner, run_cli
from tests.third_party import install
from wavellama.tasks.config import DecodingSection, TrainConfig
from wavellama.tasks.inference_config import EvalConfig, TranscribeConfig


@pytest.mark.parametrize("kls", [TrainConfig, EvalConfig, TranscribeConfig])
def test_another_generator_is_not_given_the_configuration_of_fairseq2s(kls: type[object]) -> None:
    """``--config del:seq2seq_generator.config`` left that of fairseq2's beam search behind."""
    structured = StandardValueConverter().structure({"seq2seq_generator": {"name": "theirs"}}, kls)
    assert structured.seq2seq_generator == DecodingSection(name="theirs", config={})


SHOW = ("asset", "show", "omniASR_LLM_7B")

RIVAL = """
from fairseq2.runtime.config_registry import ConfigRegistrar
from wavellama import Wav2Vec2LlamaConfig


def register(container):
    ConfigRegistrar(container, Wav2Vec2LlamaConfig)("tiny")(Wav2Vec2LlamaConfig)
"""


@pytest.mark.parametrize("run", [run_cli, run_forked])
def test_a_broken_extension_of_another_package_is_a_warning(run: Runner, tmp_path: Path) -> None:
    """It once ended every command with a stack trace."""
    entry_points = "[fairseq2.extension]\nill = theirs_ill:register\naway = theirs_away:register\n"
    install(tmp_path, {"theirs_ill.py": "raise RuntimeError('ill')"}, entry_points)
    result = run(*SHOW, env={"PYTHONPATH": str(tmp_path)})
    assert result.returncode == 0, result.stderr
    assert "model_arch: 7b_v1_variant7" in result.stdout
    for target in ("theirs_ill:register", "theirs_away:register"):
        assert f"{target} extension failed" in result.stderr


@pytest.mark.parametrize("command", [SHOW, ("recipe", "asr", "train", "toy_train")])
def test_wavellama_itself_must_register(command: tuple[str, ...], tmp_path: Path) -> None:
    """Its names are taken by another package, whose extension comes first."""
    install(tmp_path, {"rival.py": RIVAL}, "[fairseq2.extension]\nrival = rival:register\n")
    result = run_forked(*command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert result.returncode == 1
    assert "Wav2Vec2LlamaConfig'>` has already a registered provider" in result.stderr
    assert not (tmp_path / "runs").exists()
