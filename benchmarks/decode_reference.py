"""Times the beam search of omnilingual-asr 0.2.0 ("the reference") in an interpreter of its own.

``benchmarks/decode.py --reference-python`` starts this file; it needs nothing of wavellama. It
builds the reference's own model with random weights on the CPU, writes ``{"ready": true}``, and
answers each line ``run`` on stdin with a line of JSON on stdout: the seconds of one run.

* The prompts are random embeddings, given to the reference's own search as a model's would be.
* The length limit and the guard against repetitions stay out of the way: no hypothesis ends before
  the row with the longest prompt has ``--new-tokens`` tokens, the last of which is then EOS in all
  rows. (Rows with shorter prompts emit more, but at no cost: the reference's batch never shrinks.)
* The time to the first token ends when the row with the longest prompt has its first logits.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

EOS = 2
"""The end token of the reference's models, by its default configuration."""


class EosAtCall(Module):
    """The output layer, but EOS is impossible before a certain call and certain from it on."""

    def __init__(self, proj: Module) -> None:
        super().__init__()
        self._proj = proj
        self._num_calls = 0
        self.times: list[float] = []
        """When each call was made, by ``perf_counter``."""

    def start(self, num_calls: int) -> None:
        """Begin a run in which call ``num_calls`` emits EOS."""
        self._num_calls = num_calls
        self.times.clear()

    def forward(self, seqs: Tensor) -> Tensor:
        """Return the logits (N, 1, V) of decoder outputs (N, 1, M)."""
        logits: Tensor = self._proj(seqs)
        self.times.append(perf_counter())
        logits[..., EOS] = 1e4 if len(self.times) >= self._num_calls else -torch.inf
        return logits


class Reference:
    """The reference's model and search, ready to run."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._new_tokens: int = args.new_tokens
        self._prompt_lens: list[int] = args.prompt
        model = create_model(args)
        self._proj = model.final_proj = EosAtCall(model.final_proj)
        shape = (len(args.prompt), max(args.prompt), args.model_dim)
        self._prompts = torch.randn(shape, dtype=getattr(torch, args.dtype)) * args.model_dim**-0.5
        self._generator = create_generator(model, args.beam)

    def run(self) -> dict[str, float]:
        """Return the seconds to the first token, per further token, and in total."""
        num_waiting = max(self._prompt_lens) - min(self._prompt_lens)
        num_calls = num_waiting + self._new_tokens
        self._proj.start(num_calls)
        begin = perf_counter()
        self._generator.generate_hypotheses_one_segment(self._prompts, self._prompt_lens)
        total = perf_counter() - begin
        if len(self._proj.times) != num_calls:
            raise RuntimeError(f"{len(self._proj.times)} calls of the decoder, not {num_calls}.")
        prefill = self._proj.times[num_waiting] - begin
        step = (total - prefill) / (self._new_tokens - 1)
        return {"prefill_s": prefill, "step_s": step, "total_s": total}


def create_model(args: argparse.Namespace) -> Any:  # noqa: ANN401  a class of the reference
    """Create the reference's model with a decoder of the size asked for, and a small encoder."""
    from fairseq2.models.llama import LLaMAConfig
    from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrConfig
    from fairseq2.nn.utils.module import reset_non_persistent_buffers, to_empty
    from omnilingual_asr.models.wav2vec2_llama.config import (  # type: ignore[import-not-found]
        Wav2Vec2LlamaConfig,  # (it lives in the other interpreter)
    )
    from omnilingual_asr.models.wav2vec2_llama.factory import (  # type: ignore[import-not-found]
        create_wav2vec2_llama_model,
    )

    asr = Wav2Vec2AsrConfig(target_vocab_size=args.vocab, use_masking=False)
    asr.encoder_config.num_encoder_layers = 1
    llama = LLaMAConfig(
        model_dim=args.model_dim,
        max_seq_len=args.max_len,
        vocab_size=args.vocab,
        pad_idx=1,
        num_layers=args.layers,
        num_attn_heads=args.heads,
        num_key_value_heads=args.heads,
        ffn_inner_dim=args.model_dim,
    )
    config = Wav2Vec2LlamaConfig(wav2vec2_asr_config=asr, llama_config=llama)
    torch.set_default_dtype(getattr(torch, args.dtype))
    with torch.device("meta"):
        model = create_wav2vec2_llama_model(config)
    torch.set_default_dtype(torch.float32)
    to_empty(model, torch.device("cpu"))
    reset_non_persistent_buffers(model)
    fill_randomly(model)
    return model.eval()


@torch.no_grad()
def fill_randomly(model: Module) -> None:
    """Give matrices random values of a scale that keeps activations in range, vectors ones."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=parameter.size(-1) ** -0.5)
        else:
            parameter.fill_(1.0)


def create_generator(model: Any, beam: int) -> Any:  # noqa: ANN401  classes of the reference
    """Create the reference's search, which never takes a hypothesis for a repetition."""
    from omnilingual_asr.models.wav2vec2_llama.beamsearch import (  # type: ignore[import-not-found]
        Wav2Vec2LlamaBeamSearchSeq2SeqGenerator,
    )
    from omnilingual_asr.models.wav2vec2_llama.config import Wav2Vec2LlamaBeamSearchConfig

    config = Wav2Vec2LlamaBeamSearchConfig(nbest=beam, compression_threshold=float("inf"))
    return Wav2Vec2LlamaBeamSearchSeq2SeqGenerator(model, config, model.streaming_config)


def return_free_memory() -> None:
    """Give freed memory back to the system, so that a run's peak is its own."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model-dim", "layers", "heads", "vocab", "max-len", "new-tokens", "beam"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--prompt", type=int, nargs="+", required=True, help="positions per row")
    parser.add_argument("--dtype", required=True, help="of weights and prompts")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--libsndfile", help="the library's path, where the system has none")
    return parser.parse_args(argv)


def main() -> None:
    args = parse(sys.argv[1:])
    if args.libsndfile:
        ctypes.CDLL(args.libsndfile, mode=ctypes.RTLD_GLOBAL)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    reference = Reference(args)
    return_free_memory()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        if line.strip() != "run":
            raise ValueError(f"unknown request: {line.strip()!r}")
        answer = reference.run()
        return_free_memory()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
