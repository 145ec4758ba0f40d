"""From a batch to hypotheses, whatever the variant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.utils.validation import StandardObjectValidator
from typing_extensions import Unpack

from wavellama.batch import AsrBatch
from wavellama.decoding.biasing import NO_BIAS, Bias
from wavellama.decoding.examples import embed_after
from wavellama.decoding.prompt_search import search_prompts, start_search
from wavellama.decoding.streaming import transcribe_rows
from wavellama.errors import BatchError, ConfigError
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.modules import eval_mode
from wavellama.model.outputs import DecoderInputs, EmbeddedPrompt, SharedPrefix
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.prompt.assemble import AudioSpan
from wavellama.prompt.layout import lay_out
from wavellama.search.beam import BeamRun, StepObserver
from wavellama.search.constraints import Constraint
from wavellama.search.greedy import GreedyRun
from wavellama.search.types import Hypothesis


class SearchExtras(TypedDict, total=False):
    """What a search may be given beside its configuration."""

    constraints: Sequence[Constraint]
    """Which tokens may follow in the text of each row (streaming: of each segment), such as
    ``search.constraints.AllowedTokens``."""

    bias: Bias
    """Hotwords, a language model and a script, made by ``pipeline.biasing.create_bias``."""

    prefix: SharedPrefix | None
    """Context examples that all rows share, made by ``decoding.examples.read_examples``; those of
    the batch are then not looked at. Streaming models take none."""

    observer: StepObserver | None
    """Is called with the unfinished rows after each step; not for streaming models."""

    drafts: Sequence[Sequence[int]] | None
    """A guess of each row's tokens, such as a CTC model's; with a beam of 1 the decoder reads
    several of them at a time. It changes the speed, never the text. Not for streaming models."""


@torch.no_grad()
def generate(
    model: Wav2Vec2LlamaModel,
    batch: Seq2SeqBatch | AsrBatch | DecoderInputs,
    config: Wav2Vec2LlamaBeamSearchConfig | None = None,
    **extras: Unpack[SearchExtras],
) -> list[list[Hypothesis]]:
    """Return the hypotheses of each row, best first, at most ``config.nbest``.

    A row's result does not depend on the other rows. The model is decoded in eval mode and left
    in the mode that it was in; targets in ``batch`` are not looked at. Streaming models return
    one hypothesis per row, the best ones of its segments joined (see ``decoding.streaming``).

    :param batch: what to recognise; or what ``forward(return_decoder_inputs=True)`` returned for
        it, where the model reads whole utterances.
    :param config: how to search; None takes the model's own ``beam_search_config``.
    :param extras: what else decides about the text (see ``SearchExtras``).
    :raises ValidationError: a field of ``config`` is out of range.
    :raises ConfigError: the constraints leave a row no token; drafts, an observer or a prefix
        cannot be used; the configuration's ``weights`` are not possible with this model or device.
    :raises BatchError: there is not one draft per row, or a draft's token is not in the vocabulary.
    :raises ContextTooLongError: a prompt leaves no room to emit a token.
    :raises UnknownLanguageError: a language code is not in the model's table.
    :raises DecodingError: the decoder produced NaN.
    """
    config = config or model.beam_search_config
    StandardObjectValidator().validate(config)
    bias = extras.get("bias", NO_BIAS).constrained(extras.get("constraints", ()))
    drafts = extras.get("drafts")
    _check_streaming(model, extras)
    if isinstance(batch, Seq2SeqBatch):
        batch = model.read_batch(batch)
    if drafts is not None:
        _check_search_for_drafts(config, bias)
        _check_drafts(drafts, _num_rows(batch), model.target_vocab_info.size)
    with eval_mode(model):
        prefix, observer = extras.get("prefix"), extras.get("observer")
        if isinstance(batch, DecoderInputs):
            prompt = _embedded_before(model, batch, config, prefix)
        elif model.syntax.is_streaming:
            return [[best] for best in transcribe_rows(model, batch, config, bias)]
        else:
            prompt = _embed(model, batch, prefix)
        return search_prompts(model, prompt, config, bias=bias, observer=observer, drafts=drafts)


@torch.no_grad()
def start(
    model: Wav2Vec2LlamaModel,
    batch: AsrBatch,
    config: Wav2Vec2LlamaBeamSearchConfig,
    bias: Bias = NO_BIAS,
    prefix: SharedPrefix | None = None,
) -> BeamRun | GreedyRun:
    """Return the search that ``generate`` makes, before its first step (see ``start_search``).

    :param model: a model that is not streaming, in eval mode.
    """
    return start_search(model, _embed(model, batch, prefix), config, bias=bias)


def _embed(
    model: Wav2Vec2LlamaModel, batch: AsrBatch, prefix: SharedPrefix | None
) -> EmbeddedPrompt:
    return model.embed_prompt(batch) if prefix is None else embed_after(model, batch, prefix)


def _num_rows(batch: AsrBatch | DecoderInputs) -> int:
    return len(batch.audio_embeddings) if isinstance(batch, DecoderInputs) else batch.num_rows


def _embedded_before(
    model: Wav2Vec2LlamaModel,
    inputs: DecoderInputs,
    config: Wav2Vec2LlamaBeamSearchConfig,
    prefix: SharedPrefix | None,
) -> EmbeddedPrompt:
    """Return what stood before the texts when the decoder's inputs were embedded."""
    if model.syntax.is_streaming:
        raise ConfigError(
            "`DecoderInputs` need a model that is not streaming: what this one reads before a"
            " segment has the texts in it that were found before; give the batch."
        )
    if prefix is not None:
        raise ConfigError("`prefix` is part of `DecoderInputs` already; leave it out.")
    if model.ctc_head is not None and (config.ctc_weight or config.ctc_draft):
        raise ConfigError(
            "`ctc_weight` and `ctc_draft` need the encoder's frames, which `DecoderInputs` do not"
            " hold; give the batch."
        )
    seqs, lens = inputs.decoder_context_inputs[0], inputs.decoder_context_seq_lens[0]
    return EmbeddedPrompt(seqs, lay_out([(AudioSpan(row),) for row in range(len(lens))], lens))


def _check_streaming(model: Wav2Vec2LlamaModel, extras: SearchExtras) -> None:
    """Check that nothing is asked of a streaming model that is about one search of a whole row."""
    names = [name for name in ("observer", "prefix", "drafts") if extras.get(name) is not None]
    if names and model.syntax.is_streaming:
        raise ConfigError(
            f"`{names[0]}` needs a model that is not streaming: this one searches each segment of a"
            " row by itself; leave it out."
        )


def _check_search_for_drafts(config: Wav2Vec2LlamaBeamSearchConfig, bias: Bias) -> None:
    if config.nbest != 1 or config.ctc_weight:
        raise ConfigError("Drafts need a beam of 1 (`nbest`) and no CTC weight (`ctc_weight` 0).")
    if bias.scorer_factories:
        raise ConfigError("Drafts cannot be used together with hotwords or a language model.")


def _check_drafts(drafts: Sequence[Sequence[int]], num_rows: int, vocab_size: int) -> None:
    if len(drafts) != num_rows:
        raise BatchError(f"There are {len(drafts)} drafts for {num_rows} rows; give one per row.")
    for row, draft in enumerate(drafts):
        for token in draft:
            if not 0 <= token < vocab_size:
                raise BatchError(
                    f"The draft of row {row} has the token {token}, but the vocabulary has"
                    f" {vocab_size} tokens; make drafts with the model's own tokenizer."
                )


def best_tokens(results: Sequence[Sequence[Hypothesis]]) -> list[list[int]]:
    """Return the tokens of each row's best hypothesis."""
    return [row[0].tokens for row in results]
