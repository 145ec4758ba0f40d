"""The decoder as the search sees it: through the engine, or through the model's modules.

The modules are the slow way, for decoders that the engine does not know, and the one that tests
compare with. There each row has a key/value cache of its own, so that rows of different lengths
never meet in one attention and a row's result cannot depend on its neighbours.

Shapes: N rows, B hypotheses of all rows, S decoder positions, M decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from fairseq2.nn import BatchLayout, IncrementalStateBag
from torch import Tensor

from wavellama.decoding.engine_view import find_engine
from wavellama.engine import Engine, EngineStepDecoder, EngineVerifier, Prefix, WeightForm
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.outputs import SharedPrefix
from wavellama.search.types import StepDecoder, Verifier


def create_step_decoder(
    model: Wav2Vec2LlamaModel,
    contexts: Sequence[Tensor],
    form: WeightForm = "native",
    prefix: SharedPrefix | None = None,
) -> StepDecoder:
    """Return the fastest decoder there is for the model.

    :param model: the model, in eval mode.
    :param contexts: each row's embedded prompt. *Shape of each:* (S, M).
    :param form: how the engine holds the decoder's weights.
    :param prefix: what stands before each of the prompts.
    :raises ConfigError: the form is not possible with this model or device.
    """
    engine = find_engine(model, form)
    if engine is not None:
        return EngineStepDecoder(engine, contexts, _read_prefix(engine, prefix))
    if prefix is not None:
        contexts = [torch.cat([prefix.seqs, context]) for context in contexts]
    return ModuleStepDecoder(model, contexts)


def create_verifier(
    model: Wav2Vec2LlamaModel,
    contexts: Sequence[Tensor],
    form: WeightForm = "native",
    prefix: SharedPrefix | None = None,
) -> Verifier | None:
    """Return what reads drafts with the model, or None if it has to be run by its modules.

    Parameters and errors are those of ``create_step_decoder``.
    """
    engine = find_engine(model, form)
    if engine is None:
        return None
    return EngineVerifier(engine, contexts, _read_prefix(engine, prefix))


def _read_prefix(engine: Engine, prefix: SharedPrefix | None) -> Prefix | None:
    """Return what the engine has read of the prefix, once for all batches."""
    return None if prefix is None else prefix.read_by(engine, engine.read_prefix)


@dataclass
class _RowCache:
    """The cache of one row's hypotheses, which are adjacent in the list of all."""

    state_bag: IncrementalStateBag
    num_hypotheses: int = 1


@final
class ModuleStepDecoder:
    """Runs fairseq2's decoder modules, one row at a time (a ``search.StepDecoder``)."""

    def __init__(self, model: Wav2Vec2LlamaModel, contexts: Sequence[Tensor]) -> None:
        """Begin; see ``create_step_decoder``."""
        self._model, self._contexts = model, contexts
        # One more than the longest sequence: fairseq2 counts the next step before it is taken.
        max_num_steps = model.max_generation_length + 1
        self._rows = [_RowCache(IncrementalStateBag(max_num_steps)) for _ in contexts]

    def prefill(self) -> Tensor:
        """Read the prompts; return log-probabilities of each row's first token. (N, V)."""
        pairs = zip(self._rows, self._contexts, strict=True)
        return torch.cat([self._advance(row, context[None]) for row, context in pairs])

    def reorder(self, parents: list[int]) -> None:
        """Replace the list: new hypothesis i continues the old hypothesis ``parents[i]``."""
        rows, begin = [], 0
        for row in self._rows:
            end = begin + row.num_hypotheses
            own = [parent - begin for parent in parents if begin <= parent < end]
            if own:
                if own != list(range(row.num_hypotheses)):
                    row.state_bag.reorder(torch.tensor(own, device=self._contexts[0].device))
                rows.append(_RowCache(row.state_bag, len(own)))
            begin = end
        self._rows = rows

    def step(self, tokens: list[int]) -> Tensor:
        """Append one token to each hypothesis; return the next log-probabilities. (B, V)."""
        device, dtype = self._contexts[0].device, self._contexts[0].dtype
        ids = torch.tensor(tokens, device=device)[:, None]
        seqs = self._model.embed_text(ids, dtype)  # (B, 1, M)
        parts = torch.split(seqs, [row.num_hypotheses for row in self._rows])
        pairs = zip(self._rows, parts, strict=True)
        return torch.cat([self._advance(row, part) for row, part in pairs])

    def _advance(self, row: _RowCache, seqs: Tensor) -> Tensor:
        """Feed embeddings (B, S, M) to one row; return its next log-probabilities (B, V)."""
        hidden = self._model.llama_decoder(seqs, BatchLayout.of(seqs), state_bag=row.state_bag)
        row.state_bag.increment_step_nr(seqs.size(1))
        logits = self._model.final_proj(hidden[:, -1])
        return torch.log_softmax(
            logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32)
        )
