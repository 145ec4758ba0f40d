"""Changes of the spectrum in training: warped frequencies and masked stripes.

Masks as in SpecAugment (arXiv 1904.08779); warped frequencies as in vocal tract length perturbation
(Jaitly and Hinton 2013).

Shapes: N rows, F windows, B frequency bins, C mel channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from wavellama.faults import Checked, within


@dataclass(frozen=True, kw_only=True)
class SpectralAugment(Checked):
    """What to change in the filter banks of a training batch; nothing by default."""

    max_warp: float = within("[0, 1)", 0.0)
    """Frequencies are stretched by a factor within 1 - max_warp and 1 + max_warp."""

    num_freq_masks: int = within("[0, inf)", 0)
    """Stripes of mel channels to mask in each row."""

    freq_mask_width: int = within("[1, inf)", 14)
    """The most channels in a stripe."""

    num_time_masks: int = within("[0, inf)", 0)
    """Stripes of windows to mask in each row."""

    windows_per_time_mask: int = within("[0, inf)", 0)
    """One more stripe for each stretch of this many windows (10 ms each); 0: no more."""

    time_mask_width: int = within("[1, inf)", 20)
    """The most windows in a stripe."""

    def warp(self, power: Tensor, generator: Generator) -> Tensor:
        """Stretch the frequencies of each row by a factor of its own. (N, F, B)."""
        if self.max_warp == 0.0:
            return power
        num_rows, _, num_bins = power.shape
        factors = 1.0 + self.max_warp * (2.0 * torch.rand(num_rows, generator=generator) - 1.0)
        places = (torch.arange(num_bins) * factors[:, None]).clamp_max(num_bins - 1)  # (N, B)
        below = places.floor().long()
        above = (below + 1).clamp_max(num_bins - 1)
        weight = (places - below).to(power)[:, None]  # (N, 1, B)
        return torch.lerp(_take_bins(power, below), _take_bins(power, above), weight)

    def mask(self, log_mel: Tensor, num_windows: list[int], generator: Generator) -> Tensor:
        """Replace stripes of each row by the row's mean. (N, F, C)."""
        mask = torch.zeros(log_mel.shape, dtype=torch.bool)
        for row, length in enumerate(num_windows):
            for _ in range(self.num_freq_masks):
                stripe = _stripe(log_mel.size(2), self.freq_mask_width, generator)
                mask[row, :, stripe] = True
            more = length // self.windows_per_time_mask if self.windows_per_time_mask else 0
            for _ in range(self.num_time_masks + more):
                stripe = _stripe(length, min(self.time_mask_width, length // 5), generator)
                mask[row, stripe] = True
        means = torch.stack([log_mel[i, :n].mean() for i, n in enumerate(num_windows)])
        return torch.where(mask.to(log_mel.device), means[:, None, None], log_mel)


def _take_bins(power: Tensor, bins: Tensor) -> Tensor:
    """Take the bins (N, B) of each row's spectra (N, F, B)."""
    return power.gather(2, bins.to(power.device)[:, None].expand_as(power))


def _stripe(size: int, max_width: int, generator: Generator) -> slice:
    """Draw a stripe of at most ``max_width`` within ``size``."""
    width = int(torch.randint(max_width + 1, (), generator=generator))
    begin = int(torch.randint(max(size - width, 0) + 1, (), generator=generator))
    return slice(begin, begin + width)
