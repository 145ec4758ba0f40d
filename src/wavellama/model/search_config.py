"""How the decoder searches; read by the command line, so nothing here imports torch beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from typing_extensions import override

from wavellama.faults import Checked
from wavellama.options import find_faults, option


@dataclass(kw_only=True)
class Wav2Vec2LlamaBeamSearchConfig(Checked):
    """How the decoder searches for the text."""

    nbest: int = option(
        5,
        "search",
        "beams (default: as many as --nbest returns)",
        metavar="N",
        flag="--beam",
        low=1,
    )
    """The beam size, and the largest number of hypotheses returned per row."""

    length_norm: bool = False
    """If ``True``, hypotheses are ranked by their mean log-probability per token."""

    repetition_guard: bool = True
    """If ``True``, a hypothesis that repeats itself stops (see the two thresholds below)."""

    compression_window: int = option(100, low=2)
    """The number of last tokens whose compression ratio the repetition guard watches."""

    compression_threshold: float = option(4.0, low=0.0)
    """The zlib compression ratio above which a hypothesis counts as repeating itself."""

    max_new_tokens: int | None = option(None, low=1)
    """The most tokens to emit per row; ``None`` leaves it to ``max_generation_length``."""

    weights: Literal["native", "int8", "int4"] = option(
        "native", "model", "int8, int4: the decoder in 8 or 4 bits, on a CPU"
    )
    """The form of the decoder's weights while it writes: the model's own type, or (on a CPU)
    8 bits with a scale per output, or 4 bits with a scale per 32 inputs of an output. The engine's
    copy of the weights takes a half or a third of what it takes in bfloat16, and so does the time
    of a step of one hypothesis; 4 bits change what is written."""

    ctc_weight: float = option(
        0.0, "search", "share of a CTC head ({:g})", metavar="W", low=0.0, high=1.0
    )
    """The share of the CTC head in the score of a hypothesis, from 0 (the decoder alone) to 1; has
    no effect on a model without a CTC head."""

    ctc_draft: bool = option(False, "search", "read drafts of the CTC head: faster", is_switch=True)
    """Whether the CTC head's text is the draft of a greedy search (``nbest`` 1), which then reads
    several tokens per step. The text stays the same; without a CTC head nothing changes."""

    @override
    def find_faults(self) -> Iterator[str]:
        yield from find_faults(self)
        if self.ctc_draft and (self.nbest != 1 or self.ctc_weight != 0.0):
            yield "`ctc_draft` needs `nbest` 1 and `ctc_weight` 0."
