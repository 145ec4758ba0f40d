"""Where every position of the decoder's input comes from, once the clips' lengths are known.

Shapes: N rows, S decoder positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from typing import Final, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wavellama.prompt.assemble import AudioSpan, LanguageSpan, Prompt, Span, TokenSpan

_SpanT = TypeVar("_SpanT", AudioSpan, LanguageSpan, TokenSpan)

NO_LABEL: Final = -100
"""The label of a position whose output the loss does not cover (torch's ``ignore_index``)."""


@dataclass(frozen=True)
class PromptLayout:
    """The decoder's input as row numbers of one pool of embeddings.

    The pool holds, one after another: the frames of all clips, the embeddings of ``token_ids``, the
    rows of the language embedding named by ``languages``, and one row of zeros.
    """

    index: Tensor
    """The pool row at each position; padding points at the zeros. *Shape:* (N, S)."""

    labels: Tensor
    """The token that the output of each position has to predict, or ``NO_LABEL``. (N, S)."""

    seq_lens: list[int]
    """Positions per row."""

    contexts: list[list[slice]]
    """Per row, where the positions are that are given to the decoder rather than predicted by it:
    one slice before each stretch of covered positions, and one for each covered position that
    reads another token than the one predicted."""

    token_ids: Tensor
    """Token ids to embed, of all rows one after another."""

    languages: Tensor
    """Rows of the language embedding, of all rows one after another."""

    @property
    def context_lens(self) -> list[list[int]]:
        """Per decoded segment, the length of each row's context; 0 for rows that have no more."""
        lens = [[place.stop - place.start for place in row] for row in self.contexts]
        return [list(column) for column in zip_longest(*lens, fillvalue=0)]


def lay_out(prompts: Sequence[Prompt], clip_lens: Sequence[int]) -> PromptLayout:
    """Lay the spans of each row out as positions.

    :param clip_lens: frames of each clip.
    """
    tokens = [i for span in _each(prompts, TokenSpan) for i in span.ids]
    languages = [span.row for span in _each(prompts, LanguageSpan)]
    pool = _Pool(clip_lens, len(tokens), len(languages))
    indices = [torch.cat([pool.take(span) for span in prompt]) for prompt in prompts]
    labels = [_labels(prompt, clip_lens) for prompt in prompts]
    return PromptLayout(
        index=pad_sequence(indices, batch_first=True, padding_value=pool.zeros),
        labels=pad_sequence(labels, batch_first=True, padding_value=NO_LABEL),
        seq_lens=[len(row) for row in indices],
        contexts=[_contexts(prompt, clip_lens) for prompt in prompts],
        token_ids=torch.tensor(tokens, dtype=torch.int64),
        languages=torch.tensor(languages, dtype=torch.int64),
    )


class _Pool:
    """Hands out the pool rows of one span after another."""

    def __init__(self, clip_lens: Sequence[int], num_tokens: int, num_languages: int) -> None:
        self._clip_ends = list(accumulate(clip_lens, initial=0))
        self._next_token = self._clip_ends[-1]
        self._next_language = self._next_token + num_tokens
        self.zeros = self._next_language + num_languages

    def take(self, span: Span) -> Tensor:
        if isinstance(span, AudioSpan):
            return torch.arange(self._clip_ends[span.clip], self._clip_ends[span.clip + 1])
        if isinstance(span, LanguageSpan):
            self._next_language += 1
            return torch.tensor([self._next_language - 1])
        self._next_token += len(span.ids)
        return torch.arange(self._next_token - len(span.ids), self._next_token)


def _labels(prompt: Prompt, clip_lens: Sequence[int]) -> Tensor:
    """Return, for each position, the covered token that stands at the next one."""
    here: list[int] = []
    for span in prompt:
        if isinstance(span, TokenSpan) and span.labels is not None:
            here.extend(span.labels)
        else:
            here.extend([NO_LABEL] * _span_len(span, clip_lens))
    return torch.tensor([*here[1:], NO_LABEL], dtype=torch.int64)


def _contexts(prompt: Prompt, clip_lens: Sequence[int]) -> list[slice]:
    """Return where the given positions are; covered ones separate them."""
    contexts: list[slice] = []
    begin = end = 0
    for span in prompt:
        length = _span_len(span, clip_lens)
        if isinstance(span, TokenSpan) and span.labels is not None:
            if end > begin:
                contexts.append(slice(begin, end))
            if span.is_given:
                contexts.append(slice(end, end + length))
            begin = end + length
        end += length
    return [*contexts, slice(begin, end)] if end > begin else contexts


def _span_len(span: Span, clip_lens: Sequence[int]) -> int:
    if isinstance(span, AudioSpan):
        return clip_lens[span.clip]
    return 1 if isinstance(span, LanguageSpan) else len(span.ids)


def _each(prompts: Sequence[Prompt], kind: type[_SpanT]) -> list[_SpanT]:
    return [span for prompt in prompts for span in prompt if isinstance(span, kind)]
