"""The Llama decoder over a shared cache: all prompts at once, then step by step.

Rows of a batch never meet: products treat every vector by itself, and attention sees a row's own
cache only.

Shapes: N rows, K hypotheses per row, B vectors, S positions of all prompts together, H query heads,
G key/value heads, D width of a head, C places, M decoder width, I inner width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from itertools import accumulate
from typing import Final, NamedTuple, ParamSpec, TypeVar, final

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

from wavellama.engine.cache import KeyValueCache
from wavellama.engine.linear import WeightForm, choose_prompt_form, create_linear
from wavellama.engine.weights import DecoderWeights, LayerWeights

_P = ParamSpec("_P")
_R = TypeVar("_R")


_IN_BLOCKS: Final = {"cpu"}
"""Devices on which attention within prompts is as in steps; on a CPU that is 1.7 times (float32) or
3.5 times (bfloat16) as fast as torch's own for heads of the published width."""

_BLOCK: Final = 128
"""Positions of a prompt that attend at a time: few, as they see nothing behind the last of them."""


def _without_autocast(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run in the weights' own type, also within mixed-precision training."""

    @wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        # A context of its own for each call: it remembers what to restore, in the calling thread.
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*args, **kwargs)

    return run


class Prefix(NamedTuple):
    """What many prompts begin with, read."""

    cache: KeyValueCache
    """Of one row."""

    length: int
    """The number of positions."""


class Reading(NamedTuple):
    """What is read in a step, and into which cache."""

    cache: KeyValueCache

    read: Tensor
    """Tokens (N, K), or embedded positions (N, K, M)."""

    positions: Tensor
    """In their sequences, from 0. *Shape:* (N, K)."""

    places: Tensor
    """Unused places of the cache. *Shape:* (N, K)."""


@final
class _Layer:
    """One layer with fused products."""

    def __init__(self, weights: LayerWeights, form: WeightForm | None) -> None:
        self.attention_norm = weights.attention_norm.detach()
        self.qkv = create_linear((weights.query, weights.key, weights.value), form)
        self.attention_output = create_linear((weights.attention_output,), form)
        self.ffn_norm = weights.ffn_norm.detach()
        self.gate_up = create_linear((weights.gate, weights.up), form)
        self.down = create_linear((weights.down,), form)


@final
class Engine:
    """A decoder's weights, ready to run."""

    def __init__(self, weights: DecoderWeights, form: WeightForm = "native") -> None:
        """
        :param form: how the weights that a step reads are held; embeddings and norms stay, and
            prompts are read in the form that is the fastest for them.
        :raises ValueError: the form is not possible on the weights' device.
        """
        self._layers = self._prompt_layers = [_Layer(layer, form) for layer in weights.layers]
        prompt_form = choose_prompt_form(form, weights.output.dtype)
        if prompt_form != form:
            self._prompt_layers = [_Layer(layer, prompt_form) for layer in weights.layers]
        self._output = create_linear((weights.output,), form)
        self._embeddings = weights.embeddings.detach()
        self._norm = weights.norm.detach()
        self._eps = weights.norm_eps
        self._rotations = torch.view_as_complex(weights.rotations.detach().contiguous())
        self._num_heads = weights.num_heads
        self._num_kv_heads = weights.num_key_value_heads
        self._head_dim = 2 * weights.rotations.size(1)

    @torch.no_grad()
    @_without_autocast
    def prefill(
        self, prompts: Sequence[Tensor], prefix: Prefix | None = None
    ) -> tuple[KeyValueCache, Tensor]:
        """Read all prompts in one pass, each once.

        :param prompts: embedded prompts, of any lengths from 1 on. *Shape of each:* (S_n, M).
        :param prefix: what stands before each of them, which was read before (``read_prefix``).
        :returns: the cache, in which each row has one hypothesis, and the log-probabilities of
            each row's first token. *Shape:* (N, V).
        """
        prompts = [prompt.to(self._embeddings.dtype) for prompt in prompts]
        num_layers = len(self._layers)
        offset = prefix.length if prefix is not None else 0
        sizes = (num_layers, self._num_kv_heads, self._head_dim)
        cache = KeyValueCache.allocate(*sizes, prompts, offset)
        if prefix is not None:
            cache.copy_prefix(prefix.cache, offset)
        ends = list(accumulate(len(prompt) for prompt in prompts))
        spans = [slice(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]
        last = [end - 1 for end in ends]
        steps = [torch.arange(len(prompt), device=prompt.device) + offset for prompt in prompts]
        angles = self._rotations[torch.cat(steps)]  # (S, D / 2)
        seqs = torch.cat(prompts)  # (S, M)
        for i, layer in enumerate(self._prompt_layers):
            query, key, value = self._project(layer, seqs, angles)
            attended = [
                self._attend_prompt(
                    (cache.keys[i][row], cache.values[i][row]),
                    [part[span] for part in (query, key, value)],
                    offset,
                )
                for row, span in enumerate(spans)
            ]
            packed = torch.cat(attended)
            if i + 1 == num_layers:  # behind the last attention only the last positions matter
                seqs, packed = seqs[last], packed[last]
            seqs = self._finish_layer(layer, seqs, packed)
        return cache, self._score(seqs)

    def read_prefix(self, seqs: Tensor) -> Prefix:
        """Read what many prompts begin with, once for all of them. *Shape:* (S, M)."""
        cache, _ = self.prefill([seqs])
        return Prefix(cache, len(seqs))

    def extend(
        self, cache: KeyValueCache, tokens: Tensor, positions: Tensor, places: Tensor
    ) -> Tensor:
        """Read one token of each hypothesis; return the log-probabilities of the next. (N, K, V).

        Keys and values go to ``places``; what a hypothesis sees, its own token included, is said
        by ``cache.visible``. A row of several tokens of one hypothesis is read in the same way:
        each sees the ones before it.

        :param tokens: *Shape:* (N, K).
        :param positions: of the tokens in their sequences, from 0. *Shape:* (N, K).
        :param places: unused places of the cache. *Shape:* (N, K).
        """
        (log_probs,) = self.extend_all([Reading(cache, tokens, positions, places)])
        return log_probs

    def extend_embedded(
        self, cache: KeyValueCache, seqs: Tensor, positions: Tensor, places: Tensor
    ) -> Tensor:
        """Read what is no token, too, such as a language, as prompts are read; all else is as in
        ``extend``.

        :param seqs: embedded positions. *Shape:* (N, K, M).
        """
        reading = Reading(cache, seqs, positions, places)
        (log_probs,) = self._extend([reading], self._prompt_layers)
        return log_probs

    def extend_all(self, readings: Sequence[Reading]) -> list[Tensor]:
        """Do what ``extend`` does in several caches, and read the weights once for all of them."""
        embedded = [one._replace(read=self._embeddings[one.read]) for one in readings]
        return self._extend(embedded, self._layers)

    @torch.no_grad()
    @_without_autocast
    def _extend(self, readings: Sequence[Reading], layers: Sequence[_Layer]) -> list[Tensor]:
        """Read embedded positions into caches."""
        sizes = [one.positions.numel() for one in readings]
        angles = self._rotations[_join([one.positions.flatten() for one in readings])]
        seqs = _join([one.read.flatten(0, 1) for one in readings])  # (B, M)
        seqs = seqs.to(self._embeddings.dtype)
        biases = [self._create_bias(one.cache) for one in readings]
        for i, layer in enumerate(layers):
            parts = [_split(part, sizes) for part in self._project(layer, seqs, angles)]
            given = zip(readings, zip(*parts, strict=True), biases, strict=True)
            attended = [self._attend_step(one, i, own, bias) for one, own, bias in given]
            seqs = self._finish_layer(layer, seqs, _join(attended))
        pairs = zip(readings, _split(self._score(seqs), sizes), strict=True)
        return [own.view(*one.positions.shape, -1) for one, own in pairs]

    def _attend_step(
        self, reading: Reading, layer: int, parts: Sequence[Tensor], bias: Tensor
    ) -> Tensor:
        """Store the keys and values of a step; return what its positions attend to. (N K, H D)."""
        shape = reading.positions.shape
        query, key, value = (part.view(*shape, -1, self._head_dim) for part in parts)
        reading.cache.write(layer, reading.places, key, value)
        keys, values = reading.cache.keys[layer], reading.cache.values[layer]
        return self._attend(keys, values, query, bias).flatten(0, 1)

    def _project(self, layer: _Layer, seqs: Tensor, angles: Tensor) -> tuple[Tensor, ...]:
        """Return rotated queries (B, H, D), rotated keys and values (B, G, D)."""
        fused = layer.qkv(rms_norm(seqs, seqs.shape[-1:], layer.attention_norm, self._eps))
        heads = fused.view(len(fused), -1, self._head_dim)  # (B, H + 2 G, D)
        rotated = self._rotate(heads[:, : -self._num_kv_heads], angles)
        query, key = rotated[:, : self._num_heads], rotated[:, self._num_heads :]
        return query, key, heads[:, -self._num_kv_heads :]

    def _rotate(self, heads: Tensor, angles: Tensor) -> Tensor:
        """Turn adjacent pairs of values by the angles of their position. (B, H, D)."""
        wide = heads.to(torch.promote_types(heads.dtype, torch.float32))
        pairs = torch.view_as_complex(wide.reshape(*heads.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * angles[:, None]).flatten(-2).to(heads.dtype)

    def _attend_prompt(
        self, cached: tuple[Tensor, Tensor], parts: Sequence[Tensor], offset: int
    ) -> Tensor:
        """Store one prompt's keys and values; return what its positions attend to. (S_n, H D).

        :param cached: the row's keys and values, of which the first ``offset`` are there already.
            *Shape of each:* (G, C, D).
        """
        query, *new = parts
        end = offset + len(query)
        for cache, part in zip(cached, new, strict=True):
            cache[:, offset:end] = part.transpose(0, 1)
        keys, values = (cache[None, :, :end] for cache in cached)
        if query.device.type in _IN_BLOCKS:
            return self._attend_in_blocks(keys, values, query, offset)
        mask = None
        if offset > 0:
            mask = torch.ones(len(query), end, dtype=torch.bool, device=query.device)
            mask = mask.tril(offset)
        attended = scaled_dot_product_attention(
            query.transpose(0, 1)[None],
            *(keys, values, mask),
            is_causal=mask is None,
            enable_gqa=True,
        )
        return attended[0].transpose(0, 1).flatten(1)

    def _attend_in_blocks(self, keys: Tensor, values: Tensor, query: Tensor, offset: int) -> Tensor:
        r"""Do what a step does, for some positions of a prompt at a time. (S_n, H D).

        :param keys: *Shape, as that of* ``values``\ *:* (1, G, C, D).
        :param query: *Shape:* (S_n, H, D).
        """
        dtype = torch.promote_types(query.dtype, torch.float32)
        attended, end = [], offset
        for block in torch.split(query, _BLOCK):
            begin, end = end, end + len(block)
            bias = torch.full((len(block), end), -math.inf, dtype=dtype, device=query.device)
            bias = bias.triu(begin + 1)[:, None]  # (K, 1, C)
            attended.append(self._attend(keys[:, :, :end], values[:, :, :end], block[None], bias))
        return torch.cat(attended, 1)[0]

    def _create_bias(self, cache: KeyValueCache) -> Tensor:
        """Return what to add to the scores of attention. (N, 1, K, 1, C)."""
        dtype = torch.promote_types(self._embeddings.dtype, torch.float32)
        visible = cache.visible[:, None, :, None]
        return torch.zeros((), dtype=dtype, device=visible.device).where(visible, -math.inf)

    def _attend(self, keys: Tensor, values: Tensor, query: Tensor, bias: Tensor) -> Tensor:
        r"""Attend to a row's cache with the queries of all its hypotheses at once.

        :param keys: *Shape, as that of* ``values``\ *:* (N, G, C, D).
        :param query: *Shape:* (N, K, H, D).
        :param bias: *Shape:* (N, 1, K, 1, C), or what can be broadcast to it.
        :returns: *Shape:* (N, K, H D).
        """
        num_rows, num_hyps, _, head_dim = query.shape
        grouped = query.view(num_rows, num_hyps, self._num_kv_heads, -1, head_dim)
        queries = grouped.transpose(1, 2)  # (N, G, K, H / G, D)
        keys, values = keys.flatten(0, 1), values.flatten(0, 1)
        scaled = (queries * head_dim**-0.5).reshape(len(keys), -1, head_dim)  # (N G, K H / G, D)
        scores = torch.bmm(scaled, keys.transpose(1, 2)).view(*queries.shape[:4], -1)
        shares = (scores.to(bias.dtype) + bias).softmax(-1).to(query.dtype)
        attended = torch.bmm(shares.view(*scaled.shape[:2], -1), values)
        return attended.view(queries.shape).transpose(1, 2).flatten(2)

    def _finish_layer(self, layer: _Layer, seqs: Tensor, attended: Tensor) -> Tensor:
        """Add what was attended to and the feed-forward network's output. (B, M)."""
        seqs = seqs + layer.attention_output(attended)
        inner = layer.gate_up(rms_norm(seqs, seqs.shape[-1:], layer.ffn_norm, self._eps))
        gate, up = inner.chunk(2, -1)
        return seqs + layer.down(silu(gate) * up)

    def _score(self, seqs: Tensor) -> Tensor:
        """Return log-probabilities, at least in float32. (B, M) -> (B, V)."""
        logits = self._output(rms_norm(seqs, seqs.shape[-1:], self._norm, self._eps))
        dtype = torch.promote_types(logits.dtype, torch.float32)
        return torch.log_softmax(logits, dim=-1, dtype=dtype)


def _join(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _split(joined: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    return [joined] if len(sizes) == 1 else torch.split(joined, list(sizes))
