"""From embedded prompts to hypotheses: the one place where model, prompt and search meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from wavellama.decoding.biasing import NO_BIAS, Bias
from wavellama.decoding.ctc import ctc_drafts, ctc_scorers
from wavellama.decoding.step_decoder import create_step_decoder, create_verifier
from wavellama.engine import WeightForm
from wavellama.errors import ContextTooLongError
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.outputs import EmbeddedPrompt, SharedPrefix
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.search.beam import BeamRun, BeamSearch, SearchOptions, StepObserver
from wavellama.search.constraints import Constraint
from wavellama.search.greedy import GreedyRun, GreedySearch
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
    max_lens = _max_lens(model, prompt, config)
    if observer is not None or bias.scorer_factories:  # they see every single step
        drafts = None
    elif drafts is None:
        drafts = ctc_drafts(model, prompt) if config.ctc_draft else None
    given = _given(model, prompt, config)
    if drafts is not None and (verifier := create_verifier(*given)) is not None:
        guided = SpeculativeSearch(*_greedy_rules(config, model), bias.constraints)
        results = guided.run(verifier, max_lens, drafts)
    else:
        results = start_search(model, prompt, config, bias=bias, observer=observer).finish()
    return [without_control(model, row) for row in results]


def start_search(
    model: Wav2Vec2LlamaModel,
    prompt: EmbeddedPrompt,
    config: Wav2Vec2LlamaBeamSearchConfig,
    *,
    bias: Bias = NO_BIAS,
    observer: StepObserver | None = None,
) -> BeamRun | GreedyRun:
    """Read the prompts; return the search before its first step, which others may join.

    It knows no drafts, and returns control tokens, too. Parameters and errors are otherwise those
    of ``search_prompts``; the search is to be moved on as they were made, without gradients.
    """
    max_lens = _max_lens(model, prompt, config)
    scorers = ctc_scorers(model, prompt, config.ctc_weight)
    scorers += [create(len(max_lens)) for create in bias.scorer_factories]
    search = create_search(config, model, observer, constraints=bias.constraints, scorers=scorers)
    return search.start(create_step_decoder(*_given(model, prompt, config)), max_lens)


def without_control(
    model: Wav2Vec2LlamaModel, hypotheses: Sequence[Hypothesis]
) -> list[Hypothesis]:
    """Return hypotheses without BOS, EOS and padding."""
    info = model.target_vocab_info
    control = {info.bos_idx, info.eos_idx, info.pad_idx}
    return [replace(h, tokens=[t for t in h.tokens if t not in control]) for h in hypotheses]


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


def _given(
    model: Wav2Vec2LlamaModel, prompt: EmbeddedPrompt, config: Wav2Vec2LlamaBeamSearchConfig
) -> tuple[Wav2Vec2LlamaModel, list[Tensor], WeightForm, SharedPrefix | None]:
    """Return what a decoder is made of."""
    pairs = zip(prompt.seqs, prompt.layout.seq_lens, strict=True)
    return model, [seqs[:length] for seqs, length in pairs], config.weights, prompt.prefix


def _max_lens(
    model: Wav2Vec2LlamaModel, prompt: EmbeddedPrompt, config: Wav2Vec2LlamaBeamSearchConfig
) -> list[int]:
    """Return the most tokens that each row may emit.

    :raises ContextTooLongError: a prompt leaves no room for any.
    """
    limit = model.max_generation_length
    lens = [prompt.prefix_len + length for length in prompt.layout.seq_lens]
    too_long = [length for length in lens if length > limit - 3]
    if too_long:
        raise ContextTooLongError(too_long[0], limit)
    most = config.max_new_tokens
    return [min(limit - 2 - length, most or limit) for length in lens]
