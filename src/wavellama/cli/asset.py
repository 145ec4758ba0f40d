"""``asset list``, ``asset show`` and ``asset convert``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wavellama.cli.pipeline_options import Subparsers
from wavellama.errors import OptionError, UnknownNameError
from wavellama.files import file_digest
from wavellama.yaml_files import write_yaml

if TYPE_CHECKING:
    from fairseq2.assets import AssetCard

KINDS: Final = ("model", "tokenizer", "dataset")

_PLAIN: Final = (str, int, float, bool, dict, list)


FORMS: Final = ("transformers", "onnx", "sherpa-onnx", "published")
"""What ``--to`` may be."""


def add_asset_parser(subparsers: Subparsers) -> None:
    """Add the command ``asset``."""
    asset = subparsers.add_parser(
        "asset", help="list and show models, tokenizers and data sets; convert checkpoints"
    )
    actions = asset.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list the cards that fairseq2 finds")
    listing.add_argument("--kind", choices=KINDS, help="only this kind")
    listing.set_defaults(run=list_assets)
    showing = actions.add_parser("show", help="print a card and its resolved configuration")
    showing.add_argument("name", metavar="NAME")
    showing.set_defaults(run=show_asset)
    converting = actions.add_parser(
        "convert", help="rewrite a checkpoint, or a model in the form of another program"
    )
    converting.add_argument(
        "source",
        metavar="IN",
        help="a file, a step's checkpoint, a run's directory, a folder of Transformers or an"
        " adapter of PEFT; with --to also a model's name",
    )
    converting.add_argument(
        "target",
        nargs="?",
        type=Path,
        metavar="OUT",
        help="FILE.pt or FILE.safetensors; of an adapter: a folder, in PEFT's form",
    )
    converting.add_argument(
        "--out",
        type=Path,
        metavar="OUT",
        help="the same; with --to the folder (published: FILE.pt)",
    )
    converting.add_argument("--to", choices=FORMS, help="the form that is to be written")
    converting.add_argument(
        "--language", metavar="CODE", help="what the model is told, for sherpa-onnx (none)"
    )
    converting.add_argument(
        "--int8", action="store_true", help="write large weights in 8 bits: a quarter of float32"
    )
    converting.add_argument(
        "--merge", action="store_true", help="merge an adapter (of LoRA) with the model it is for"
    )
    converting.set_defaults(run=convert_asset)


def list_assets(args: argparse.Namespace) -> int:
    """Print the cards by kind; cards that cannot be read are named on stderr."""
    from fairseq2.assets import AssetCardError, get_asset_store

    store = get_asset_store()
    for name in sorted({name.rstrip("@") for name in store.asset_names}, key=str.lower):
        try:
            kind = _kind(store.retrieve_card(name))
        except AssetCardError as ex:
            print(f"skipped {name}: {ex}", file=sys.stderr)
            continue
        if kind is not None and args.kind in (None, kind):
            print(f"{kind:10} {name}")
    return 0


def show_asset(args: argparse.Namespace) -> int:
    """Print a card, the cards that it is based on, and what its configuration resolves to."""
    from fairseq2.assets import get_asset_store

    store = get_asset_store()
    card = store.maybe_retrieve_card(args.name)
    if card is None:
        known = {name.rstrip("@") for name in store.asset_names}
        raise UnknownNameError("card", args.name, known, " `wavellama asset list` prints all.")
    write_yaml(_chain(card), sys.stdout)
    if _kind(card) == "model":
        from fairseq2.utils.structured import StandardValueConverter

        from wavellama.checkpoints.hub import find_model

        resolved = StandardValueConverter().unstructure(find_model(card).load_config())
        write_yaml({"resolved": resolved}, sys.stdout)
    return 0


def convert_asset(args: argparse.Namespace) -> int:
    """Rewrite a checkpoint, or a model for another program."""
    target = _find_target(args)
    if args.to is not None:
        return _export(args, target)
    from wavellama.checkpoints.convert import convert_checkpoint

    count = convert_checkpoint(Path(args.source), target, int8=args.int8, merge=args.merge)
    print(f"{target}: {count} tensors.")
    if target.is_file():  # an adapter is a folder, which no card names by its sum
        print(f"checkpoint_sha256: {file_digest(target)}")
    return 0


def _find_target(args: argparse.Namespace) -> Path:
    """Return where to write, after a look at options that do not go together."""
    if (args.target is None) == (args.out is None):
        raise OptionError("Say once where to write: OUT, or --out OUT.")
    if args.to is None and args.language is not None:
        raise OptionError("--language belongs to --to sherpa-onnx.")
    if args.to is not None and args.merge:
        raise OptionError("--merge belongs to OUT.pt and OUT.safetensors, without --to.")
    return Path(args.target or args.out)


def _export(args: argparse.Namespace, target: Path) -> int:
    from wavellama.checkpoints.hub import find_model
    from wavellama.export.forms import ExportSettings, write_form

    settings = ExportSettings(int8=args.int8, language=args.language)
    for file, digest in write_form(args.to, find_model(args.source), target, settings):
        print(f"{digest}  {file}")
    return 0


def _kind(card: AssetCard) -> str | None:
    return next((kind for kind in KINDS if card.has_field(f"{kind}_family")), None)


def _chain(card: AssetCard | None) -> dict[str, Any]:
    """Return the card and its bases: name -> fields."""
    chain: dict[str, Any] = {}
    while card is not None:
        fields = {key: value for key, value in card.metadata.items() if not key.startswith("__")}
        chain[card.name] = {
            key: value if isinstance(value, _PLAIN) else str(value) for key, value in fields.items()
        }
        card = card.base
    return chain
