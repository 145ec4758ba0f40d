"""How fast files become texts: our pipeline beside that of omnilingual-asr 0.2.0.

``python benchmarks/transcribe.py`` writes clips of human speech (the mini corpus, one recording
after another) and a checkpoint of random weights of omniASR_LLM_300M's architecture, and
transcribes the clips with it. ``--reference-python`` names an interpreter with
``omnilingual-asr==0.2.0 torchaudio==2.8.0 pyarrow==20.0.0``: the reference transcribes the same
files with the same checkpoint, in turn with ours, so that whatever else the machine does meets
both alike. It is described in ``transcribe_reference.py``.

Both run on the CPU and look for no repetitions. The checkpoint itself makes BOS, padding and EOS
impossible, so each text is as long as ``--max-len`` lets it be; the benchmark ends with an error
where a text has another number of tokens. Voice detection, which only ours does, counts.

The figures are medians over the rounds after the first one, which warms up with one batch:

* ``secs``: from the list of files to the list of texts; models are loaded, and weights brought into
  the engine's form, before. ``times_real_time``: seconds of audio per second.
* ``parts``, of ours: the share of ``audio`` (reading, resampling, voice detection), ``encoder``
  (prompts embedded), ``prefill``, ``steps`` (the decoder alone) and ``rest`` (the search, texts).
* ``speedup``: the seconds of the reference divided by these.

The last line of stdout is one JSON object: the settings, and these figures by beam and program.
``--layers 1 --model-dim 64 --encoder-layers 1 --rounds 1`` tries the benchmark out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from functools import wraps
from importlib.resources import files
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, get_args

import wavellama  # isort: skip  # before fairseq2, for which it loads libsndfile

import soundfile
import torch
from fairseq2.data.tokenizers import Tokenizer

from wavellama.audio.load import load_audio
from wavellama.data.manifest import read_manifest
from wavellama.decoding.engine_view import find_engine
from wavellama.engine import Engine, WeightForm
from wavellama.libsndfile import bundled_libsndfile
from wavellama.units import SAMPLE_RATE

if TYPE_CHECKING:
    from benchmarks.transcribe_reference import (
        ARCH,
        CONTROL_TOKENS,
        NumberTokenizer,
        Run,
        Size,
        start_reference,
    )
else:  # this folder is where a script is looked for, and no package
    from transcribe_reference import (
        ARCH,
        CONTROL_TOKENS,
        NumberTokenizer,
        Run,
        Size,
        start_reference,
    )

LANG: Final = "ita_Latn"
"""The language of the clips."""

CLIP_SECS: Final = 10

PROMPT_LEN: Final = 502
"""The positions of a clip's prompt: 499 frames, the language's marker, the language, BOS."""

NEVER: Final = -1e4
"""What the logit of a control token is a multiple of; all others are of the order of one."""

NUMBERS: Final = {
    "encoder_layers": (24, "layers of the encoder"),
    "layers": (12, "layers of the decoder"),
    "model_dim": (4096, "width of the decoder, a multiple of 16"),
    "max_len": (620, f"the model's longest sequence, {PROMPT_LEN} of it the prompt"),
    "clips": (8, f"clips of {CLIP_SECS} seconds"),
    "batch": (2, "clips that are decoded together"),
    "threads": (torch.get_num_threads(), "threads of torch"),
    "rounds": (3, "rounds that count, after one that does not"),
}
"""Settings that are numbers: their defaults, and what they are."""

LEAST: Final = {"model_dim": 16, "max_len": PROMPT_LEN + 4}
"""The least that a number may be, where it is not 1."""


@dataclass(frozen=True)
class Settings:
    """What is transcribed, and how; the options of the command line."""

    encoder_layers: int
    layers: int
    model_dim: int
    max_len: int
    clips: int
    batch: int
    threads: int
    rounds: int
    beam: list[int]
    weights: list[WeightForm]
    dtype: str

    @property
    def size(self) -> Size:
        """The size of the model."""
        return Size(self.encoder_layers, self.layers, self.model_dim, self.max_len)

    @property
    def num_tokens(self) -> int:
        """How many tokens fit in behind the prompt; both programs leave the last two places."""
        return self.max_len - 2 - PROMPT_LEN

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type of the weights."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def mistakes(self) -> Iterator[str]:
        """Say what is wrong with the settings."""
        for name in NUMBERS:
            value, least = getattr(self, name), LEAST.get(name, 1)
            if value < least:
                yield f"{option(name)} is {value}, but must be at least {least}"
        if self.model_dim % 16 != 0:
            yield f"--model-dim is {self.model_dim}, but must be a multiple of 16"
        if min(self.beam) < 1:
            yield f"--beam is {min(self.beam)}, but must be at least 1"


def option(name: str) -> str:
    """Return how a setting is called on the command line."""
    return f"--{name.replace('_', '-')}"


# What both programs read


def write_clips(folder: Path, num_clips: int) -> list[str]:
    """Write clips of human speech, and return their paths."""
    manifest = Path(str(files("wavellama.assets") / "corpora/mini/manifest.tsv"))
    utterances = read_manifest(manifest).utterances
    recordings = dict.fromkeys(row.audio for row in utterances if row.lang == LANG)
    speech = torch.cat([load_audio(path) for path in recordings])
    clip_len = CLIP_SECS * SAMPLE_RATE
    speech = speech.repeat(-(-num_clips * clip_len // len(speech)))
    paths = [folder / f"clip_{i}.wav" for i in range(num_clips)]
    for path, clip in zip(paths, torch.split(speech, clip_len), strict=False):
        soundfile.write(path, clip.numpy(), SAMPLE_RATE)
    return list(map(str, paths))


def write_checkpoint(path: Path, settings: Settings) -> None:
    """Write random weights that never emit a control token."""
    hub = wavellama.get_wav2vec2_llama_model_hub()
    config = settings.size.apply(hub.get_arch_config(ARCH))
    model = hub.create_new_model(config, device=torch.device("cpu"), dtype=settings.torch_dtype)
    forbid_control_tokens(model)
    torch.save(model.state_dict(), path)


@torch.no_grad()
def forbid_control_tokens(model: wavellama.Wav2Vec2LlamaModel) -> None:
    """Change weights so that control tokens have a large negative logit whatever is read.

    The first channel of every position is one, as nothing in the decoder adds to it; that of its
    normalised output is therefore positive, and all that a control token's logit is made of.
    """
    assert model.lang_embeddings is not None, "the architecture takes a language"
    assert model.encoder_proj.bias is not None, "the architecture has one"
    for embeddings in (model.text_frontend, model.lang_embeddings):
        embeddings.weight[:, 0] = 1.0
    model.encoder_proj.weight[0], model.encoder_proj.bias[0] = 0.0, 1.0
    for name, weight in model.llama_decoder.named_parameters():
        if name.endswith("output_proj.weight"):  # of attention, and of the feed-forward network
            weight[0] = 0.0
    model.final_proj.weight[:, 0] = 0.0
    for token in CONTROL_TOKENS:
        model.final_proj.weight[token] = 0.0
        model.final_proj.weight[token, 0] = NEVER


# The programs


class Contender(Protocol):
    """Transcribes files."""

    def run(self, paths: Sequence[str], beam: int) -> Run:
        """Transcribe files."""
        ...


class Stopwatch:
    """Adds up the seconds that functions take."""

    def __init__(self) -> None:
        self.secs: dict[str, float] = {}

    def watch(self, owner: object, name: str, part: str) -> None:
        """Let all calls of a method count as ``part``."""
        method: Callable[..., Any] = getattr(owner, name)

        @wraps(method)
        def timed(*args: object, **kwargs: object) -> Any:  # noqa: ANN401  as the method
            begin = perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.secs[part] = self.secs.get(part, 0.0) + perf_counter() - begin

        setattr(owner, name, timed)


class Ours:
    """Our pipeline."""

    def __init__(
        self,
        model: wavellama.Wav2Vec2LlamaModel,
        weights: WeightForm,
        settings: Settings,
        stopwatch: Stopwatch,
    ) -> None:
        """
        :param weights: how the engine holds the decoder's weights.
        :param stopwatch: watches the parts of the work.
        """
        self._model, self._weights, self._stopwatch = model, weights, stopwatch
        self._batch_secs = float(settings.batch * CLIP_SECS)
        tokenizer = cast("Tokenizer", NumberTokenizer())  # it can do what is asked of it here
        self._pipeline = wavellama.ASRInferencePipeline(
            None, model=model, tokenizer=tokenizer, device="cpu", dtype=settings.torch_dtype
        )

    def run(self, paths: Sequence[str], beam: int) -> Run:
        """Transcribe files."""
        find_engine(self._model, self._weights)  # stays, until another form is asked for
        options = wavellama.TranscribeOptions(
            search=wavellama.Wav2Vec2LlamaBeamSearchConfig(
                nbest=beam, repetition_guard=False, weights=self._weights
            ),
            # By default a clip may take three quarters of the model's positions; these take more.
            chunk_secs=float(CLIP_SECS),
            batch_secs=self._batch_secs,
        )
        self._stopwatch.secs.clear()
        begin = perf_counter()
        transcripts = list(self._pipeline.stream_results(list(paths), options, lang=LANG))
        secs = perf_counter() - begin
        parts = {"audio": sum(t.timings.audio_secs for t in transcripts), **self._stopwatch.secs}
        parts["rest"] = secs - sum(parts.values())
        return Run(secs, [transcript.text for transcript in transcripts], parts)


def reference_options(checkpoint: Path, settings: Settings) -> list[str]:
    """Return the settings as options of ``transcribe_reference.py``."""
    options = [*settings.size.options(), "--checkpoint", str(checkpoint), "--lang", LANG]
    for name in ("batch", "dtype", "threads"):
        options += [option(name), str(getattr(settings, name))]
    if library := bundled_libsndfile():
        options += ["--libsndfile", str(library)]
    return options


def create_ours(checkpoint: Path, settings: Settings) -> dict[str, Contender]:
    """Create our pipeline for each form of the weights."""
    hub = wavellama.get_wav2vec2_llama_model_hub()
    config = settings.size.apply(hub.get_arch_config(ARCH))
    device, dtype = torch.device("cpu"), settings.torch_dtype
    model = hub.load_custom_model(checkpoint, config, device=device, dtype=dtype, progress=False)
    stopwatch = Stopwatch()
    stopwatch.watch(wavellama.Wav2Vec2LlamaModel, "embed_prompt", "encoder")
    stopwatch.watch(Engine, "prefill", "prefill")
    stopwatch.watch(Engine, "extend", "steps")
    names = ["ours" if form == "native" else f"ours_{form}" for form in settings.weights]
    ours = [Ours(model, form, settings, stopwatch) for form in settings.weights]
    return dict(zip(names, ours, strict=True))


# Measuring


def run_rounds(
    contenders: Mapping[str, Contender], clips: Sequence[str], settings: Settings
) -> dict[int, dict[str, list[Run]]]:
    """Let all contenders run in turn, round after round.

    :returns: the runs of the rounds that count, by beam and contender.
    """
    runs: dict[int, dict[str, list[Run]]] = {
        beam: {name: [] for name in contenders} for beam in settings.beam
    }
    for round_nr in range(settings.rounds + 1):
        paths = clips if round_nr else clips[: settings.batch]
        for beam, (name, contender) in product(settings.beam, contenders.items()):
            run = contender.run(paths, beam)
            print(f"round {round_nr}, beam {beam}, {name}: {run.secs:.2f} s", file=sys.stderr)
            if set(run.lens) != {settings.num_tokens}:
                sys.exit(f"{name} has emitted {run.lens} tokens, not {settings.num_tokens} each.")
            if round_nr:
                runs[beam][name].append(run)
    return runs


def create_rows(runs: Mapping[str, Sequence[Run]]) -> dict[str, dict[str, Any]]:
    """Return what is reported of each contender with one beam."""
    rows = {name: create_row(own) for name, own in runs.items()}
    reference = rows.get("reference")
    if reference is not None:
        for row in rows.values():
            row["speedup"] = reference["secs"] / row["secs"]
    return rows


def create_row(runs: Sequence[Run]) -> dict[str, Any]:
    secs = median(run.secs for run in runs)
    shares = {part: median(run.parts[part] / run.secs for run in runs) for part in runs[0].parts}
    lens = runs[0].lens
    speed = len(lens) * CLIP_SECS / secs
    return {"secs": secs, "times_real_time": speed, "tokens": sum(lens), "parts": shares}


def print_table(rows: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> None:
    for beam, contenders in rows.items():
        for name, row in contenders.items():
            parts = ", ".join(f"{part} {share:.1%}" for part, share in row["parts"].items())
            speedup = f", {row['speedup']:.2f}x" if "speedup" in row else ""
            head = f"beam {beam}, {name:10} {row['secs']:8.2f} s, {row['tokens']} tokens{speedup}"
            print(f"{head}  {parts}")


def parse(argv: Sequence[str]) -> tuple[Settings, str | None]:
    """Read the command line; also return the reference's interpreter."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, (default, what) in NUMBERS.items():
        about = f"{what} ({default})"
        parser.add_argument(option(name), type=int, default=default, metavar="N", help=about)
    parser.add_argument(
        "--beam", type=int, nargs="+", default=[5, 1], metavar="N", help="hypotheses (5 and 1)"
    )
    forms = "how ours holds the decoder's weights: of --dtype, rounded, or several (native)"
    choices = get_args(WeightForm)
    parser.add_argument("--weights", nargs="+", choices=choices, default=["native"], help=forms)
    types = ["bfloat16", "float32"]
    parser.add_argument("--dtype", choices=types, default=types[0], help="of weights (bfloat16)")
    python = "interpreter that has omnilingual-asr 0.2.0, to compare with"
    parser.add_argument("--reference-python", metavar="PATH", help=python)
    args = parser.parse_args(argv)
    settings = Settings(**{item.name: getattr(args, item.name) for item in fields(Settings)})
    mistakes = list(settings.mistakes())
    if args.reference_python and shutil.which(args.reference_python) is None:
        mistakes.append(f"--reference-python {args.reference_python} is no program")
    if mistakes:
        parser.error("; ".join(mistakes))
    return settings, args.reference_python


def main() -> None:
    settings, python = parse(sys.argv[1:])
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        clips = write_clips(Path(folder), settings.clips)
        checkpoint = Path(folder) / "model.pt"
        write_checkpoint(checkpoint, settings)
        contenders = create_ours(checkpoint, settings)
        if python is not None:
            reference = start_reference(python, reference_options(checkpoint, settings))
            contenders["reference"] = stack.enter_context(reference)
        runs = run_rounds(contenders, clips, settings)
    rows = {beam: create_rows(own) for beam, own in runs.items()}
    print_table(rows)
    by_beam = {f"beam_{beam}": own for beam, own in rows.items()}
    print(json.dumps({**asdict(settings), "torch": torch.__version__, **by_beam}))


if __name__ == "__main__":
    main()
