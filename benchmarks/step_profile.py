"""Where the time of a decoding step goes, by torch's profiler.

``python benchmarks/step_profile.py --prompt 500 --beam 5`` takes the options of ``decode.py``,
reads the prompts, takes ``--new-tokens`` steps in which each row has ``--beam`` hypotheses, and
prints the share of their time that each operation takes, from 1 % on. The last line is a JSON
object.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import wavellama  # noqa: F401  # isort: skip  # before fairseq2, for which it loads libsndfile

import torch
from torch.profiler import ProfilerActivity, profile

from wavellama.engine import EngineStepDecoder

if TYPE_CHECKING:
    from benchmarks.decode import create_contexts, create_engine, create_model
    from benchmarks.decode_settings import Settings, parse
else:  # this folder is where a script is looked for, and no package
    from decode import create_contexts, create_engine, create_model
    from decode_settings import Settings, parse

WARM_UP = 3


@torch.no_grad()
def take_steps(decoder: EngineStepDecoder, settings: Settings, num_steps: int) -> None:
    """Take steps as a beam search does that keeps all hypotheses of all rows."""
    num_hyps = settings.beam * len(settings.prompt_lens)
    for _ in range(num_steps):
        decoder.reorder(list(range(num_hyps)))
        decoder.step([3] * num_hyps).topk(settings.beam).indices.tolist()


def measure(settings: Settings) -> dict[str, float]:
    """Return the share of each operation."""
    engine, _ = create_engine(create_model(settings), settings)
    decoder = EngineStepDecoder(engine, create_contexts(settings))
    decoder.prefill()
    rows = range(len(settings.prompt_lens))
    decoder.reorder([row for row in rows for _ in range(settings.beam)])
    decoder.step([3] * settings.beam * len(rows))
    take_steps(decoder, settings, WARM_UP)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        take_steps(decoder, settings, settings.new_tokens)
    secs = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    total = sum(secs.values())
    return {name: own / total for name, own in sorted(secs.items(), key=lambda item: -item[1])}


def main() -> None:
    settings, _ = parse(sys.argv[1:], __doc__)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    shares = {name: share for name, share in measure(settings).items() if share >= 0.01}
    for name, share in shares.items():
        print(f"{name:40}{share:7.1%}")
    print(json.dumps({"prompt": settings.prompt, "beam": settings.beam, **shares}))


if __name__ == "__main__":
    main()
