"""Where somebody speaks: silero's voice detection, on audio that arrives piece by piece.

Silero's own front end looks at one window per call of a scripted model, and at whole files. Here
the same network sees many windows at a time, and the same rules find speech as it ends.

Shapes: W windows, T samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypeAlias, final
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor
from torch.nn import LSTM
from torch.nn.functional import conv1d, linear, pad

from wavellama.audio.regions import (
    WINDOW_SAMPLES,
    RegionFinder,
    SpeechRegion,
    VadOptions,
    mean_probability,
)
from wavellama.errors import ConfigError

__all__ = ["SpeechDetector", "SpeechRegion", "VadOptions", "detect_speech", "speech_peak"]

CONTEXT_SAMPLES: Final = 64
"""What a window sees of the one before it."""

MAX_WINDOWS: Final = 256
"""How many windows are looked at in one call (8 s)."""

WIDTH: Final = 128
"""Of the network."""

SPEECH_LEVEL: Final = 0.05
"""The root mean square (-26 dB) that ``speech_peak`` gives its audio."""

State: TypeAlias = "tuple[Tensor, Tensor]"


@final
class SpeechDetector:
    """Finds speech in audio that arrives piece by piece, in constant memory.

    Regions are those of ``silero_vad.get_speech_timestamps`` on the whole audio, however it was
    cut (a probability may differ in its sixth digit).
    """

    def __init__(self, options: VadOptions | None = None, max_samples: int | None = None) -> None:
        """:param max_samples: regions longer than this are cut where speech is least probable.
        :raises ConfigError: ``max_samples`` is too small, or silero-vad is not installed.
        """
        self._probability = _WindowProbability()
        self._regions = RegionFinder(options or VadOptions(), max_samples)
        self._num_samples = 0

    @property
    def horizon(self) -> int:
        """No region that is still to come begins before this sample."""
        return self._regions.horizon

    @property
    def open_start(self) -> int | None:
        """Where the region begins that is surely one and has not ended yet, if there is one."""
        return self._regions.open_start

    def feed(self, samples: Tensor) -> list[SpeechRegion]:
        """Listen to more audio (16 kHz, mono); returns the regions that are complete now.

        :param samples: *Shape:* (T), any T.
        """
        self._num_samples += len(samples)
        return self._find(self._probability.feed(samples))

    def finish(self) -> list[SpeechRegion]:
        """Say that the audio has ended; returns the remaining regions."""
        found = self._find(self._probability.finish())
        return found + self._regions.finish(self._num_samples)

    def _find(self, probabilities: Iterator[float]) -> list[SpeechRegion]:
        return [region for p in probabilities for region in self._regions.feed(p)]


def detect_speech(
    waveform: Tensor, options: VadOptions | None = None
) -> tuple[tuple[SpeechRegion, ...], float]:
    """Return where somebody speaks, and the mean probability of speech there (0: nowhere).

    :param waveform: 16 kHz, mono, not normalised. *Shape:* (T).
    """
    detector = SpeechDetector(options)
    regions = (*detector.feed(waveform), *detector.finish())
    return regions, mean_probability(regions)


def speech_peak(waveform: Tensor) -> float:
    """Return how probable speech is in the window where it is likeliest, however quiet the audio.

    :param waveform: 16 kHz, mono. *Shape:* (T), not empty.
    """
    centred = waveform - waveform.mean()
    scaled = centred * (SPEECH_LEVEL / centred.std(correction=0).clamp(min=1e-9))
    probability = _WindowProbability()
    return max(*probability.feed(scaled), *probability.finish(), 0.0)


# The network


@final
class _WindowProbability:
    """How probable speech is, window by window."""

    def __init__(self) -> None:
        self._network = _load_network()
        self._held = torch.zeros(CONTEXT_SAMPLES, dtype=torch.float32, device="cpu")
        zeros = torch.zeros(1, WIDTH, dtype=torch.float32, device="cpu")
        self._state = (zeros, zeros)

    def feed(self, samples: Tensor) -> Iterator[float]:
        """Yield the probability of each window that is complete now."""
        held = torch.cat([self._held, samples.detach().to("cpu", torch.float32)])
        num_windows = (len(held) - CONTEXT_SAMPLES) // WINDOW_SAMPLES
        self._held = held[num_windows * WINDOW_SAMPLES :].clone()
        if num_windows == 0:
            return
        windows = held.unfold(0, CONTEXT_SAMPLES + WINDOW_SAMPLES, WINDOW_SAMPLES)
        for first in range(0, num_windows, MAX_WINDOWS):
            batch = windows[first : first + MAX_WINDOWS]
            probabilities, self._state = self._network(batch, self._state)
            yield from probabilities.tolist()

    def finish(self) -> Iterator[float]:
        """Yield the probability of the last window, filled up with zeros, if one has begun."""
        num_rest = len(self._held) - CONTEXT_SAMPLES
        missing = WINDOW_SAMPLES - num_rest if num_rest else 0
        return self.feed(torch.zeros(missing))


@final
class _Network:
    """Silero's network: a spectrum, four convolutions, an LSTM over the windows, a sigmoid."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights
        # On the meta device, which draws no random numbers.
        self._lstm = LSTM(WIDTH, WIDTH, device="meta")
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        parameters = {f"{name}_l0": weights[f"decoder.rnn.{name}"] for name in names}
        self._lstm.load_state_dict(parameters, assign=True)

    @torch.no_grad()
    def __call__(self, windows: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the probabilities of speech, and the state after them.

        :param windows: with their contexts. *Shape:* (W, 576).
        """
        seqs = self._encode(windows)
        seqs, state = self._lstm(seqs, state)
        weight, bias = self._pair("decoder.decoder.2")
        return linear(seqs.relu(), weight.squeeze(-1), bias).sigmoid().squeeze(-1), state

    def _encode(self, windows: Tensor) -> Tensor:
        """Return the features of each window by itself. (W, 576) -> (W, 128)."""
        padded = pad(windows.unsqueeze(1), (0, CONTEXT_SAMPLES), "reflect")
        spectrum = conv1d(padded, self._weights["stft.forward_basis_buffer"], stride=128)
        real, imaginary = spectrum.chunk(2, dim=1)
        seqs = (real.square() + imaginary.square()).sqrt()
        for layer, stride in enumerate((1, 2, 2, 1)):
            weight, bias = self._pair(f"encoder.{layer}.reparam_conv")
            seqs = conv1d(seqs, weight, bias, stride=stride, padding=1).relu()
        return seqs.squeeze(-1)

    def _pair(self, name: str) -> Sequence[Tensor]:
        return self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]


@lru_cache(maxsize=1)
def _load_network() -> _Network:
    """Return the network of the installed silero-vad.

    Only its weights are read: importing the package would set the number of torch's threads. Where
    they lie is no public matter, so pyproject.toml allows the known major version alone.

    :raises ConfigError: silero-vad is not installed.
    """
    package = find_spec("silero_vad")
    if package is None or package.origin is None:
        raise ConfigError("Voice detection needs the package silero-vad: pip install silero-vad.")
    file = Path(package.origin).parent / "data" / "silero_vad.jit"
    with catch_warnings():
        simplefilter("ignore", FutureWarning)  # newer versions of torch call this deprecated
        model = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
    prefix = "_model."  # beside it lies one for 8 kHz
    weights = {
        name.removeprefix(prefix): weight
        for name, weight in model.state_dict().items()
        if name.startswith(prefix)
    }
    return _Network(weights)
