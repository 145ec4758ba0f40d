"""From embedded prompts to hypotheses: the one place where model, prompt and search meet."""

from __future__ import annotations

from dataclasses import replace

from wavellama.decoding.step_decoder import ModuleStepDecoder
from wavellama.errors import ContextTooLongError
from wavellama.model.config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.outputs import EmbeddedPrompt
from wavellama.search.beam import BeamSearch, SearchOptions, StepObserver
from wavellama.search.greedy import GreedySearch
from wavellama.search.stopping import RepetitionGuard
from wavellama.search.types import Hypothesis


def search_prompts(
    model: Wav2Vec2LlamaModel,
    prompt: EmbeddedPrompt,
    config: Wav2Vec2LlamaBeamSearchConfig,
    observer: StepObserver | None = None,
) -> list[list[Hypothesis]]:
    """Return the hypotheses of each prompt, best first, without control tokens.

    :param model: a model in eval mode.
    :raises ContextTooLongError: a prompt leaves no room to emit a token.
    :raises DecodingError: the decoder produced NaN.
    """
    lens = prompt.layout.seq_lens
    contexts = [seqs[:length] for seqs, length in zip(prompt.seqs, lens, strict=True)]
    max_lens = [_max_len(length, model.max_generation_length, config) for length in lens]
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
