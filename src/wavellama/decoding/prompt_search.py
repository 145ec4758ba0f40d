"""From embedded prompts to hypotheses: the one place where model, prompt and search meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wavellama.decoding.biasing import NO_BIAS, Bias
from wavellama.decoding.ctc import ctc_drafts, ctc_scorers
from wavellama.decoding.step_decoder import create_step_decoder, create_verifier
from wavellama.errors import ContextTooLongError
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.outputs import EmbeddedPrompt
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.search.beam import BeamSearch, SearchOptions, StepObserver
from wavellama.search.constraints import Constraint
from wavellama.search.greedy import GreedySearch
from wavellama.search.scorers import WeightedScorer
from wavellama.search.speculative import SpeculativeSearch
from wavellama.search.stopping import RepetitionGuard
from wavellama.search.types import Hypothesis


def search_prompts(
    model: Wav2Vec2LlamaModel,
    prompt: EmbeddedPrompt,
    config: Wav2Vec2LlamaBeamSearchConfig,
    *,
    bias: Bias = NO_BIAS,
    observer: StepObserver | None = None,
    drafts: Sequence[Sequence[int]] | None = None,
) -> list[list[Hypothesis]]:
    """Return the hypotheses of each prompt, best first, without control tokens.

    :param model: a model in eval mode.
    :param bias: which tokens may follow, and what is added to their scores.
    :param drafts: a guess of each row's tokens, for a beam of 1; it changes the speed alone, and
        is not used where an observer looks on, or where the bias has scorers.
    :raises ConfigError: the constraints leave a row no token; the configuration's ``weights`` are
        not possible with this model or device.
    :raises ContextTooLongError: a prompt leaves no room to emit a token.
    :raises DecodingError: the decoder produced NaN.
    """
    lens = prompt.layout.seq_lens
    contexts = [seqs[:length] for seqs, length in zip(prompt.seqs, lens, strict=True)]
    limit, offset = model.max_generation_length, prompt.prefix_len
    max_lens = [_max_len(offset + length, limit, config) for length in lens]
    if observer is not None or bias.scorer_factories:  # they see every single step
        drafts = None
    elif drafts is None:
        drafts = ctc_drafts(model, prompt) if config.ctc_draft else None
    given = (model, contexts, config.weights, prompt.prefix)
    if drafts is not None and (verifier := create_verifier(*given)) is not None:
        guided = SpeculativeSearch(*_greedy_rules(config, model), bias.constraints)
        results = guided.run(verifier, max_lens, drafts)
    else:
        scorers = ctc_scorers(model, prompt, config.ctc_weight)
        scorers += bias.create_scorers(len(contexts))
        constraints = bias.constraints
        search = create_search(config, model, observer, constraints=constraints, scorers=scorers)
        results = search.run(create_step_decoder(*given), max_lens)
    info = model.target_vocab_info
    control = {info.bos_idx, info.eos_idx, info.pad_idx}
    return [
        [replace(one, tokens=[t for t in one.tokens if t not in control]) for one in row]
        for row in results
    ]


def create_search(
    config: Wav2Vec2LlamaBeamSearchConfig,
    model: Wav2Vec2LlamaModel,
    observer: StepObserver | None = None,
    *,
    constraints: Sequence[Constraint] = (),
    scorers: Sequence[WeightedScorer] = (),
) -> BeamSearch | GreedySearch:
    """Translate the public configuration into a search object."""
    eos_idx, length_norm, guard = _greedy_rules(config, model)
    if config.nbest == 1 and observer is None and not scorers:
        return GreedySearch(eos_idx, length_norm, guard, constraints)
    options = SearchOptions(config.nbest, eos_idx, length_norm, guard, constraints)
    return BeamSearch(options, observer, scorers)


def _greedy_rules(
    config: Wav2Vec2LlamaBeamSearchConfig, model: Wav2Vec2LlamaModel
) -> tuple[int, bool, RepetitionGuard | None]:
    """Return EOS, whether scores are means, and the guard against repetition."""
    guard = None
    if config.repetition_guard:
        guard = RepetitionGuard(config.compression_window, config.compression_threshold)
    eos_idx = model.target_vocab_info.eos_idx
    assert eos_idx is not None, "checked by the model's constructor"
    return eos_idx, config.length_norm, guard


def _max_len(context_len: int, limit: int, config: Wav2Vec2LlamaBeamSearchConfig) -> int:
    room = limit - 2 - context_len
    if room < 1:
        raise ContextTooLongError(context_len, limit)
    return room if config.max_new_tokens is None else min(room, config.max_new_tokens)
