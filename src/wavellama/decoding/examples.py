"""Context examples that many clips share: encoded, embedded and read by the decoder once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wavellama.batch import AsrBatch, Example
from wavellama.errors import BatchError
from wavellama.model.eval_mode import eval_mode
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.outputs import EmbeddedPrompt, SharedPrefix
from wavellama.prompt.assemble import Item, PromptRow
from wavellama.prompt.parts import Audio, Items, Part


@torch.no_grad()
def read_examples(model: Wav2Vec2LlamaModel, examples: Sequence[Example]) -> SharedPrefix:
    """Return what a zero-shot model reads of its examples, for ``generate(..., prefix=...)``.

    :param model: a model that reads examples.
    :param examples: as many as the model reads.
    :raises BatchError: the model reads none, or another number of them.
    """
    before, _ = _split_prompt(model)
    if len(examples) != model.n_context_examples:
        raise BatchError(
            f"There are {len(examples)} context examples, but this model reads exactly"
            f" {model.n_context_examples} (`n_context_examples`)."
        )
    clips = [example.audio for example in examples if example.audio is not None]
    places = iter(range(len(clips)))
    items = [
        Item(-1 if example.audio is None else next(places), example.tokens) for example in examples
    ]
    with eval_mode(model):
        audio, audio_lens = _embed(model, clips)
        row = PromptRow(Item(), items={Items.EXAMPLES: items})
        return SharedPrefix(model.embed_rows([row], before, audio, audio_lens).seqs[0])


@final
class ExampleReader:
    """Reads the examples of one clip after another; the last ones are remembered."""

    def __init__(self, model: Wav2Vec2LlamaModel) -> None:
        self._model = model
        self._last: tuple[Sequence[Example], SharedPrefix] | None = None

    def read(self, examples: Sequence[Example]) -> SharedPrefix:
        """Return what a zero-shot model reads of its examples.

        :raises BatchError: the model reads none, or another number of them.
        """
        if self._last is None or self._last[0] is not examples:
            self._last = (examples, read_examples(self._model, examples))
        return self._last[1]


def embed_after(model: Wav2Vec2LlamaModel, batch: AsrBatch, prefix: SharedPrefix) -> EmbeddedPrompt:
    """Embed what stands in the prompts behind the examples.

    :param model: a model in eval mode.
    """
    _, behind = _split_prompt(model)
    frames, frame_lens = model.encode_clips(batch.audio, batch.audio_lens)
    audio, audio_lens = model.project_frames(frames, frame_lens)
    rows = [PromptRow(Item(clip)) for clip in range(batch.num_rows)]
    prompt = model.embed_rows(rows, behind, audio, audio_lens)
    own = [row[:length] for row, length in zip(frames, frame_lens, strict=True)]
    return prompt._replace(frames=own, prefix=prefix)


def _split_prompt(model: Wav2Vec2LlamaModel) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Return the parts of the prompt before the utterance's audio, and those from it on."""
    if not model.syntax.needs_examples:
        raise BatchError("This model reads no examples.")
    prompt = tuple(model.syntax.prompt)
    place = prompt.index(Audio())
    return prompt[:place], prompt[place:]


def _embed(model: Wav2Vec2LlamaModel, clips: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """Return the embedded audio of the examples, if they have any. (C, T', M)."""
    weight = model.encoder_proj.weight
    if not clips:
        return torch.zeros(1, 0, model.model_dim, dtype=weight.dtype, device=weight.device), [0]
    seqs = pad_sequence(list(clips), batch_first=True).to(weight.device)
    frames, frame_lens = model.encode_clips(seqs, [len(clip) for clip in clips])
    return model.project_frames(frames, frame_lens)
