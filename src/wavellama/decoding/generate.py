"""From a batch to hypotheses, whatever the variant."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.utils.validation import StandardObjectValidator

from wavellama.batch import AsrBatch
from wavellama.decoding.prompt_search import search_prompts
from wavellama.decoding.streaming import transcribe_rows
from wavellama.errors import ConfigError
from wavellama.model.config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.model.eval_mode import eval_mode
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.search.beam import StepObserver
from wavellama.search.constraints import Constraint
from wavellama.search.types import Hypothesis


@torch.no_grad()
def generate(
    model: Wav2Vec2LlamaModel,
    batch: Seq2SeqBatch | AsrBatch,
    config: Wav2Vec2LlamaBeamSearchConfig | None = None,
    *,
    constraints: Sequence[Constraint] = (),
    observer: StepObserver | None = None,
    drafts: Sequence[Sequence[int]] | None = None,
) -> list[list[Hypothesis]]:
    """Return the hypotheses of each row, best first, at most ``config.nbest``.

    A row's result does not depend on the other rows. The model is decoded in eval mode and left
    in the mode that it was in; targets in ``batch`` are not looked at. Streaming models return
    one hypothesis per row, the best ones of its segments joined (see ``decoding.streaming``).

    :param config: how to search; None takes the model's own ``beam_search_config``.
    :param constraints: which tokens may follow in the text of each row (streaming: of each
        segment), such as ``search.constraints.AllowedTokens``.
    :param observer: is called with the unfinished rows after each step.
    :param drafts: a guess of each row's tokens, such as a CTC model's; with a beam of 1 the decoder
        reads several of them at a time. It changes the speed, never the text.
    :raises ValidationError: a field of ``config`` is out of range.
    :raises ConfigError: the constraints leave a row no token; drafts cannot be used.
    :raises ContextTooLongError: a prompt leaves no room to emit a token.
    :raises UnknownLanguageError: a language code is not in the model's table.
    :raises DecodingError: the decoder produced NaN.
    """
    config = config or model.beam_search_config
    StandardObjectValidator().validate(config)
    if drafts is not None and (config.nbest != 1 or config.ctc_weight or model.syntax.is_streaming):
        raise ConfigError(
            "Drafts need a beam of 1, no CTC weight, and a model that is not streaming."
        )
    if isinstance(batch, Seq2SeqBatch):
        batch = model.read_batch(batch)
    with eval_mode(model):
        if model.syntax.is_streaming:
            return [[best] for best in transcribe_rows(model, batch, config, constraints)]
        prompt = model.embed_prompt(batch)
        return search_prompts(
            model, prompt, config, constraints=constraints, observer=observer, drafts=drafts
        )


def best_tokens(results: Sequence[Sequence[Hypothesis]]) -> list[list[int]]:
    """Return the tokens of each row's best hypothesis."""
    return [row[0].tokens for row in results]
