"""What the properties are tried on: sizes of models, and rows of batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st

from tests.fakes import LID, SMALL, Utterances, arch_config, create_model, make_waveforms, merge
from wavellama import Wav2Vec2LlamaModel
from wavellama.search.running import SearchRun
from wavellama.search.types import Hypothesis

LANGS: Sequence[str | None] = ["eng_Latn", "SPA_latn", "deu_Latn", None]

VOCAB_SIZE = 12


@dataclass(frozen=True)
class Sizes:
    """What a random small model is made of."""

    lid: bool = False
    stacking: int = 1
    encoder_heads: int = 2
    encoder_layers: int = 1
    heads: int = 2
    kv_heads: int = 2
    head_dim: int = 8
    layers: int = 1
    seed: int = 0

    def overrides(self) -> dict[str, Any]:
        """Return what these sizes change in the architecture ``tiny``."""
        overrides = merge(SMALL, LID) if self.lid else dict(SMALL)
        sizes: Mapping[str, Any] = {
            "encoder_stacking": self.stacking,
            "wav2vec2_asr_config": {
                "encoder_config": {
                    "model_dim": 8 * self.encoder_heads,
                    "num_encoder_attn_heads": self.encoder_heads,
                    "num_encoder_layers": self.encoder_layers,
                }
            },
            "llama_config": {
                "model_dim": self.heads * self.head_dim,
                "num_layers": self.layers,
                "num_attn_heads": self.heads,
                "num_key_value_heads": self.kv_heads,
            },
        }
        return merge(overrides, sizes)

    def model(self, *, sharpness: float = 3.0) -> Wav2Vec2LlamaModel:
        """Return the random model, in float64."""
        config = arch_config("tiny", self.overrides())
        return create_model(config, seed=self.seed, sharpness=sharpness)


@st.composite
def sizes(draw: st.DrawFn) -> Sizes:
    """Draw the sizes of a model: both syntaxes, stacking, grouped queries."""
    heads = draw(st.sampled_from([1, 2, 4]))
    return Sizes(
        lid=draw(st.booleans()),
        stacking=draw(st.integers(1, 3)),
        encoder_heads=draw(st.sampled_from([1, 2])),
        encoder_layers=draw(st.integers(1, 2)),
        heads=heads,
        kv_heads=draw(st.sampled_from([n for n in (1, 2, 4) if heads % n == 0])),
        head_dim=draw(st.sampled_from([4, 8])),
        layers=draw(st.integers(1, 2)),
        seed=draw(st.integers(0, 2**16)),
    )


SAMPLE_COUNTS = st.one_of(st.integers(400, 6000), st.sampled_from([400, 401, 719, 720, 1040]))
"""From the shortest audio that gives a frame, with values next to the frames' borders."""


@st.composite
def utterances(draw: st.DrawFn, *, max_rows: int = 5) -> Utterances:
    """Draw the rows of a batch."""
    lens = draw(st.lists(SAMPLE_COUNTS, min_size=1, max_size=max_rows))
    tokens = st.lists(st.integers(3, VOCAB_SIZE - 1), min_size=1, max_size=6)
    targets = draw(st.lists(tokens, min_size=len(lens), max_size=len(lens)))
    langs = draw(st.lists(st.sampled_from(LANGS), min_size=len(lens), max_size=len(lens)))
    waveforms = make_waveforms(lens, seed=draw(st.integers(0, 2**16)))
    return Utterances(waveforms, targets, draw(st.sampled_from([langs, None])))


@st.composite
def orders(draw: st.DrawFn, rows: Utterances) -> list[int]:
    """Draw a batch out of rows: any number of them, in any order."""
    count = len(rows.waveforms)
    order = draw(st.permutations(range(count)))
    return list(order[: draw(st.integers(1, count))])


def assert_rows_close(actual: torch.Tensor, expected: torch.Tensor, atol: float = 1e-9) -> None:
    """Compare two tensors of the same shape."""
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0)


def search_joined(
    starts: Sequence[Callable[[], SearchRun[Any]]],
    delays: Sequence[int],
    leaving: Mapping[int, int] | None = None,
) -> list[list[Hypothesis]]:
    """Begin one search after another, each so many steps after the one before, and let it join the
    rows that have not ended; return the hypotheses of all rows.

    :param leaving: after how many steps rows leave, if they are searched then; they have none.
    """
    run, begun, num_steps = starts[0](), 0, 0
    results: dict[int, list[Hypothesis]] = {}

    def step() -> None:
        nonlocal num_steps
        num_steps += 1
        results.update({begun + number: found for number, found in run.step().items()})
        gone = [row for row, step in (leaving or {}).items() if step == num_steps]
        present = {begun + row.index for row in run.rows}
        run.leave([row - begun for row in gone])
        assert {begun + row.index for row in run.rows} == present - set(gone)
        results.update({row: [] for row in present & set(gone)})

    for start, delay in zip(starts[1:], delays, strict=True):
        for _ in range(delay):
            if run.rows:
                step()
        if run.rows:
            run.join(start())
        else:
            begun += run.num_begun
            run = start()
    while run.rows:
        step()
    return [results[number] for number in range(begun + run.num_begun)]
