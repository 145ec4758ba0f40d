"""Another package adds its own parts, and YAML and options alone choose them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.forked import run_forked
from tests.e2e.runs import Runner, last_line, run_cli, weights
from tests.pages import ROOT, code_blocks
from tests.third_party import PAGES, documented_entry_points, documented_files, install
from wavellama.data.manifest import read_manifest

MINI: Final = Path(__file__).parents[2] / "assets/corpora/mini/manifest.tsv"

PARROT: Final = '''
from dataclasses import dataclass
import torch
from fairseq2.generation import *
from fairseq2.recipe.component import register_component


@dataclass(kw_only=True)
class ParrotConfig:
    token: int = 5


class Parrot(Seq2SeqGenerator):
    """Always says the same; has fairseq2's own call alone."""

    model = None
    register_step_hook = None

    def __init__(self, config):
        self.token = config.token

    def __call__(self, source_seqs, source_seqs_layout, prompt_seqs, prompt_seqs_layout):
        assert source_seqs.shape == (len(source_seqs_layout.seq_lens), source_seqs_layout.width)
        assert prompt_seqs.tolist() == [[0]] * len(source_seqs)
        said = Hypothesis(torch.tensor([0, self.token, 2, 1]), torch.tensor(-1.5), None)
        return SequenceGeneratorOutput([[said]] * len(source_seqs), GenerationCounters())


def register(container):
    register_component(container, Seq2SeqGenerator, "parrot", ParrotConfig,
                       lambda resolver, config: Parrot(config))
'''


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the documentation, word for word, installed into a folder."""
    folder = tmp_path_factory.mktemp("theirs")
    return install(folder, documented_files(), documented_entry_points())


@pytest.fixture(scope="module")
def trained(theirs: Path) -> Path:
    """A run of the package's recipe, with its architecture, masker and generator."""
    out = theirs / "out"
    result = run_cli(
        *("recipe", "run", theirs / "their.yaml", "--output-dir", out, "--no-rich"),
        env={"PYTHONPATH": str(theirs)},
    )
    assert result.returncode == 0, result.stderr
    assert "Validation Metrics (step 2)" in result.stderr
    return out


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_count_the_lines_of_their_examples(page: str) -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = [block for block in code_blocks(page) if block.language == "python" and block.name]
    for block in named:
        lines = [line for line in block.text.splitlines()[1:] if line.strip()]
        assert len(lines) <= 25
        count = f"({len(lines)} lines)"
        assert count in block.before, block.name
        assert count in contributing
    assert named


def test_architecture_recipe_and_masker_act(trained: Path) -> None:
    state = weights(trained, 2)
    count = sum(value.numel() for name, value in state.items() if "masker" not in name)
    assert int((trained / "parameters.txt").read_text()) == count
    assert "llama_decoder.layers.3.ffn.gate_proj.weight" in state
    assert "llama_decoder.layers.4.ffn.gate_proj.weight" not in state
    assert state["masker.embedding"].abs().sum() > 0, "the masker has learned"


def test_the_generator_ranks(theirs: Path, trained: Path) -> None:
    """The last of n-best texts by length is never shorter than the first one."""
    lengths = []
    for per_token in (-100, 100):
        out = theirs / f"eval_{per_token}"
        result = run_forked(
            *("recipe", "asr", "eval", "toy_eval", "--model", trained, "--output-dir", out),
            *("--config", "del:seq2seq_generator.config", "seq2seq_generator.name=rerank"),
            f"set:seq2seq_generator.config={{nbest: 3, per_token: {per_token}}}",
            env={"PYTHONPATH": str(theirs)},
        )
        assert result.returncode == 0, result.stderr
        lines = (out / "hypotheses.jsonl").read_text().splitlines()
        lengths.append([len(json.loads(line)["hypothesis"]) for line in lines])
    assert lengths[0] < lengths[1]


def test_the_format_is_printed_and_written(theirs: Path, trained: Path) -> None:
    short = [u.audio for u in read_manifest(MINI).utterances if u.duration < 1.5]
    clips, environment = short[:2], {"PYTHONPATH": str(theirs)}
    command = ("transcribe", "--model", trained, "--format", "lrc", clips[0])
    printed = run_cli(*command, env=environment)
    assert printed.returncode == 0, printed.stderr
    assert re.fullmatch(r"(\[\d\d:\d\d\.\d\d\].*\n)+", printed.stdout)
    refused = run_forked(*command, clips[1], env=environment)
    assert refused.returncode == 2
    assert "lrc of 2 file(s) cannot be printed one after the other" in last_line(refused)
    written = run_forked(*(*command, clips[1], "--output-dir", theirs / "texts"), env=environment)
    assert written.returncode == 0, written.stderr
    files = sorted((theirs / "texts").glob("*.lrc"))
    assert [file.stem for file in files] == sorted(clip.stem for clip in clips)
    assert files[[file.stem for file in files].index(clips[0].stem)].read_text() == printed.stdout


@pytest.fixture(scope="module")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parrot")
    entry_points = "[fairseq2.extension]\nparrot = parrot:register\n"
    return install(folder, {"parrot.py": PARROT}, entry_points)


CHOSEN: Final = ("--config", "del:seq2seq_generator.config", "seq2seq_generator.name=parrot")


def test_a_generator_of_four_tensors_serves_every_recipe(parrot: Path) -> None:
    """The model reads audio alone, so nothing is lost, although the data set names languages."""
    out, environment = parrot / "out", {"PYTHONPATH": str(parrot)}
    trained = run_forked(
        *("recipe", "asr", "train", "toy_train", "--output-dir", out, "--no-rich", *CHOSEN),
        *("model.arch=tiny", "set:seq2seq_generator.config={token: 6}"),
        env=environment,
    )
    assert trained.returncode == 0, trained.stderr
    assert "Validation Metrics (step 5)" in trained.stderr
    said = set()
    for verb, name in (("eval", "hypotheses"), ("transcribe", "transcripts")):
        result = run_forked(
            *("recipe", "asr", verb, f"toy_{verb}", "--model", out),
            *("--output-dir", parrot / verb, *CHOSEN),
            env=environment,
        )
        assert result.returncode == 0, result.stderr
        for line in (parrot / verb / f"{name}.jsonl").read_text().splitlines():
            record = json.loads(line)
            said.add((record["hypothesis"], record["score"], record["stop_reason"]))
    ((text, score, reason),) = said
    assert len(text) == 1
    assert (score, reason) == (-1.5, "eos")


def test_a_generator_of_four_tensors_is_refused_at_the_start(parrot: Path) -> None:
    result = run_forked(
        *("recipe", "asr", "train", "toy_train", "--output-dir", parrot / "lid", *CHOSEN),
        env={"PYTHONPATH": str(parrot)},
    )
    assert result.returncode == 2
    assert "Parrot has no `generate_batch(batch)`" in last_line(result)
    assert "the model reads languages, too" in last_line(result)


@pytest.mark.parametrize("run", [run_cli, run_forked])
def test_a_verb_refuses_another_kind_of_recipe(theirs: Path, run: Runner) -> None:
    result = run("recipe", "asr", "train", theirs / "their.yaml", env={"PYTHONPATH": str(theirs)})
    assert result.returncode == 2
    assert "their_train" in last_line(result)
    assert "`recipe run " in last_line(result)
