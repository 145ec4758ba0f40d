"""Context examples that many clips share: encoded, embedded and read by the decoder once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

from wavellama.batch import AsrBatch, Example
from wavellama.errors import BatchError
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.modules import eval_mode
from wavellama.model.outputs import EmbeddedPrompt, SharedPrefix
from wavellama.prompt.parts import Audio, Part


@torch.no_grad()
def read_examples(
    model: Wav2Vec2LlamaModel, examples: Sequence[Example], lang: str | None = None
) -> SharedPrefix:
    """Return what a model reads before the audio, for ``generate(..., prefix=...)``.

    :param model: a model that reads examples.
    :param examples: as many as the model reads.
    :param lang: the language, where the model reads one before the audio.
    :raises BatchError: the model reads none, or another number of them.
    :raises UnknownLanguageError: the language's code is not in the model's table.
    """
    before, _ = _split_prompt(model)
    no_audio = model.encoder_proj.weight.new_zeros(1, 0)
    batch = AsrBatch(no_audio, [0], [], [lang], [list(examples)])
    with eval_mode(model):
        return SharedPrefix(model.embed_prompt(batch, before).seqs[0])


@final
class ExampleReader:
    """Reads the examples of one clip after another; the last ones are remembered."""

    def __init__(self, model: Wav2Vec2LlamaModel) -> None:
        self._model = model
        self._last: tuple[Sequence[Example], str | None, SharedPrefix] | None = None

    def read(self, examples: Sequence[Example], lang: str | None = None) -> SharedPrefix:
        """Return what a model reads before the audio (see ``read_examples``)."""
        last = self._last
        if last is not None and last[0] is examples and last[1] == lang:
            return last[2]
        prefix = read_examples(self._model, examples, lang)
        self._last = (examples, lang, prefix)
        return prefix


def embed_after(model: Wav2Vec2LlamaModel, batch: AsrBatch, prefix: SharedPrefix) -> EmbeddedPrompt:
    """Embed what stands in the prompts behind the examples.

    :param model: a model in eval mode.
    :param prefix: made with the language of these rows, where the model reads one.
    """
    _, behind = _split_prompt(model)
    return model.embed_prompt(batch, behind)._replace(prefix=prefix)


def _split_prompt(model: Wav2Vec2LlamaModel) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Return the parts of the prompt before the utterance's audio, and those from it on."""
    if not model.syntax.needs_examples:
        raise BatchError("This model reads no examples.")
    prompt = model.syntax.prompt
    place = prompt.index(Audio())
    return prompt[:place], prompt[place:]
