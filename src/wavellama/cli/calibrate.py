"""``calibrate``: let a model's confidence say how probable it is that a word is right."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from wavellama.cli.pipeline_options import Subparsers, add_option, to_options
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.options import declared
from wavellama.pipeline.options import TranscribeOptions

if TYPE_CHECKING:
    from wavellama.checkpoints.hub import ModelSource
    from wavellama.tasks.calibrate import Calibration, Outcome, SplitReader


def add_calibrate_parser(subparsers: Subparsers) -> None:
    """Add the command ``calibrate``."""
    parser = subparsers.add_parser(
        "calibrate", help="calibrate the confidence of a model's words on speech with its text"
    )
    parser.add_argument(
        "--model",
        required=True,
        metavar="RUN_DIR|CARD",
        help="a training run, which keeps the calibration; of a card, it is printed",
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="data set: folder or manifest"
    )
    parser.add_argument("--split", default="dev", metavar="NAME", help="which part (%(default)s)")
    parser.add_argument(
        "--lang",
        dest="codes",
        nargs="+",
        default=[],
        metavar="CODE",
        help="these languages only: eng_Latn ...",
    )
    parser.add_argument(
        "--max-audio-secs",
        type=float,
        metavar="S",
        help="leave out longer rows (default: than the run was trained on, else 30)",
    )
    known = declared(TranscribeOptions)
    add_option(parser, known["search.nbest"], default=1, help="beams (%(default)s)")
    add_option(parser, known["search.ctc_weight"])
    parser.add_argument(
        "--plot", type=Path, metavar="PNG", help="the picture (default: RUN_DIR/confidence.png)"
    )
    parser.set_defaults(run=_run_calibrate)


def _run_calibrate(args: argparse.Namespace) -> int:
    from wavellama.checkpoints.hub import find_model
    from wavellama.tasks.calibrate import MAX_AUDIO_SECS, SplitReader, calibrate

    config = to_options(args).beam
    model = find_model(args.model)
    source = SplitReader(
        path=args.data,
        split=args.split,
        languages=tuple(args.codes),
        max_audio_secs=args.max_audio_secs or model.max_audio_secs or MAX_AUDIO_SECS,
    )
    found = calibrate(_recognise(model, source, config), args.split)
    print(f"{found.num_words} words, {found.accuracy:.1%} of them right.")
    for name, scores in (("before", found.before), ("after", found.after)):
        print(f"{name:6}  ECE {scores.ece:.3f}  Brier {scores.brier:.3f}  AUC {scores.auc:.3f}")
    _save(model, found)
    plot = args.plot or (None if model.run is None else model.run.folder / "confidence.png")
    if plot is not None:
        _draw(plot, found, f"{Path(args.model).name}: {found.num_words} words of {args.split}")
    return 0


def _recognise(
    source: ModelSource, speech: SplitReader, config: Wav2Vec2LlamaBeamSearchConfig
) -> list[list[Outcome]]:
    from wavellama.data.progress import track
    from wavellama.pipeline.devices import default_device
    from wavellama.tasks.calibrate import check_decoder, recognise_words

    def bar(outcomes: Iterable[list[Outcome]], total: int) -> Iterable[list[Outcome]]:
        return track(outcomes, "recognising", total)

    model = check_decoder(source.load(device=default_device()))
    return recognise_words(model, source.load_tokenizer(), speech, config, bar)


def _save(model: ModelSource, found: Calibration) -> None:
    """Store the calibration with a training run; print what goes into a card."""
    from wavellama.tasks.calibrate import save_confidence

    confidence = found.confidence
    if model.run is not None:
        path = save_confidence(model.run.folder, confidence)
        print(f"{path} is what the run's confidence follows now.")
        return
    values = f"temperature: {confidence.temperature:.4g}, bias: {confidence.bias:.4g}"
    print(f"Add this line to the card {model.card.name}:\nconfidence: {{{values}}}")


def _draw(path: Path, found: Calibration, title: str) -> None:
    from wavellama.errors import DataError
    from wavellama.tasks.plots import draw_reliability, save_figure

    systems = {"before": found.before, "after": found.after}
    try:
        save_figure(draw_reliability(systems, title), path)
    except OSError as ex:
        raise DataError(f"{path} cannot be written ({ex}). Say where: --plot PNG.") from ex
    print(f"Picture: {path}")
