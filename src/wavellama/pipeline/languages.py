"""Which language is spoken in clips of which none is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from wavellama.decoding.language import LanguageScores, detect_languages
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.pipeline.jobs import Clip, to_batch
from wavellama.pipeline.options import TranscribeOptions
from wavellama.units import SAMPLE_RATE

SURE: Final = 0.5
"""How probable a language must be to be told to the model where nobody named any."""

EVIDENCE_SAMPLES: Final = 30 * SAMPLE_RATE
"""How much audio of an input is enough to find its language."""


def find_languages(
    model: Wav2Vec2LlamaModel, clips: Sequence[Clip], options: TranscribeOptions
) -> Sequence[LanguageScores | None]:
    """Return how likely languages are in each clip; None where the model is told none.

    Candidates are compared clip by clip. Without any, a language head hears the longest clips of
    each input, whose evidence is taken together, and a language that is not sure enough is none.
    """
    if clips and options.languages:
        batch = to_batch(clips, model)
        return detect_languages(model, batch, options.languages, config=options.beam)
    if not clips or model.language_head is None:
        return [None] * len(clips)
    heard = _longest(clips)
    pooled: dict[int, LanguageScores] = {}
    for clip, row in zip(heard, detect_languages(model, to_batch(heard, model)), strict=True):
        before = pooled.get(id(clip.job))
        pooled[id(clip.job)] = before + row if before else row
    rows = [pooled[id(clip.job)] for clip in clips]
    return [row if row.probabilities[row.best] >= SURE else None for row in rows]


def _longest(clips: Sequence[Clip]) -> list[Clip]:
    """Return the longest clips of each input, enough to find its language."""
    chosen: list[Clip] = []
    lengths: dict[int, int] = {}
    for clip in sorted(clips, key=lambda clip: -clip.num_samples):
        length = lengths.get(id(clip.job), 0)
        if length < EVIDENCE_SAMPLES:
            chosen.append(clip)
            lengths[id(clip.job)] = length + clip.num_samples
    return chosen
