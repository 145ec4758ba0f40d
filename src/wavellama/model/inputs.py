"""From a batch to what is embedded: clips of audio, and the rows that name them.

Shapes: C clips, T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wavellama.batch import AsrBatch, Example
from wavellama.errors import BatchError
from wavellama.model.config import Wav2Vec2LlamaStreamingConfig
from wavellama.prompt.assemble import Item, PromptRow
from wavellama.prompt.parts import Items
from wavellama.prompt.segments import cut_segments, split_words
from wavellama.units import SAMPLE_RATE

Noise: TypeAlias = Callable[[Sequence[int]], Sequence[int]]
"""From the tokens of a transcript to those that the decoder is shown."""

TextEncoder: TypeAlias = Callable[[str], list[int]]
"""From the text of a segment, a leading space included, to its tokens."""


MAX_ENCODER_SAMPLES: Final = 240 * SAMPLE_RATE
"""The most audio that inference gives the encoder at a time, padding included."""


class ModelInputs(NamedTuple):
    """What a batch becomes before anything is embedded."""

    seqs: Tensor
    """Waveforms, those of the rows first. *Shape:* (C, T)."""

    seq_lens: list[int]
    """Samples per clip."""

    rows: list[PromptRow]

    def items(self) -> list[Item]:
        """Return the clips that have a text of their own to learn: utterances or segments."""
        rows = [(row.items or {}).get(Items.SEGMENTS, [row.own]) for row in self.rows]
        return [item for row in rows for item in row]


def plain_inputs(batch: AsrBatch, languages: Sequence[int], shown: Noise) -> ModelInputs:
    """Return the inputs of models that read one utterance per row."""
    pairs = zip(_targets(batch), languages, strict=True)
    rows = [PromptRow(_item(i, ids, shown), lang) for i, (ids, lang) in enumerate(pairs)]
    return ModelInputs(batch.audio, batch.audio_lens, rows)


def example_inputs(batch: AsrBatch, num_examples: int, shown: Noise) -> ModelInputs:
    """Return the inputs of models that read examples before the utterance.

    :raises BatchError: a row has another number of examples, or none at all are given.
    """
    if batch.examples is None:
        raise BatchError("This model reads context examples before the audio, but has none.")
    clips = [seq[:n] for seq, n in zip(batch.audio, batch.audio_lens, strict=True)]
    rows: list[PromptRow] = []
    for i, (target, examples) in enumerate(zip(_targets(batch), batch.examples, strict=True)):
        if len(examples) != num_examples:
            raise BatchError(
                f"Row {i} has {len(examples)} context examples, but this model reads exactly"
                f" {num_examples} (`n_context_examples`)."
            )
        items = [_example_item(example, clips) for example in examples]
        rows.append(PromptRow(_item(i, target, shown), items={Items.EXAMPLES: items}))
    return ModelInputs(*_pad(clips), rows)


def segment_inputs(
    batch: AsrBatch,
    languages: Sequence[int],
    config: Wav2Vec2LlamaStreamingConfig,
    encode: TextEncoder,
    shown: Noise,
) -> ModelInputs:
    """Return the inputs of streaming models: all segments of all rows, with their words.

    :param encode: encodes the text of a segment.
    :raises BatchError: the batch has no timed words.
    """
    if batch.words is None:
        raise BatchError(
            "Training a streaming model needs `text_words_merged` and `word_duration` in the"
            " batch's metadata; `wavellama data align` makes them for a manifest."
        )
    clips: list[Tensor] = []
    rows: list[PromptRow] = []
    columns = zip(batch.audio, batch.audio_lens, batch.words, languages, strict=True)
    for seq, length, timed, language in columns:
        segments = cut_segments(length, config.segment_len, config.min_audio_len)
        texts = split_words(timed.words, timed.durations, config.segment_secs, len(segments))
        items = [
            _item(len(clips) + i, encode(text), shown, is_last=i + 1 == len(segments))
            for i, text in enumerate(texts)
        ]
        clips += [seq[place] for place in segments]
        rows.append(PromptRow(items[-1], language, {Items.SEGMENTS: items}))
    return ModelInputs(*_pad(clips), rows)


def _item(clip: int, target: Sequence[int], shown: Noise, *, is_last: bool = True) -> Item:
    return Item(clip, target, shown(target), is_last)


def _example_item(example: Example, clips: list[Tensor]) -> Item:
    """Return an example as an item; its audio, if any, is appended to ``clips``."""
    if example.audio is None:
        return Item(target=example.tokens)
    clips.append(example.audio.to(clips[0]))
    return Item(len(clips) - 1, example.tokens)


def _targets(batch: AsrBatch) -> Sequence[list[int]]:
    return batch.targets if batch.targets else [[]] * batch.num_rows


def _pad(clips: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    return pad_sequence(list(clips), batch_first=True), [len(clip) for clip in clips]


def embed_in_groups(
    embed: Callable[[Tensor, list[int]], tuple[Tensor, list[int]]],
    seqs: Tensor,
    seq_lens: Sequence[int],
) -> tuple[Tensor, list[int]]:
    """Embed clips of similar length together, and clips that are equal only once.

    :param embed: from waveforms (C, T) to embeddings (C, T', M), with their lengths.
    :returns: the embeddings of all clips, padded, and their lengths.
    """
    places = _equal_clips(seqs, seq_lens)
    embedded: dict[int, Tensor] = {}
    for group in _groups(sorted(set(places), key=lambda place: seq_lens[place]), seq_lens):
        lens = [seq_lens[place] for place in group]
        rows, row_lens = embed(seqs[group, : max(lens)], lens)
        for place, row, length in zip(group, rows, row_lens, strict=True):
            embedded[place] = row[:length]
    return _pad([embedded[place] for place in places])


def _equal_clips(seqs: Tensor, seq_lens: Sequence[int]) -> list[int]:
    """Return, for each clip, the place of the first one that equals it."""
    first: dict[bytes, int] = {}
    clips = zip(seqs.cpu(), seq_lens, strict=True)
    keys = [
        clip[:length].contiguous().view(torch.uint8).numpy().tobytes() for clip, length in clips
    ]
    return [first.setdefault(key, place) for place, key in enumerate(keys)]


def _groups(places: Sequence[int], seq_lens: Sequence[int]) -> Iterator[list[int]]:
    """Yield groups of clips, sorted by length, that fit the budget when padded."""
    group: list[int] = []
    for place in places:
        if group and (len(group) + 1) * seq_lens[place] > MAX_ENCODER_SAMPLES:
            yield group
            group = []
        group.append(place)
    yield group
