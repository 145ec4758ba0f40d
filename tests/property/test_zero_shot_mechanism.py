"""A zero-shot model learns a task whose answer stands in its examples and nowhere else.

The audio is a tone. Which letter a tone is called by is drawn anew for every row, and only the
examples before it tell: the model must find the example of the same tone and copy its letter. One
clip is one frame, hence one position of the decoder; the encoder keeps its random weights, with
which the tones already lie far apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest
import torch
from fairseq2.datasets import Seq2SeqBatch
from torch import Tensor

from tests.fakes import loss_of, make_batch, merge, tiny_model
from tests.tones import FILTER_BANKS
from wavellama import Wav2Vec2LlamaBeamSearchConfig, Wav2Vec2LlamaModel, generate
from wavellama.audio.load import normalize
from wavellama.units import SAMPLE_RATE

PITCHES: Final = (300.0, 1200.0, 4000.0)
"""Of the tones, in Hz."""

LETTERS: Final = (4, 5, 6, 7)
"""Tokens that a tone can be called by."""

NUM_EXAMPLES: Final = 2
CLIP_LEN: Final = 880
"""Samples of four filter-bank windows, which are one frame."""

MODEL: Final[dict[str, Any]] = {
    "ctc_head": False,
    "model_type": "ZERO_SHOT",
    "n_special_tokens": 6,
    "n_context_examples": NUM_EXAMPLES,
    "wav2vec2_asr_config": {"encoder_config": {"num_encoder_layers": 1}},
    "llama_config": {"model_dim": 64, "ffn_inner_dim": 128},
}
NUM_ROWS: Final = 128
NUM_STEPS: Final = 900
LEARNT: Final = 0.01
"""The mean loss per token at which training stops; one letter of two would be 0.35."""


@dataclass(frozen=True)
class Row:
    """A tone to name, and examples of two different tones, one of which is the same."""

    tone: int
    shown_tones: tuple[int, ...]
    shown_letters: tuple[int, ...]
    """What the examples call their tones."""

    @property
    def answer(self) -> int:
        """What the examples call the tone."""
        return self.shown_letters[self.shown_tones.index(self.tone)]


def draw_rows(count: int, generator: torch.Generator) -> list[Row]:
    return [_draw_row(generator) for _ in range(count)]


def _draw_row(generator: torch.Generator) -> Row:
    tones = torch.randperm(len(PITCHES), generator=generator)[:NUM_EXAMPLES].tolist()
    own = int(torch.randint(NUM_EXAMPLES, (), generator=generator))
    return Row(tones[own], tuple(tones), draw_letters(generator))


def draw_letters(generator: torch.Generator) -> tuple[int, ...]:
    """Return a letter for each example, no two the same."""
    places = torch.randperm(len(LETTERS), generator=generator)[:NUM_EXAMPLES]
    return tuple(LETTERS[place] for place in places.tolist())


def play(tone: int, generator: torch.Generator) -> Tensor:
    """Return a clip of a tone that begins anywhere in its period, with a little noise. (T)."""
    phase = torch.rand((), generator=generator)
    turns = PITCHES[tone] * torch.arange(CLIP_LEN) / SAMPLE_RATE + phase
    noise = torch.randn(CLIP_LEN, generator=generator)
    return normalize(torch.sin(2 * torch.pi * turns) + 0.02 * noise)


def to_batch(rows: Sequence[Row], generator: torch.Generator) -> Seq2SeqBatch:
    """Play the rows; every clip sounds a little different."""
    lens = {"seq_lens": [CLIP_LEN] * NUM_EXAMPLES}
    context_audio = [
        {"seqs": torch.stack([play(tone, generator) for tone in row.shown_tones]), **lens}
        for row in rows
    ]
    context_text = [
        {"seqs": torch.tensor(row.shown_letters)[:, None], "seq_lens": [1] * NUM_EXAMPLES}
        for row in rows
    ]
    return make_batch(
        [play(row.tone, generator) for row in rows],
        [[row.answer] for row in rows],
        more={"context_audio": context_audio, "context_text": context_text},
    )


def train(seed: int) -> Wav2Vec2LlamaModel:
    """Train all but the encoder until the task is learnt."""
    model = tiny_model(merge(FILTER_BANKS, MODEL), dtype=torch.float32, seed=seed)
    for part in (model.encoder_frontend, model.encoder):
        part.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3, betas=(0.9, 0.98))
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.02, total_iters=50)
    generator = torch.Generator().manual_seed(seed)
    mean_loss = 1.0
    for _ in range(NUM_STEPS):
        loss = loss_of(model, to_batch(draw_rows(NUM_ROWS, generator), generator)) / NUM_ROWS
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        warmup.step()
        mean_loss = 0.9 * mean_loss + 0.1 * loss.item()
        if mean_loss < LEARNT:
            break
    return model


def share_right(model: Wav2Vec2LlamaModel, rows: Sequence[Row], wanted: Sequence[int]) -> float:
    """Return how often the model writes the wanted letter and nothing else."""
    search = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=3)
    batch = to_batch(rows, torch.Generator().manual_seed(1))
    written = [hypotheses[0].tokens for hypotheses in generate(model, batch, search)]
    return sum(w == [letter] for w, letter in zip(written, wanted, strict=True)) / len(rows)


@pytest.mark.slow
def test_an_answer_that_only_the_examples_hold() -> None:
    model = train(seed=0)
    generator = torch.Generator().manual_seed(10**6)
    rows = draw_rows(400, generator)
    answers = [row.answer for row in rows]
    assert share_right(model, rows, answers) > 0.95

    exchanged = [replace(row, shown_letters=row.shown_letters[::-1]) for row in rows]
    assert share_right(model, exchanged, [row.answer for row in exchanged]) > 0.95

    unrelated = [replace(row, shown_letters=draw_letters(generator)) for row in rows]
    chance = 1 / len(LETTERS)
    assert share_right(model, unrelated, answers) == pytest.approx(chance, abs=0.08)
