"""Another package adds a generator, a masker and a recipe; YAML alone selects them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.forked import run_forked
from tests.e2e.runs import Runner, last_line, run_cli

PACKAGE = '''
from dataclasses import dataclass
from pathlib import Path
import torch
from fairseq2.generation import Seq2SeqGenerator
from fairseq2.models.wav2vec2 import Wav2Vec2Masker
from fairseq2.recipe.component import register_component
from torch.nn import Module
from wavellama import Hypothesis
from wavellama.model.masking import MaskerTarget
from wavellama.tasks.train import AsrTraining


@dataclass(kw_only=True)
class ParrotConfig:
    token: int = 4


class Parrot(Seq2SeqGenerator):
    """Always says the same token."""

    def __init__(self, model, config):
        self._model, self._config = model, config

    def __call__(self, source_seqs, source_seqs_layout, prompt_seqs, prompt_seqs_layout):
        raise NotImplementedError

    def generate_batch(self, batch):
        token = self._config.token
        return [[Hypothesis([token], -1.0, [-1.0], True, "eos")] for _ in batch.source_seq_lens]

    def register_step_hook(self, hook):
        raise NotImplementedError

    @property
    def model(self):
        return self._model


@dataclass(kw_only=True)
class EraserConfig:
    log: str = ""


class Eraser(Wav2Vec2Masker):
    """Erases all features, and notes that it was called."""

    def __init__(self, model_dim, log):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(model_dim))
        self.log = log

    def forward(self, seqs, seqs_layout):
        with open(self.log, "a") as file:
            file.write(f"{tuple(seqs.shape)}\\n")
        return seqs * self.scale, torch.ones(seqs.shape[:2], dtype=torch.bool)


class MyTraining(AsrTraining):
    def create_task(self, context):
        (context.output_dir / "my_training.txt").write_text("here")
        return super().create_task(context)


def register(container):
    register_component(container, Seq2SeqGenerator, "parrot", ParrotConfig,
                       lambda resolver, config: Parrot(resolver.resolve(Module, key="model"),
                                                       config))
    register_component(container, Wav2Vec2Masker, "eraser", EraserConfig,
                       lambda resolver, config: Eraser(resolver.resolve(MaskerTarget).model_dim,
                                                       config.log))
'''

RECIPE = """
# A recipe of another package.
recipe: {recipe}
dataset: {{name: toy_tones, max_audio_secs: 2, batch_audio_secs: 8}}
masker: {{name: eraser, config: {{log: "{log}"}}}}
seq2seq_generator: {{name: parrot, config: {{token: 5}}}}
regime: {{num_steps: 2, validate_every_n_steps: 2, checkpoint_every_n_steps: 2}}
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "thirdparty.py").write_text(PACKAGE)
    info = tmp_path / "thirdparty-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[fairseq2.extension]\nthirdparty = thirdparty:register\n"
        "[wavellama.recipes]\nmy_train = thirdparty:MyTraining\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("run", "recipe"), [(run_cli, "my_train"), (run_forked, "thirdparty:MyTraining")]
)
def test_a_package_selects_its_own_parts_by_yaml(package: Path, run: Runner, recipe: str) -> None:
    log = package / "eraser.log"
    (package / "foreign.yaml").write_text(RECIPE.format(recipe=recipe, log=log))
    out = package / "out"
    result = run(
        *("recipe", "run", package / "foreign.yaml", "--output-dir", out, "--no-rich"),
        env={"PYTHONPATH": str(package)},
    )
    assert result.returncode == 0, result.stderr
    assert (out / "my_training.txt").read_text() == "here"
    assert len(log.read_text().splitlines()) >= 2, "the masker acts in every training step"
    assert "Validation Metrics (step 2)" in result.stderr
    evaluation = run(
        *("recipe", "asr", "eval", "toy_eval", "--model", out, "--output-dir", package / "eval"),
        *("--config", "del:seq2seq_generator.config", "seq2seq_generator.name=parrot"),
        "set:seq2seq_generator.config={token: 6}",
        env={"PYTHONPATH": str(package)},
    )
    assert evaluation.returncode == 0, evaluation.stderr
    lines = (package / "eval" / "hypotheses.jsonl").read_text().splitlines()
    assert len({line.split('"hypothesis": ')[1].split(",")[0] for line in lines}) == 1


def test_a_verb_refuses_another_kind_of_recipe(package: Path) -> None:
    (package / "foreign.yaml").write_text(RECIPE.format(recipe="my_train", log="x"))
    result = run_forked(
        "recipe", "asr", "train", package / "foreign.yaml", env={"PYTHONPATH": str(package)}
    )
    assert result.returncode == 2
    assert "my_train" in last_line(result)
    assert "`recipe run " in last_line(result)
