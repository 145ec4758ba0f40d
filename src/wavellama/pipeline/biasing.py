"""What the options of a transcription ask of the search beside the model's own wishes."""

from __future__ import annotations

from pathlib import Path

from fairseq2.data.tokenizers import Tokenizer

from wavellama.decoding.biasing import Bias, script_constraint
from wavellama.decoding.hotword_bias import hotword_scorers
from wavellama.decoding.lm_bias import lm_scorers
from wavellama.pipeline.options import TranscribeOptions
from wavellama.search.constraints import Constraint
from wavellama.search.scorers import ScorerFactory


def create_bias(tokenizer: Tokenizer, options: TranscribeOptions) -> Bias:
    """Return what the options ask for; what has no weight is left out.

    :raises ConfigError: the tokenizer cannot write a hotword or the script; the language model
        cannot be loaded.
    """
    constraints, factories = list[Constraint](), list[ScorerFactory]()
    if options.script is not None:
        constraints.append(script_constraint(tokenizer, options.script))
    if options.hotwords and options.hotword_weight > 0.0:
        factories.append(hotword_scorers(tokenizer, options.hotwords, options.hotword_weight))
    if options.lm is not None and options.lm_weight > 0.0:
        factories.append(lm_scorers(tokenizer, Path(options.lm), options.lm_weight))
    return Bias(tuple(constraints), tuple(factories))
