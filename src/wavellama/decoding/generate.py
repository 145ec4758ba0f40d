"""From a batch to hypotheses: the one place where model, prompt and search meet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.utils.validation import StandardObjectValidator
from torch.nn import Module

from wavellama.batch import AsrBatch
from wavellama.decoding.step_decoder import ModuleStepDecoder
from wavellama.errors import ContextTooLongError
from wavellama.model.config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.search.beam import BeamSearch, SearchOptions, StepObserver
from wavellama.search.greedy import GreedySearch
from wavellama.search.stopping import RepetitionGuard
from wavellama.search.types import Hypothesis


@torch.no_grad()
def generate(
    model: Wav2Vec2LlamaModel,
    batch: Seq2SeqBatch | AsrBatch,
    config: Wav2Vec2LlamaBeamSearchConfig | None = None,
    *,
    observer: StepObserver | None = None,
) -> list[list[Hypothesis]]:
    """Return the hypotheses of each row, best first, at most ``config.nbest``.

    A row's result does not depend on the other rows. The model is decoded in eval mode and left
    in the mode that it was in; targets in ``batch`` are not looked at.

    :param config: how to search; None takes the model's own ``beam_search_config``.
    :param observer: is called with the unfinished rows after each step.
    :raises ValidationError: a field of ``config`` is out of range.
    :raises ContextTooLongError: a prompt leaves no room to emit a token.
    :raises UnknownLanguageError: a language code is not in the model's table.
    :raises DecodingError: the decoder produced NaN.
    """
    config = config or model.beam_search_config
    StandardObjectValidator().validate(config)
    if isinstance(batch, Seq2SeqBatch):
        batch = model.read_batch(batch)
    with _eval_mode(model):
        prompt = model.embed_prompt(batch, model.syntax.prompt)
        context_lens = prompt.layout.context_lens
        contexts = [seqs[:n] for seqs, n in zip(prompt.seqs, context_lens, strict=True)]
        max_lens = [_max_len(n, model.max_generation_length, config) for n in context_lens]
        search = create_search(config, model, observer)
        results = search.run(ModuleStepDecoder(model, contexts), max_lens)
    control = _control_tokens(model)
    return [[_without(control, hypothesis) for hypothesis in row] for row in results]


def create_search(
    config: Wav2Vec2LlamaBeamSearchConfig,
    model: Wav2Vec2LlamaModel,
    observer: StepObserver | None = None,
) -> BeamSearch | GreedySearch:
    """Translate the public configuration into a search object."""
    guard = None
    if config.repetition_guard:
        guard = RepetitionGuard(config.compression_window, config.compression_threshold)
    eos_idx = model.target_vocab_info.eos_idx
    assert eos_idx is not None, "checked by the model's constructor"
    if config.nbest == 1 and observer is None:
        return GreedySearch(eos_idx, config.length_norm, guard)
    return BeamSearch(SearchOptions(config.nbest, eos_idx, config.length_norm, guard), observer)


def _max_len(context_len: int, limit: int, config: Wav2Vec2LlamaBeamSearchConfig) -> int:
    """Return how many tokens a row may emit after its context."""
    room = limit - 2 - context_len
    if room < 1:
        raise ContextTooLongError(context_len, limit)
    return room if config.max_new_tokens is None else min(room, config.max_new_tokens)


def _control_tokens(model: Wav2Vec2LlamaModel) -> set[int | None]:
    info = model.target_vocab_info
    return {info.bos_idx, info.eos_idx, info.pad_idx}


def _without(control: set[int | None], hypothesis: Hypothesis) -> Hypothesis:
    """Return the hypothesis with BOS, EOS and padding taken out of its tokens."""
    tokens = [token for token in hypothesis.tokens if token not in control]
    return replace(hypothesis, tokens=tokens)


@contextmanager
def _eval_mode(model: Module) -> Iterator[None]:
    """Put the model in eval mode, and each of its modules back in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def best_tokens(results: Sequence[Sequence[Hypothesis]]) -> list[list[int]]:
    """Return the tokens of each row's best hypothesis."""
    return [row[0].tokens for row in results]
