"""From a batch to what is embedded: clips of audio, and the rows of the prompt that name them.

Shapes: C clips, T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias, final

import torch
from fairseq2.datasets import Seq2SeqBatch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wavellama.batch import AsrBatch, BatchColumns, Example, to_asr_batch
from wavellama.errors import BatchError, ConfigError
from wavellama.model.config import Wav2Vec2LlamaStreamingConfig
from wavellama.prompt.assemble import Item, PromptRow
from wavellama.prompt.parts import (
    Audio,
    Items,
    Part,
    Repeat,
    find_repeat,
    reads_audio,
    reads_language,
)
from wavellama.prompt.segments import segment_texts
from wavellama.prompt.syntax import Syntax
from wavellama.text.languages import LanguageTable
from wavellama.units import MIN_SAMPLES, SAMPLE_RATE

Noise: TypeAlias = Callable[[Sequence[int]], Sequence[int]]
"""From the tokens of a transcript to those that the decoder is shown."""

TextEncoder: TypeAlias = Callable[[str], list[int]]
"""From the text of a segment, a leading space included, to its tokens."""

Piece: TypeAlias = tuple[Tensor | None, Sequence[int]]
"""Audio (T), where it is read, and the tokens of its text."""

MAX_ENCODER_SAMPLES: Final = 240 * SAMPLE_RATE
"""The most audio that inference gives the encoder at a time, padding included."""

MAX_ENCODER_SAMPLES_CPU: Final = 30 * SAMPLE_RATE
"""The same on a CPU, which more audio takes memory of and makes no faster."""


class ModelInputs(NamedTuple):
    """What a batch becomes before anything is embedded."""

    clips: list[Tensor]
    """Waveforms, those of the rows first. *Shape of each:* (T)."""

    rows: list[PromptRow]

    def items(self) -> list[Item]:
        """Return the clips that have a text of their own to learn: utterances or segments."""
        return [item for row in self.rows for item in row.items[Items.SEGMENTS]]

    def item_languages(self) -> list[int]:
        """Return the language that each of these clips is told."""
        return [row.language for row in self.rows for _ in row.items[Items.SEGMENTS]]


class PastSegment(NamedTuple):
    """A decoded segment that stays in the context of those after it."""

    audio: Tensor
    """Its embedded frames. *Shape:* (T', M)."""

    tokens: list[int]


class Place(NamedTuple):
    """Where a segment stands in its stream."""

    past: Sequence[PastSegment]
    is_last: bool


class TrainingDraws(NamedTuple):
    """What training hides from the decoder, drawn anew for each batch."""

    keep_languages: Callable[[int], list[bool]]
    """From the number of rows to which of them show their language."""

    noise: Noise


@final
@dataclass(frozen=True, kw_only=True)
class InputReader:
    """Makes the rows of a batch; the parts of the prompt say what is looked at."""

    languages: LanguageTable
    language_column: str
    """The column of the batch that holds language codes."""

    num_examples: int
    vocab_size: int
    """What the tokens of their texts may not reach."""

    streaming: Wav2Vec2LlamaStreamingConfig
    """How audio is cut into segments."""

    encode: TextEncoder | None
    """Encodes the text of a segment; needed where the parts show segments."""

    def read(
        self, batch: AsrBatch, parts: Sequence[Part], draws: TrainingDraws | None = None
    ) -> ModelInputs:
        """Return the clips of a batch, and a row for each utterance.

        Where the parts show no segments, an utterance is the only segment of its row.

        :param parts: ``syntax.parts``, ``syntax.prompt``, or a stretch of either.
        :param draws: what to hide in training.
        :raises BatchError: something that the parts show is not in the batch.
        :raises ConfigError: the parts show segments, but nothing encodes their texts.
        :raises UnknownLanguageError: a language code is not in the table.
        """
        languages = self._languages(batch, parts, draws)
        pieces, examples = self._pieces(batch, parts), self._examples(batch, parts)
        clips: list[Tensor] = []
        own = [_items(row, clips, draws) for row in pieces]
        shown = [_items(row, clips) for row in examples]
        rows = [
            PromptRow(
                *(row[-1], language),
                {Items.SEGMENTS: row, Items.EXAMPLES: context, Items.PAST: ()},
            )
            for row, language, context in zip(own, languages, shown, strict=True)
        ]
        return ModelInputs(clips, rows)

    def _languages(
        self, batch: AsrBatch, parts: Sequence[Part], draws: TrainingDraws | None
    ) -> list[int]:
        """Return the row of the language embedding to show; 0 shows none."""
        if not reads_language(parts):
            return [0] * batch.num_rows
        if batch.langs is None and draws is not None:
            raise BatchError(
                "Training a model that reads the language needs the language of each row in the"
                f" batch's `{self.language_column}` column."
            )
        rows = [self.languages.row(code) for code in batch.langs or [None] * batch.num_rows]
        if draws is None:
            return rows
        kept = draws.keep_languages(len(rows))
        return [row if keep else 0 for row, keep in zip(rows, kept, strict=True)]

    def _pieces(self, batch: AsrBatch, parts: Sequence[Part]) -> list[list[Piece]]:
        """Return each row's own audio with its text, as a whole or in segments."""
        if find_repeat(parts, Items.SEGMENTS) is not None:
            return self._segments(batch)
        targets = batch.targets or [[]] * batch.num_rows
        clips: list[Tensor | None] = [None] * batch.num_rows
        if reads_audio(parts):
            clips = [seq[:n] for seq, n in zip(batch.audio, batch.audio_lens, strict=True)]
        return [[piece] for piece in zip(clips, targets, strict=True)]

    def _segments(self, batch: AsrBatch) -> list[list[Piece]]:
        """Cut the audio of each row, and find the words that are spoken in each segment."""
        if self.encode is None:
            raise ConfigError(
                "Training a streaming model needs `text_encoder`, or the card of a tokenizer in"
                " `streaming_config.text_tokenizer`."
            )
        if batch.words is None:
            raise BatchError(
                "Training a streaming model needs `text_words_merged` and `word_duration` in the"
                " batch's metadata; `wavellama data align` makes them for a manifest."
            )
        rows: list[list[Piece]] = []
        for seq, length, timed in zip(batch.audio, batch.audio_lens, batch.words, strict=True):
            config = self.streaming
            places = config.cutter.places(length)
            texts = segment_texts(timed.words, timed.durations, config.segment_secs, len(places))
            pairs = zip(places, texts, strict=True)
            rows.append([(seq[place], self.encode(text)) for place, text in pairs])
        return rows

    def _examples(self, batch: AsrBatch, parts: Sequence[Part]) -> list[list[Piece]]:
        """Return the examples of each row, with their audio where it is read."""
        shown = find_repeat(parts, Items.EXAMPLES)
        if shown is None:
            return [[]] * batch.num_rows
        if batch.examples is None:
            raise BatchError("This model reads context examples before the audio, but has none.")
        for i, row in enumerate(batch.examples):
            if len(row) != self.num_examples:
                raise BatchError(
                    f"Row {i} has {len(row)} context examples, but this model reads exactly"
                    f" {self.num_examples} (`n_context_examples`)."
                )
            for number, one in enumerate(row):
                self._check_example(one, f"Example {number} of row {i}")
        return [[_example(one, shown, batch.audio) for one in row] for row in batch.examples]

    def _check_example(self, example: Example, name: str) -> None:
        if not all(0 <= token < self.vocab_size for token in example.tokens):
            raise BatchError(f"{name} has a token outside the vocabulary of {self.vocab_size}.")
        if example.audio is not None and len(example.audio) < MIN_SAMPLES:
            raise BatchError(
                f"{name} has {len(example.audio)} samples of audio, but needs {MIN_SAMPLES}."
            )


def read_columns(
    batch: Seq2SeqBatch, syntax: Syntax, language_column: str, vocab_size: int
) -> AsrBatch:
    """Return fairseq2's batch with the metadata that a syntax reads.

    :raises BatchError: the batch is packed, has targets outside the vocabulary, or its metadata
        does not have one entry per row.
    """
    columns = BatchColumns(
        language=language_column if syntax.needs_language else None,
        example_text=syntax.needs_example_text,
        example_audio=syntax.needs_example_audio,
        words=syntax.is_streaming,
    )
    asr_batch = to_asr_batch(batch, columns)
    for i, target in enumerate(asr_batch.targets):
        if not all(0 <= token < vocab_size for token in target):
            raise BatchError(
                f"The target of row {i} has a token outside the vocabulary of {vocab_size}."
            )
    return asr_batch


def _example(example: Example, shown: Repeat, like: Tensor) -> Piece:
    if Audio() not in shown.parts:
        return None, example.tokens
    if example.audio is None:
        raise BatchError("A context example has no audio, which this model reads.")
    return example.audio.to(like), example.tokens


def _items(
    pieces: Sequence[Piece], clips: list[Tensor], draws: TrainingDraws | None = None
) -> list[Item]:
    """Return pieces as items of a row; their audio is appended to ``clips``."""
    items = []
    for i, (audio, tokens) in enumerate(pieces):
        shown = tokens if draws is None else draws.noise(tokens)
        place = -1 if audio is None else len(clips)
        clips += [] if audio is None else [audio]
        items.append(Item(place, tokens, shown, i + 1 == len(pieces)))
    return items


def put_in_place(
    rows: Sequence[PromptRow], audio: Sequence[Tensor], places: Sequence[Place]
) -> tuple[list[PromptRow], list[Tensor]]:
    """Return the rows of segments with what was decoded before them, and the clips of both."""
    clips, placed = list(audio), []
    for row, place in zip(rows, places, strict=True):
        begin = len(clips)
        clips += [segment.audio for segment in place.past]
        past = [Item(begin + i, one.tokens, is_last=False) for i, one in enumerate(place.past)]
        own = replace(row.own, is_last=place.is_last)
        placed.append(replace(row, own=own, items={**row.items, Items.PAST: past}))
    return placed, clips


def pad(clips: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """Return sequences padded with zeros as one tensor, and their lengths."""
    return pad_sequence(list(clips), batch_first=True), [len(clip) for clip in clips]


def cut(seqs: Tensor, seq_lens: Sequence[int]) -> list[Tensor]:
    """Return the rows of padded sequences without their padding."""
    return [seq[:length] for seq, length in zip(seqs, seq_lens, strict=True)]


def in_groups(
    encode: Callable[[Sequence[Tensor]], list[Tensor]], clips: Sequence[Tensor]
) -> list[Tensor]:
    """Encode clips of similar length together, and clips that are equal only once.

    :param encode: from waveforms (T) to frames (T', M) each.
    """
    places = _equal_clips(clips)
    encoded: dict[int, Tensor] = {}
    lens = [len(clip) for clip in clips]
    most = MAX_ENCODER_SAMPLES if clips[0].is_cuda else MAX_ENCODER_SAMPLES_CPU
    for group in _groups(sorted(set(places), key=lambda place: lens[place]), lens, most):
        encoded |= zip(group, encode([clips[place] for place in group]), strict=True)
    return [encoded[place] for place in places]


def _equal_clips(clips: Sequence[Tensor]) -> list[int]:
    """Return, for each clip, the place of the first one that equals it."""
    first: dict[bytes, int] = {}
    keys = [clip.cpu().contiguous().view(torch.uint8).numpy().tobytes() for clip in clips]
    return [first.setdefault(key, place) for place, key in enumerate(keys)]


def _groups(places: Sequence[int], lens: Sequence[int], most: int) -> Iterator[list[int]]:
    """Yield groups of clips, sorted by length, of at most so many samples when padded."""
    group: list[int] = []
    for place in places:
        if group and (len(group) + 1) * lens[place] > most:
            yield group
            group = []
        group.append(place)
    if group:
        yield group
