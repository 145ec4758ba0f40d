"""Feature masking: the component that YAML chooses by name (spec: section 6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Final, Protocol

import torch
from fairseq2.models.wav2vec2 import StandardWav2Vec2Masker, Wav2Vec2Masker
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrConfig
from fairseq2.nn.utils.mask import compute_row_mask
from fairseq2.runtime.dependency import DependencyResolver
from torch import Tensor
from typing_extensions import override

from wavellama.errors import ConfigError
from wavellama.faults import Checked

STANDARD_MASKER: Final = "standard"
NO_MASKER: Final = "none"


@dataclass(kw_only=True)
class StandardMaskerConfig(Checked):
    """Span masking of features as in wav2vec 2.0 (arXiv 2006.11477, section 3.1)."""

    temporal_mask_span_len: int = 10
    """The length of a span in frames."""

    max_temporal_mask_prob: float = 0.65
    """The share of frames to mask; spans overlap, so fewer are."""

    min_num_temporal_mask_spans: int = 2
    """The least number of spans per row."""

    spatial_mask_span_len: int = 64
    """The length of a span in features."""

    max_spatial_mask_prob: float = 0.0
    """The share of features to mask; 0 masks none."""

    min_num_spatial_mask_spans: int = 2
    """The least number of spans per row."""

    @override
    def find_faults(self) -> Iterator[str]:
        if min(self.temporal_mask_span_len, self.spatial_mask_span_len) < 1:
            yield "`temporal_mask_span_len` and `spatial_mask_span_len` must be >= 1."
        if not 0.0 < self.max_temporal_mask_prob <= 1.0:
            yield f"`max_temporal_mask_prob` must lie in (0, 1]: {self.max_temporal_mask_prob}."


@dataclass(kw_only=True)
class NoMaskerConfig:
    """Masks nothing and has nothing to configure."""


def mask_rows(
    shape: tuple[int, int],
    span_len: int,
    max_mask_prob: float,
    row_lens: Tensor | None = None,
    min_num_spans: int = 0,
    device: torch.device | None = None,
) -> Tensor:
    """Draw a random span mask for each row by itself (fairseq2's ``RowMaskFactory``).

    A row too short for the spans that it must have is left unmasked; fairseq2's factory raises
    for the whole batch, and gives every row as few spans as the shortest row has.

    :returns: True where masked. *Shape:* ``shape``.
    """
    num_rows, width = shape
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    lens = [width] * num_rows if row_lens is None else row_lens.tolist()
    for row, length in enumerate(lens):
        num_spans = int(max_mask_prob / span_len * (length - 1))
        if length > span_len and num_spans >= max(min_num_spans, 1):
            # The check above is made once, in float64; fairseq2 would make it again in float32.
            row_mask = compute_row_mask((1, length), span_len, max_mask_prob, None, 0, device)
            if row_mask is not None and row_mask.numel() > 0:
                mask[row, :length] = row_mask[0]
    return mask


def create_standard_masker(model_dim: int, config: StandardMaskerConfig) -> Wav2Vec2Masker:
    """Create fairseq2's masker, for batches that also hold rows too short to mask.

    :raises ConfigError: a span of features is as wide as the model.
    """
    if config.max_spatial_mask_prob > 0.0 and config.spatial_mask_span_len >= model_dim:
        raise ConfigError(
            f"`spatial_mask_span_len` ({config.spatial_mask_span_len}) must be less than the width"
            f" of the features ({model_dim})."
        )
    return StandardWav2Vec2Masker(
        model_dim,
        config.temporal_mask_span_len,
        config.max_temporal_mask_prob,
        config.min_num_temporal_mask_spans,
        config.spatial_mask_span_len,
        config.max_spatial_mask_prob,
        config.min_num_spatial_mask_spans,
        mask_factory=mask_rows,
    )


def standard_masker_config(config: Wav2Vec2AsrConfig) -> StandardMaskerConfig:
    """Return the masking that a model configuration describes."""
    names = [field.name for field in fields(StandardMaskerConfig)]
    return StandardMaskerConfig(**{name: getattr(config, name) for name in names})


class MaskerFactory(Protocol):
    """The component that YAML names: from the width of the features to their masker, or to None."""

    def __call__(self, model_dim: int) -> Wav2Vec2Masker | None:
        """Create the masker of a model whose features have ``model_dim`` channels."""
        ...


def standard_masker_factory(
    resolver: DependencyResolver, config: StandardMaskerConfig
) -> MaskerFactory:
    """Create the component ``standard``."""
    return partial(create_standard_masker, config=config)


def no_masker_factory(resolver: DependencyResolver, config: NoMaskerConfig) -> MaskerFactory:
    """Create the component ``none``: no masker for any width."""
    return lambda model_dim: None
