"""Where, and with numbers of which type, a model runs."""

from __future__ import annotations

import logging
import re
from typing import Final

import torch

from wavellama.errors import OptionError

MEANT: Final = ("cpu", "cuda")
"""Types of devices that the code is written for."""

_log = logging.getLogger(__name__)


def find_device(device: torch.device | str) -> torch.device:
    """Return a device that is there and holds data; any other one is an OptionError.

    Whatever torch has is taken, such as mps or xpu; what has not been tried yet is said to be so.
    """
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).tolist()
    except (RuntimeError, AssertionError, ImportError, TypeError) as ex:
        reason = re.split(r"\.\s", f"{ex} ")[0].strip()  # the first of many sentences
        raise OptionError(
            f"`device {device}` cannot be used ({reason}); choose cpu, or cuda if there is a GPU."
        ) from ex
    if found.type not in MEANT:
        _log.warning("No model of wavellama has run on %s yet; compare its texts with cpu.", found)
    return found


def default_device() -> torch.device:
    """Return a GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """Return the type of weights where nobody says one: float32 on a CPU, else bfloat16."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def check_dtype(dtype: torch.dtype) -> None:
    """:raises OptionError: weights cannot be of this type."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise OptionError(
            f"`dtype` must be a torch.dtype of fractions, such as torch.bfloat16, but is {dtype!r}."
        )
