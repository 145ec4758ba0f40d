"""From waveforms to the features that a masker may act on, and from frames to stacked frames.

Shapes: N rows, T samples, S frames, E encoder width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from fairseq2.models.feature_extractor import SequenceFeatureExtractor
from fairseq2.models.wav2vec2 import Wav2Vec2Frontend
from fairseq2.nn import BatchLayout, SinusoidalPositionEncoder
from torch import Tensor
from torch.nn import GroupNorm
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from wavellama.errors import BatchError
from wavellama.model.mel import MelExtractor
from wavellama.units import MIN_SAMPLES


def extract_by_row(
    extractor: SequenceFeatureExtractor, seqs: Tensor, layout: BatchLayout
) -> tuple[Tensor, BatchLayout]:
    """Extract features so that no row depends on the padding of the batch.

    Convolutions with a group norm over time (wav2vec 2.0 ``base``) would let it in, so with them
    padded rows are read one by one.
    """
    over_time = any(isinstance(module, GroupNorm) for module in extractor.modules())
    if not over_time or not layout.padded:
        return extractor(seqs, layout)
    rows = [seqs[i : i + 1, :length] for i, length in enumerate(layout.seq_lens)]
    features = [extractor(row, BatchLayout.of(row))[0][0] for row in rows]
    padded = pad_sequence(features, batch_first=True)
    return padded, BatchLayout.of(padded, [len(row) for row in features])


def extract_features(
    frontend: Wav2Vec2Frontend, seqs: Tensor, layout: BatchLayout, dtype: torch.dtype
) -> tuple[Tensor, BatchLayout]:
    """Compute the features of waveforms, up to where a masker may act.

    :param seqs: waveforms. *Shape:* (N, T).
    :param dtype: the type of the encoder's weights.
    :returns: features (N, S, E) in ``dtype`` and their layout.
    :raises BatchError: a row has more frames than the encoder has positions.
    """
    extractor = frontend.feature_extractor
    if extractor is None:
        raise ValueError("`encoder_frontend` must have a feature extractor.")
    # Convolutions read the type of their weights; mel spectra are computed in float32.
    if not isinstance(extractor, MelExtractor):
        seqs = seqs.to(next(extractor.parameters()).dtype)
    features, layout = extract_by_row(extractor, seqs, layout)
    positions, longest = frontend.pos_encoder, max(layout.seq_lens)
    if isinstance(positions, SinusoidalPositionEncoder) and longest > positions.max_seq_len:
        raise BatchError(
            f"A row has {longest} frames, but the positions of this encoder end at"
            f" {positions.max_seq_len}; cut the audio."
        )
    return frontend.post_extract_layer_norm(features.to(dtype)), layout


def stack_frames(frames: Tensor, seq_lens: list[int], factor: int) -> tuple[Tensor, list[int]]:
    """Join every ``factor`` frames; a row's short tail is filled up with zeros.

    :param frames: *Shape:* (N, S, E).
    :returns: the joined frames (N, T', E * factor) and the number of them per row.
    """
    if factor == 1:
        return frames, seq_lens
    lens = torch.tensor(seq_lens, device=frames.device)
    inside = torch.arange(frames.size(1), device=frames.device) < lens[:, None]
    frames = pad(frames * inside[:, :, None], (0, 0, 0, -frames.size(1) % factor))
    frames = frames.reshape(frames.size(0), -1, frames.size(2) * factor)
    return frames, [-(-length // factor) for length in seq_lens]


def check_seq_lens(seq_lens: Sequence[int] | Tensor) -> list[int]:
    """Return the samples per row as ints; a row too short for a single frame is a BatchError."""
    lens = [int(n) for n in (seq_lens.tolist() if isinstance(seq_lens, Tensor) else seq_lens)]
    for row, length in enumerate(lens):
        if length < MIN_SAMPLES:
            raise BatchError(
                f"Row {row} has {length} samples of audio; the encoder needs {MIN_SAMPLES} (25 ms)."
            )
    return lens
