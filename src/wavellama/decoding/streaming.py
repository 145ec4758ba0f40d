"""Streaming: audio of any length, segment after segment, with the last ones as context.

Shapes: T samples.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import ceil
from typing import Final, Literal, final

import torch
from torch import Tensor

from wavellama.audio.causal import CausalNormalizer
from wavellama.batch import AsrBatch
from wavellama.decoding.biasing import NO_BIAS, Bias
from wavellama.decoding.prompt_search import search_prompts
from wavellama.errors import AudioError, ConfigError
from wavellama.model.frames import frame_grid, room_for_prompt
from wavellama.model.inputs import PastSegment, Place, pad
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.modules import eval_mode
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.prompt.parts import Items, find_repeat, num_fixed
from wavellama.search.constraints import Constraint
from wavellama.search.types import Hypothesis
from wavellama.units import MIN_SAMPLES

Normalization = Literal["causal", "clip"]

NORMALIZATIONS: Final = ("causal", "clip")


@dataclass
class StreamState:
    """One stream of audio, between two calls; its size does not grow with the audio."""

    lang: str | None
    """The code of the language, if it is known."""

    past: deque[PastSegment]
    """The segments that the context holds."""

    normalize: Callable[[Tensor], Tensor] = field(default=lambda segment: segment)
    """From the next segment's samples to what the encoder reads."""

    waiting: Tensor = field(default_factory=lambda: torch.zeros(0))
    """Samples that do not make a segment yet. *Shape:* (T)."""

    num_segments: int = 0
    """The segments that were decoded."""

    def forget_text(self) -> None:
        """Let the last segment have no text: nobody spoke."""
        if self.past:
            self.past.append(self.past.pop()._replace(tokens=[]))


@final
class StreamDecoder:
    """Decodes streams with a streaming model; all that it remembers is in the ``StreamState``."""

    def __init__(
        self,
        model: Wav2Vec2LlamaModel,
        config: Wav2Vec2LlamaBeamSearchConfig | None = None,
        *,
        normalization: Normalization = "causal",
        constraints: Sequence[Constraint] = (),
        bias: Bias = NO_BIAS,
    ) -> None:
        """
        :param config: how to search; None takes the model's own ``beam_search_config``.
        :param constraints: which tokens may follow in the text of each segment.
        :param bias: hotwords, a language model and a script for the text of each segment.
        :param normalization: ``causal`` normalises each segment by the audio up to its end;
            ``clip`` takes samples that were normalised over the whole clip before.
        :raises ConfigError: the model is not a streaming one.
        """
        if not model.syntax.is_streaming:
            raise ConfigError(
                "This model reads whole utterances; streaming needs a model with"
                " `streaming_config.is_streaming`."
            )
        if normalization not in NORMALIZATIONS:
            raise ConfigError(f"`normalization` must be causal or clip, but is {normalization!r}.")
        self._model, self._config = model, config or model.beam_search_config
        self._normalization, self._bias = normalization, bias.constrained(constraints)

    def start(self, lang: str | None = None) -> StreamState:
        """Begin a stream.

        :raises UnknownLanguageError: the language's code is not in the model's table.
        """
        return start_stream(
            self._model, lang, CausalNormalizer() if self._normalization == "causal" else None
        )

    def feed(self, state: StreamState, samples: Tensor) -> list[list[Hypothesis]]:
        """Take samples in; return the hypotheses of each segment that they complete, best first.

        A segment is decoded once enough audio has come after it to make another one.

        :param samples: mono audio at the model's rate, any number of samples. *Shape:* (T).
        """
        cutter = self._model.streaming_config.cutter
        state.waiting = torch.cat([state.waiting, samples.to(state.waiting)])
        results = []
        while cutter.is_complete(len(state.waiting)):
            segment = state.waiting[: cutter.segment_len]
            results.append(self._decode(state, segment, is_last=False))
            state.waiting = state.waiting[cutter.segment_len :].clone()
        return results

    def finish(self, state: StreamState) -> list[Hypothesis]:
        """End a stream; return the hypotheses of its last segment, best first.

        :raises AudioError: less audio than the encoder needs was fed.
        """
        if len(state.waiting) < MIN_SAMPLES:
            raise AudioError("the stream", f"only {len(state.waiting)} samples were fed.")
        length = self._model.streaming_config.cutter.last_len(len(state.waiting))
        hypotheses = self._decode(state, state.waiting[:length], is_last=True)
        state.waiting = state.waiting[:0]
        return hypotheses

    def _decode(self, state: StreamState, segment: Tensor, is_last: bool) -> list[Hypothesis]:
        clip = state.normalize(segment)
        with eval_mode(self._model):
            (hypotheses,) = decode_segments(
                self._model, [state], [clip], [is_last], self._config, self._bias
            )
        return hypotheses


def start_stream(
    model: Wav2Vec2LlamaModel, lang: str | None, normalize: Callable[[Tensor], Tensor] | None = None
) -> StreamState:
    """Begin a stream.

    :param normalize: from a segment's samples to what the encoder reads; None: they are read as
        they are.
    :raises UnknownLanguageError: the language's code is not in the model's table.
    """
    model.lang_mapping.row(lang)
    state = StreamState(lang, deque(maxlen=model.streaming_config.n_context_segments))
    state.normalize = normalize or state.normalize
    return state


@torch.no_grad()
def decode_segments(
    model: Wav2Vec2LlamaModel,
    states: Sequence[StreamState],
    clips: Sequence[Tensor],
    are_last: Sequence[bool],
    config: Wav2Vec2LlamaBeamSearchConfig,
    bias: Bias = NO_BIAS,
) -> list[list[Hypothesis]]:
    """Decode the next segment of each stream, and move the streams on.

    :param model: a model in eval mode.
    :param clips: the segments' audio, normalised. *Shape of each:* (T).
    :param are_last: whether the audio ends with the segment.
    :param bias: what steers the search in each segment.
    :returns: the hypotheses of each segment, best first.
    """
    audio, lens = pad(clips)
    langs = [state.lang for state in states]
    batch = AsrBatch(audio.to(model.encoder_proj.weight.device), lens, [], langs)
    pasts = [_fitting(model, state.past, n) for state, n in zip(states, lens, strict=True)]
    prompt = model.embed_prompt(batch, places=list(map(Place, pasts, are_last)))
    results = search_prompts(model, prompt, config, bias=bias)
    for i, (state, past) in enumerate(zip(states, pasts, strict=True)):
        if len(past) < len(state.past):
            results[i] = [
                replace(one, stop_reason="context") if one.finished else one for one in results[i]
            ]
        state.past.append(PastSegment(prompt.audio[i], results[i][0].tokens))
        state.num_segments += 1
    return results


def _fitting(
    model: Wav2Vec2LlamaModel, past: Sequence[PastSegment], num_samples: int
) -> list[PastSegment]:
    """Return the last of the past segments that fit, if their successor is to have a text."""
    grid = frame_grid(model.encoder_frontend.feature_extractor)
    own_len = ceil(grid.num_frames(num_samples) / model.encoder_stacking)
    parts = model.syntax.prompt
    repeat = find_repeat(parts, Items.PAST)
    assert repeat is not None, "a streaming syntax"
    room = room_for_prompt(model.max_generation_length) - num_fixed(parts) - own_len
    sizes = [len(one.audio) + len(one.tokens) + num_fixed(repeat.parts) for one in reversed(past)]
    num_fitting = sum(end <= room for end in accumulate(sizes))
    return list(past)[len(past) - num_fitting :]


def transcribe_rows(
    model: Wav2Vec2LlamaModel,
    batch: AsrBatch,
    config: Wav2Vec2LlamaBeamSearchConfig,
    bias: Bias = NO_BIAS,
) -> list[Hypothesis]:
    """Decode whole clips, their first segments together, then their second ones, and so on.

    :param model: a streaming model in eval mode.
    :param batch: clips that were normalised as a whole.
    :param bias: what steers the search in each segment.
    :returns: the best hypotheses of each clip's segments, joined.
    """
    places = [model.streaming_config.cutter.places(length) for length in batch.audio_lens]
    langs = batch.langs or [None] * batch.num_rows
    states = [start_stream(model, lang) for lang in langs]
    best: list[list[Hypothesis]] = [[] for _ in places]
    for i in range(max(map(len, places))):
        rows = [row for row, segments in enumerate(places) if i < len(segments)]
        results = decode_segments(
            model,
            [states[row] for row in rows],
            [batch.audio[row, places[row][i]] for row in rows],
            [i + 1 == len(places[row]) for row in rows],
            config,
            bias,
        )
        for row, hypotheses in zip(rows, results, strict=True):
            best[row].append(hypotheses[0])
    return [join_hypotheses(row) for row in best]


def join_hypotheses(parts: Sequence[Hypothesis]) -> Hypothesis:
    """Return the hypotheses of successive segments as one; its score is the sum of theirs."""
    unfinished = [part.stop_reason for part in parts if not part.finished]
    reasons = [*unfinished, *(part.stop_reason for part in parts if part.stop_reason != "eos")]
    return Hypothesis(
        tokens=[token for part in parts for token in part.tokens],
        score=sum(part.score for part in parts),
        token_logprobs=[logprob for part in parts for logprob in part.token_logprobs],
        finished=not unfinished,
        stop_reason=reasons[0] if reasons else "eos",
    )
