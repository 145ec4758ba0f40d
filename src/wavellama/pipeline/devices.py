"""Where a model runs."""

from __future__ import annotations

import re

import torch

from wavellama.errors import ConfigError


def find_device(device: torch.device | str, option: str = "device") -> torch.device:
    """Return a device that is there.

    :param option: what the user calls it.
    :raises ConfigError: it is not, or holds no data.
    """
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).tolist()
    except (RuntimeError, AssertionError, ImportError) as ex:
        reason = re.split(r"\.\s", f"{ex} ")[0].strip()  # the first of many sentences
        raise ConfigError(
            f"`{option} {device}` cannot be used ({reason}); choose cpu, or cuda if there is a GPU."
        ) from ex
    return found


def default_device() -> torch.device:
    """Return a GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
