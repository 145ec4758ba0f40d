"""When each token is spoken, from what the decoder looks at while it writes and reads it.

Shapes: S decoder positions, T' audio positions among them, U tokens, H heads, K head width.
"""

from __future__ import annotations

import heapq
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeAlias, final

import torch
from fairseq2.models.transformer import StandardMultiheadAttention
from fairseq2.nn import BatchLayout
from torch import Tensor
from torch.nn import Module
from torchaudio.functional import forced_align, merge_tokens

from wavellama.batch import AsrBatch
from wavellama.decoding.examples import embed_after
from wavellama.errors import BatchError, ContextTooLongError, DecodingError
from wavellama.model.frames import frame_grid
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.modules import eval_mode
from wavellama.model.outputs import EmbeddedPrompt, SharedPrefix
from wavellama.units import samples_to_seconds

NUM_HEADS: Final = 4
"""How many of all heads are listened to: those that follow the audio best in this very clip."""

PAUSE: Final = 2.0
"""A position belongs to no token if none looks at it more than this many times the average."""

_LEAST: Final = 1e-6
"""What attention counts at least, so that no path is impossible."""

Spans: TypeAlias = "list[tuple[float, float]]"
"""Begin and end of each token, in audio positions."""


@torch.no_grad()
def attention_times(
    model: Wav2Vec2LlamaModel,
    batch: AsrBatch,
    tokens: list[int],
    prefix: SharedPrefix | None = None,
) -> list[tuple[float, float]]:
    """Return when each token is spoken, in seconds from the beginning of the clip.

    No token begins before the one before it has ended, and all lie within the clip. A streaming
    model reads the clip as the only segment of its audio. The model stays as it was.

    :param batch: one clip, with what the model reads beside it.
    :param tokens: the tokens of its text, without BOS and EOS.
    :param prefix: context examples, made by ``decoding.examples.read_examples``; those of the batch
        are then not looked at.
    :raises BatchError: there are more clips than one, or a ZERO_SHOT model has no examples.
    :raises ContextTooLongError: prompt and tokens are too long for the decoder.
    :raises DecodingError: the decoder's attention is not a number.
    """
    if batch.num_rows != 1:
        raise BatchError(f"Times are found for one clip at a time, not for {batch.num_rows}.")
    if not tokens:
        return []
    with eval_mode(model):
        prompt = embed_after(model, batch, prefix) if prefix else model.embed_prompt(batch)
        path = find_path(follow(model, prompt, tokens).attention())
    grid = frame_grid(model.encoder_frontend.feature_extractor)
    duration = samples_to_seconds(batch.audio_lens[0])

    def seconds(position: float) -> float:
        return min(max(grid.seconds(position * model.encoder_stacking), 0.0), duration)

    return [(seconds(begin), seconds(end)) for begin, end in path.places]


def follow(model: Wav2Vec2LlamaModel, prompt: EmbeddedPrompt, tokens: list[int]) -> HeadChoice:
    """Let the decoder read the tokens, and choose the heads that follow the audio best."""
    ids = torch.tensor([tokens], device=prompt.seqs.device)
    parts = [prompt.seqs, model.embed_text(ids, prompt.seqs.dtype)]
    if prompt.prefix is not None:
        parts.insert(0, prompt.prefix.seqs[None])
    seqs = torch.cat(parts, dim=1)  # (1, S, M)
    if seqs.size(1) > model.max_generation_length:
        raise ContextTooLongError(seqs.size(1), model.max_generation_length)
    heads = HeadChoice(own_audio(prompt), len(tokens))
    with _watching(model.llama_decoder, heads):
        model.llama_decoder(seqs, BatchLayout.of(seqs))
    return heads


def own_audio(prompt: EmbeddedPrompt) -> Tensor:
    """Return the decoder positions of the clip: those that show the first clip of the pool. (T')"""
    return prompt.prefix_len + (prompt.layout.index[0] < len(prompt.audio[0])).nonzero()[:, 0]


class _Path(NamedTuple):
    """The likeliest way of tokens through the audio."""

    places: Spans
    score: float
    """Its log-probability."""


@final
class HeadChoice:
    """Keeps the attention of those heads whose best path through the audio is likeliest."""

    def __init__(self, audio: Tensor, num_tokens: int) -> None:
        """:param audio: the positions of the clip. *Shape:* (T').
        :param num_tokens: U; the tokens are the last positions.
        """
        self.audio, self._num_tokens = audio, num_tokens
        self._best: list[tuple[float, int, Tensor]] = []
        self._num_seen = 0

    def add(self, queries: Tensor, keys: Tensor) -> None:
        """Take in the queries and keys of a layer's heads. (1, S, H, K) each."""
        asking = queries[0, -self._num_tokens - 1 :].float()  # the first token is asked for before
        scores = torch.einsum("uhk,thk->hut", asking, keys[0, self.audio].float())
        looks = (scores / queries.size(-1) ** 0.5).softmax(-1).cpu()  # (H, U + 1, T')
        if bool(looks.isnan().any()):
            raise DecodingError("The decoder's attention is not a number, so no times are known.")
        # A token is asked for at the position before its own; there it is looked at again.
        for head in (looks[:, :-1] + looks[:, 1:]) / 2:
            self._num_seen += 1
            heapq.heappush(self._best, (find_path(head).score, self._num_seen, head))
            if len(self._best) > NUM_HEADS:
                heapq.heappop(self._best)

    def attention(self) -> Tensor:
        """Return the mean attention of the best heads. (U, T')."""
        return torch.stack([head for _, _, head in self._best]).mean(0)


@contextmanager
def _watching(decoder: Module, heads: HeadChoice) -> Iterator[None]:
    """Show queries and keys of each layer of the decoder to ``heads``."""

    def watch(_: Module, args: tuple[Any, ...]) -> None:
        heads.add(args[0], args[2])

    layers = [m for m in decoder.modules() if isinstance(m, StandardMultiheadAttention)]
    handles = [layer.sdpa.register_forward_pre_hook(watch) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def find_path(attention: Tensor) -> _Path:
    """Return the likeliest places of the tokens, one after another, with pauses between them.

    :param attention: how much each token looks at each position. *Shape:* (U, T').
    """
    num_tokens, num_positions = attention.shape
    parts = math.ceil(num_tokens / num_positions)  # so that there is room for every token
    pause = attention.new_full((1, num_positions), PAUSE / num_positions)
    log_probs = torch.cat([pause, attention]).clamp(min=_LEAST).log().T.repeat_interleave(parts, 0)
    with warnings.catch_warnings():  # of a removal that did not happen
        warnings.filterwarnings("ignore", ".*forced_align has been deprecated")
        path, scores = forced_align(log_probs[None], torch.arange(1, num_tokens + 1)[None])
    spans = merge_tokens(path[0], scores[0])
    return _Path([(s.start / parts, s.end / parts) for s in spans], float(scores.sum()) / parts)
