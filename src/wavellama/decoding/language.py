"""Which language is spoken: heard by the model's language head, or else found by its texts.

Without a head, one text is scored under each candidate language over one shared prompt. What the
syntax puts before the language (the audio) is read once per row. The candidates go on from there,
each with its language and the same text; by Bayes' rule with equal priors, the probabilities of
the text under the languages are, up to a factor, those of the languages.

Shapes: K candidates, T positions after the shared prompt, S shared positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, final

import torch
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.nn import BatchLayout
from fairseq2.utils.validation import StandardObjectValidator
from torch import Tensor

from wavellama.batch import AsrBatch
from wavellama.decoding.engine_view import find_engine
from wavellama.decoding.generate import best_tokens
from wavellama.decoding.prompt_search import search_prompts
from wavellama.engine import EngineContinuations, WeightForm
from wavellama.errors import NAN_FOUND, BatchError, ConfigError, ContextTooLongError, DecodingError
from wavellama.model.inputs import cut, in_groups, pad
from wavellama.model.language_head import LanguageHead
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.modules import eval_mode
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.prompt.layout import NO_LABEL
from wavellama.prompt.parts import Audio, Language, Part, flatten, num_fixed
from wavellama.prompt.syntax import Syntax

MAX_POSITIONS: Final = 512
"""The most positions that are read in one call, those of several candidates together; a candidate
that has more is read alone."""

PILOT_TOKENS: Final = 8
"""The tokens of the text that candidates are compared by before some of them are dropped."""

PRUNE_MARGIN: Final = 10.0
"""How far behind the best one a candidate's log-likelihood may be after the first tokens (in nats:
22,000 times less likely)."""


@dataclass(frozen=True)
class LanguageScores:
    """How well each candidate language explains one row, at least one of them."""

    log_likelihoods: Mapping[str, float]
    """Language code -> log-probability of the text and its end, given audio and language; best
    first, without the candidates that were dropped."""

    @property
    def probabilities(self) -> dict[str, float]:
        """Language code -> probability, best first, if all candidates are as likely beforehand.

        Dropped candidates count as impossible.
        """
        best = max(self.log_likelihoods.values())
        odds = {code: math.exp(score - best) for code, score in self.log_likelihoods.items()}
        total = sum(odds.values())
        return {code: share / total for code, share in odds.items()}

    @property
    def best(self) -> str:
        """The code of the likeliest language."""
        return next(iter(self.log_likelihoods))

    def __add__(self, other: LanguageScores) -> LanguageScores:
        """Return how well each language explains two rows in which the same one is spoken."""
        theirs = other.log_likelihoods
        return _rank({code: score + theirs[code] for code, score in self.log_likelihoods.items()})


@torch.no_grad()
def detect_languages(
    model: Wav2Vec2LlamaModel,
    batch: Seq2SeqBatch | AsrBatch,
    candidates: Sequence[str] | None = None,
    *,
    texts: Sequence[Sequence[int]] | None = None,
    config: Wav2Vec2LlamaBeamSearchConfig | None = None,
    margin: float | None = PRUNE_MARGIN,
) -> list[LanguageScores]:
    """Return how well the candidate languages explain each row.

    A row's result does not depend on the other rows, nor on the order of the candidates. Languages
    and targets in ``batch`` are not looked at; the model is left in the mode that it was in.

    :param candidates: language codes, in any form that the model's table understands; None takes
        all languages of the model.
    :param texts: the token ids of each row's text; None asks the language head or, without one,
        takes what the model writes without being told a language.
    :param config: how to search where there are no texts (None: greedily), and how the decoder's
        weights are held.
    :param margin: where the candidates are too many for one call (``MAX_POSITIONS``), those whose
        log-likelihood of the first ``PILOT_TOKENS`` tokens is further behind the best one than
        this are dropped; None drops none.
    :raises ConfigError: the model takes no language, or reads it before the audio (streaming);
        there are no candidates; ``config.weights`` are not possible with this model or device.
    :raises UnknownLanguageError: a code is not in the model's table; the error names near ones.
    :raises BatchError: there is not one text per row, or it has a token outside the vocabulary.
    :raises ContextTooLongError: audio and text together are longer than the decoder reads.
    :raises DecodingError: the decoder produced NaN.
    """
    before, behind = split_at_language(model.syntax)  # raises before anything is computed
    codes = _own_codes(model, candidates)
    if isinstance(batch, Seq2SeqBatch):
        batch = model.read_batch(batch)
    if model.language_head is not None and texts is None:
        return _hear(model, model.language_head, batch, codes)
    config = config or Wav2Vec2LlamaBeamSearchConfig(nbest=1)
    StandardObjectValidator().validate(config)
    if texts is not None:
        _check_texts(texts, batch.num_rows, model.target_vocab_info.size)
    with eval_mode(model):
        prompt = model.embed_prompt(replace(batch, langs=None))
        if texts is None:
            texts = best_tokens(search_prompts(model, prompt, config))
        num_more = num_fixed(model.syntax.prompt[len(before) :])
        shared = cut(prompt.seqs, [length - num_more for length in prompt.layout.seq_lens])
        scorers = (_RowScorer(model, behind, seqs, config.weights) for seqs in shared)
        return [
            scorer.compare(codes, text, margin) for scorer, text in zip(scorers, texts, strict=True)
        ]


def split_at_language(syntax: Syntax) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Return the parts before the language, which candidates share, and those from it on.

    :raises ConfigError: there is no language in the syntax, or nothing before it.
    """
    if not syntax.needs_language:
        raise ConfigError(
            f"A model of the syntax {syntax.name} takes no language, so that it cannot tell which"
            " one is spoken; use one of the type LLM_ASR_LID."
        )
    place = next(i for i, part in enumerate(syntax.parts) if Language() in flatten((part,)))
    if Audio() not in syntax.parts[:place]:
        raise ConfigError(
            f"A model of the syntax {syntax.name} reads the language before the audio, so that"
            " candidates have nothing in common; detect the language with a model of the type"
            " LLM_ASR_LID that is not streaming."
        )
    return syntax.parts[:place], syntax.parts[place:]


@final
class ModuleContinuations:
    """Runs fairseq2's decoder modules, which read the prompt anew in each call."""

    def __init__(self, model: Wav2Vec2LlamaModel, prompt: Tensor) -> None:
        """:param prompt: the embedded prompt. *Shape:* (S, M)."""
        self._model, self._prompt = model, prompt

    def read(self, seqs: Tensor) -> Tensor:
        """Return the log-probabilities of the next token after each position. (K, T, V).

        :param seqs: embedded continuations, of one length. *Shape:* (K, T, M).
        """
        whole = torch.cat([self._prompt.expand(len(seqs), -1, -1), seqs], dim=1)
        hidden = self._model.llama_decoder(whole, BatchLayout.of(whole))
        logits = self._model.final_proj(hidden[:, len(self._prompt) :])
        dtype = torch.promote_types(logits.dtype, torch.float32)
        return torch.log_softmax(logits, dim=-1, dtype=dtype)


def create_continuations(
    model: Wav2Vec2LlamaModel, prompt: Tensor, form: WeightForm = "native"
) -> EngineContinuations | ModuleContinuations:
    """Return the fastest way there is to go on from a prompt.

    :param model: the model, in eval mode.
    :param prompt: the embedded prompt. *Shape:* (S, M).
    :raises ConfigError: the form is not possible with this model or device.
    """
    engine = find_engine(model, form)
    if engine is not None:
        return EngineContinuations(engine, prompt)
    return ModuleContinuations(model, prompt)


@final
class _RowScorer:
    """Scores texts of one row under languages."""

    def __init__(
        self,
        model: Wav2Vec2LlamaModel,
        parts: Sequence[Part],
        prompt: Tensor,
        form: WeightForm,
    ) -> None:
        """
        :param parts: what follows the shared prompt.
        :param prompt: the shared prompt. *Shape:* (S, M).
        """
        self._model, self._parts, self._prompt = model, parts, prompt
        self._continuations = create_continuations(model, prompt, form)

    def compare(
        self, codes: Sequence[str], text: Sequence[int], margin: float | None
    ) -> LanguageScores:
        """Score a text under all languages, but those dropped after its first tokens."""
        if margin is not None and len(codes) > self._num_per_call(len(text)):
            first = self._score(codes, text, PILOT_TOKENS)
            least = max(first.values()) - margin
            codes = [code for code in codes if first[code] >= least]
        return _rank(self._score(codes, text))

    def _score(
        self, codes: Sequence[str], text: Sequence[int], max_tokens: int | None = None
    ) -> dict[str, float]:
        """Return the log-likelihood of a text, or of its first tokens, under each language."""
        size = self._num_per_call(len(text[:max_tokens]))
        blocks = [codes[i : i + size] for i in range(0, len(codes), size)]
        scores = [self._read(block, text, max_tokens) for block in blocks]
        return dict(zip(codes, torch.cat(scores).tolist(), strict=True))

    def _num_per_call(self, num_tokens: int) -> int:
        return max(1, MAX_POSITIONS // (num_tokens + len(self._parts)))

    def _read(self, codes: Sequence[str], text: Sequence[int], max_tokens: int | None) -> Tensor:
        """Return the log-likelihoods of one block. (K)."""
        seqs, labels = self._embed(codes, text)
        covered = (labels != NO_LABEL).nonzero()[:max_tokens, 0]
        end = int(covered[-1]) + 1
        if len(self._prompt) + end > self._model.max_generation_length:
            length = len(self._prompt) + end
            raise ContextTooLongError(length, self._model.max_generation_length)
        log_probs = self._continuations.read(seqs[:, :end])  # (K, T, V)
        scores = log_probs[:, covered, labels[covered]].double().sum(1)
        if bool(scores.isnan().any()):
            raise DecodingError(NAN_FOUND)
        return scores

    def _embed(self, codes: Sequence[str], text: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return what follows the shared prompt (K, T, M), and the labels that all share (T)."""
        num_rows = len(codes)
        no_audio = self._prompt.new_zeros(num_rows, 0)
        batch = AsrBatch(no_audio, [0] * num_rows, [list(text)] * num_rows, list(codes))
        prompt = self._model.embed_prompt(batch, self._parts)
        return prompt.seqs, prompt.layout.labels[0].to(prompt.seqs.device)


def _hear(
    model: Wav2Vec2LlamaModel, head: LanguageHead, batch: AsrBatch, codes: Sequence[str]
) -> list[LanguageScores]:
    """Return how the language head compares the candidates, from the audio alone."""

    def hear(clips: Sequence[Tensor]) -> list[Tensor]:
        return list(head.hear(model.encoder_frontend, model.encoder, *pad(clips)))

    places = [model.lang_mapping[code] - 1 for code in codes]
    with eval_mode(model):
        logits = torch.stack(in_groups(hear, cut(batch.audio, batch.audio_lens)))
    scores = torch.log_softmax(logits.double()[:, places], dim=1)
    if bool(scores.isnan().any()):
        raise DecodingError(NAN_FOUND)
    return [_rank(dict(zip(codes, row, strict=True))) for row in scores.tolist()]


def _rank(scores: Mapping[str, float]) -> LanguageScores:
    return LanguageScores(dict(sorted(scores.items(), key=lambda item: (-item[1], item[0]))))


def _own_codes(model: Wav2Vec2LlamaModel, candidates: Sequence[str] | None) -> list[str]:
    table = model.lang_mapping
    codes = list(table) if candidates is None else [table.resolve(code) for code in candidates]
    if not codes:
        raise ConfigError("There are no candidate languages; name at least one.")
    return list(dict.fromkeys(codes))


def _check_texts(texts: Sequence[Sequence[int]], num_rows: int, vocab_size: int) -> None:
    if len(texts) != num_rows:
        raise BatchError(f"`texts` has {len(texts)} entries, but the batch has {num_rows} rows.")
    for i, text in enumerate(texts):
        if not all(0 <= token < vocab_size for token in text):
            raise BatchError(
                f"The text of row {i} has a token outside the vocabulary of {vocab_size}."
            )
