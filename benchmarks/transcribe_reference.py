"""Transcribes with omnilingual-asr 0.2.0 ("the reference") in an interpreter of its own.

``benchmarks/transcribe.py --reference-python`` starts this file. It loads the checkpoint into the
reference's own model, writes ``{"ready": true}``, and answers each line of JSON on stdin (paths and
number of beams) with one on stdout: the seconds from files to texts by the reference's own
``ASRInferencePipeline.transcribe``, and the texts.

What both programs must agree on is defined here, where nothing of wavellama is needed: the size of
the model, a tokenizer whose texts are the numbers of the tokens, and both ends of the pipe.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import IO, Any, Final, cast

import torch
from torch import Tensor

ARCH: Final = "300m"
"""The architecture of omniASR_LLM_300M (LLM_ASR_LID)."""

CONTROL_TOKENS: Final = (0, 1, 2)
"""BOS, padding and EOS of the published models."""


@dataclass(frozen=True)
class Size:
    """What of the architecture can be made smaller, and its longest sequence."""

    encoder_layers: int
    layers: int
    model_dim: int
    max_len: int

    def apply(self, config: Any) -> Any:  # noqa: ANN401  the class of either program
        """Return a configuration of the family ``wav2vec2_llama``, changed to this size."""
        config.wav2vec2_asr_config.encoder_config.num_encoder_layers = self.encoder_layers
        decoder = config.llama_config
        decoder.num_layers, decoder.max_seq_len = self.layers, self.max_len
        decoder.model_dim = decoder.ffn_inner_dim = self.model_dim
        return config

    def options(self) -> list[str]:
        """Return the size as options of the command line."""
        return [f"--{name.replace('_', '-')}={value}" for name, value in asdict(self).items()]


@dataclass(frozen=True)
class Run:
    """What transcribing all clips once took."""

    secs: float

    texts: list[str]

    parts: Mapping[str, float] = field(default_factory=dict)
    """The seconds of some of the work; empty where nobody looked."""

    @property
    def lens(self) -> list[int]:
        """The number of tokens of each text."""
        return [len(text.split()) for text in self.texts]


class NumberTokenizer:
    """Writes each token as its number: a stand-in for a tokenizer, which reads nothing else."""

    vocab_info = SimpleNamespace(size=9812, bos_idx=0, pad_idx=1, eos_idx=2, unk_idx=3)

    def create_encoder(self) -> Callable[[str], Tensor]:
        """Return what turns numbers into tokens. (S)."""
        return lambda text: torch.tensor([int(word) for word in text.split()])

    def create_decoder(self, *, skip_special_tokens: bool = False) -> Callable[[Tensor], str]:
        """Return what turns tokens (S) into numbers."""
        hidden = CONTROL_TOKENS if skip_special_tokens else ()
        return lambda tokens: " ".join(str(t) for t in tokens.tolist() if t not in hidden)


class Transcriber:
    """The reference's model under its own pipeline."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._batch: int = args.batch
        self._lang: str = args.lang
        self._dtype: torch.dtype = getattr(torch, args.dtype)
        size = Size(*(getattr(args, item.name) for item in fields(Size)))
        self._model = load_model(args.checkpoint, size, self._dtype)

    def run(self, paths: Sequence[str], beam: int) -> Run:
        """Transcribe files."""
        pipeline = self._create_pipeline(beam)
        langs = [self._lang] * len(paths)
        begin = perf_counter()
        texts = pipeline.transcribe(list(paths), lang=langs, batch_size=self._batch)
        return Run(perf_counter() - begin, texts)

    def _create_pipeline(self, beam: int) -> Any:  # noqa: ANN401  a class of the reference
        """Return a pipeline that never takes a hypothesis for a repetition."""
        from fairseq2.data.tokenizers import Tokenizer
        from omnilingual_asr.models.inference.pipeline import (  # type: ignore[import-not-found]
            ASRInferencePipeline,  # (it lives in the other interpreter)
        )
        from omnilingual_asr.models.wav2vec2_llama.config import (  # type: ignore[import-not-found]
            Wav2Vec2LlamaBeamSearchConfig,
        )

        Tokenizer.register(NumberTokenizer)
        return ASRInferencePipeline(
            None,
            model=self._model,
            tokenizer=NumberTokenizer(),
            device="cpu",
            dtype=self._dtype,
            beam_search_config=Wav2Vec2LlamaBeamSearchConfig(
                nbest=beam, compression_threshold=float("inf")
            ),
        )


def load_model(checkpoint: Path, size: Size, dtype: torch.dtype) -> Any:  # noqa: ANN401
    """Load the checkpoint into the reference's own model."""
    from fairseq2 import init_fairseq2
    from omnilingual_asr.models.wav2vec2_llama.hub import (  # type: ignore[import-not-found]
        get_wav2vec2_llama_model_hub,
    )

    init_fairseq2()
    hub = get_wav2vec2_llama_model_hub()
    config = size.apply(hub.get_arch_config(ARCH))
    device = torch.device("cpu")
    return hub.load_custom_model(checkpoint, config, device=device, dtype=dtype, progress=False)


# The other end


class Reference:
    """The reference, seen from the other program."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Wait until the interpreter has loaded its model."""
        self._requests, self._answers = process.stdin, process.stdout
        self._read()

    def run(self, paths: Sequence[str], beam: int) -> Run:
        """Transcribe files."""
        request = json.dumps({"paths": list(paths), "beam": beam})
        print(request, file=self._requests, flush=True)
        return Run(**self._read())

    def _read(self) -> dict[str, Any]:
        line = cast("IO[str]", self._answers).readline()
        if not line:
            sys.exit("The reference's interpreter has ended; its own messages are above.")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def start_reference(python: str, options: Sequence[str]) -> Iterator[Reference]:
    """Start this file with its options in another interpreter; it ends with the context."""
    command = [python, "-I", __file__, *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield Reference(process)


# The program


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for item in fields(Size):
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=int, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights of both programs")
    parser.add_argument("--batch", type=int, required=True, help="clips that are decoded together")
    parser.add_argument("--lang", required=True, help="the language of all clips")
    parser.add_argument("--dtype", required=True, help="of the weights")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--libsndfile", help="the library's path, where the system has none")
    return parser.parse_args(argv)


def main() -> None:
    args = parse(sys.argv[1:])
    if args.libsndfile:
        ctypes.CDLL(args.libsndfile, mode=ctypes.RTLD_GLOBAL)
    torch.set_num_threads(args.threads)
    transcriber = Transcriber(args)
    gc.collect()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(transcriber.run(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
