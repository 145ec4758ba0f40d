"""What ``decode.py`` and ``step_profile.py`` are told: the model, and what it decodes."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, get_args

import torch

from wavellama.engine import WeightForm

NUMBERS: Final = {
    "model_dim": (4096, "width of the decoder"),
    "layers": (12, "layers of the decoder"),
    "heads": (8, "attention heads per layer"),
    "vocab": (9812, "tokens of the vocabulary"),
    "max_len": (8192, "the model's longest sequence"),
    "batch": (1, "rows per length of --prompt"),
    "new_tokens": (120, "tokens to emit per row"),
    "beam": (5, "hypotheses per row"),
    "threads": (torch.get_num_threads(), "threads of torch"),
    "runs": (3, "rounds that count, after one that does not"),
    "reference_runs": (0, "how many of these the reference takes part in; 0: all"),
}
"""Settings that are numbers: their defaults, and what they are."""

CHOICES: Final = {
    "dtype": (("bfloat16", "float32"), "type of weights and cache"),
    "weights": (get_args(WeightForm), "weights of ours: of --dtype, or rounded to 8 or 4 bits"),
    "device": (("cpu", "cuda"), "where ours and stock run"),
}
"""Settings that are one of a few names, the default first, and what they are."""

LEAST: Final = {"new_tokens": 2, "prompt": 2, "vocab": 4, "runs": 3, "reference_runs": 0}
"""The least that a setting may be, where it is not 1."""


@dataclass(frozen=True)
class Settings:
    """What is decoded, and how; the options of the command line."""

    model_dim: int
    layers: int
    heads: int
    vocab: int
    max_len: int
    prompt: list[int]
    batch: int
    new_tokens: int
    beam: int
    dtype: str
    weights: WeightForm
    device: str
    threads: int
    runs: int
    reference_runs: int

    @property
    def prompt_lens(self) -> list[int]:
        """The length of each row's prompt; rows of one length are adjacent."""
        return [length for length in self.prompt for _ in range(self.batch)]

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type of weights and cache."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def mistakes(self) -> Iterator[str]:
        """Say what is wrong with the settings."""
        for name, value in asdict(self).items():
            least = LEAST.get(name, 1)
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int) and number < least:
                    yield f"{option(name)} is {number}, but must be at least {least}"
        if self.model_dim % (2 * max(self.heads, 1)) != 0:
            yield f"--model-dim {self.model_dim} must be a multiple of 2 x --heads {self.heads}"
        if self.vocab <= self.beam:
            yield f"--vocab {self.vocab} must be above --beam {self.beam}, as EOS is impossible"
        longest = max(self.prompt) + self.new_tokens + 4  # the reference ends four steps early
        if longest > self.max_len:
            yield f"--max-len is {self.max_len}, but prompt and new tokens need {longest}"


def option(name: str) -> str:
    """Return how a setting is called on the command line."""
    return f"--{name.replace('_', '-')}"


def parse(argv: Sequence[str], about: str) -> tuple[Settings, argparse.Namespace]:
    """Read the command line; ``beside`` maps names to settings.

    :param about: what the program does.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    for name, (default, what) in NUMBERS.items():
        shown = f"{what} ({default})"
        parser.add_argument(option(name), type=int, default=default, metavar="N", help=shown)
    for name, (choices, what) in CHOICES.items():
        shown = f"{what} ({choices[0]})"
        parser.add_argument(option(name), choices=choices, default=choices[0], help=shown)
    lens = "positions of the prompt (500), or several lengths for a batch of prompts: 200,400"
    parser.add_argument("--prompt", type=_lens, default=[500], metavar="N[,N...]", help=lens)
    python = "interpreter that has omnilingual-asr 0.2.0, to compare with"
    parser.add_argument("--reference-python", metavar="PATH", help=python)
    parser.add_argument(
        "--without-stock", action="store_true", help="leave fairseq2's decoding out"
    )
    change = "also time ours with another beam, prompt or form: beam=1, prompt=1000, weights=int8"
    parser.add_argument(
        "--beside", type=_change, nargs="+", default=[], metavar="SETTING=VALUE", help=change
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object on one line")
    args = parser.parse_args(argv)
    settings = Settings(**{field.name: getattr(args, field.name) for field in fields(Settings)})
    args.beside = {name: replace(settings, **changes) for name, changes in args.beside}
    mistakes = [text for each in (settings, *args.beside.values()) for text in each.mistakes()]
    if args.reference_python and shutil.which(args.reference_python) is None:
        mistakes.append(f"--reference-python {args.reference_python} is no program")
    if settings.device == "cuda" and not torch.cuda.is_available():
        mistakes.append("--device is cuda, but torch finds no GPU; use cpu")
    if mistakes:
        parser.error("; ".join(dict.fromkeys(mistakes)))
    return settings, args


def _lens(text: str) -> list[int]:
    try:
        return [int(length) for length in text.split(",")]
    except ValueError as ex:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length, nor several: 500,700") from ex


def _change(text: str) -> tuple[str, dict[str, Any]]:
    """Return what ``beam=1``, ``prompt=1000`` or ``weights=int8`` changes, and its name."""
    match text.split("="):
        case ["beam", value] if value.isdecimal():
            return text, {"beam": int(value)}
        case ["prompt", value]:
            return text, {"prompt": _lens(value)}
        case ["weights", value] if value in get_args(WeightForm):
            return text, {"weights": value}
    raise argparse.ArgumentTypeError(f"{text!r} is neither beam=N, prompt=N nor weights=FORM")
