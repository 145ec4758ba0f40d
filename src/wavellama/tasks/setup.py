"""What a training recipe does to a model before the first step, and at the start of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias, cast

from fairseq2.device import Device
from fairseq2.logging import log
from fairseq2.models.transformer import StandardTransformerEncoder
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrModel
from fairseq2.optim.lr_schedulers import AbstractLRScheduler, LRScheduler
from fairseq2.recipe import RecipeContext
from fairseq2.recipe.component import ComponentManager
from torch.nn import Module
from torch.optim import Optimizer

from wavellama.checkpoints.convert import WRITERS
from wavellama.checkpoints.eight_bits import from_eight_bits
from wavellama.checkpoints.hub import load_model
from wavellama.checkpoints.reading import open_checkpoint
from wavellama.errors import ConfigError
from wavellama.model.masking import MaskerFactory
from wavellama.model.mel import MelExtractor
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.spectral import SpectralAugment
from wavellama.tasks.adapters import adapt, model_device
from wavellama.tasks.config import FreezeSection, MaskerSection

AsrModule: TypeAlias = Wav2Vec2LlamaModel | Wav2Vec2AsrModel

ENCODER_PARTS = ("encoder_frontend", "encoder", "masker", "ctc_head")
"""Modules that ``freeze.encoder_steps`` freezes; all others belong to the decoder."""


def keep_schedule(optimizer: Optimizer, scheduler: LRScheduler) -> None:
    """Let a run that goes on follow the schedule of its own configuration.

    A checkpoint holds the schedule of the run that wrote it, and the rates of its next step; all
    that is taken of it is how many steps are done. A scheduler whose rates are no function of the
    step keeps what the checkpoint holds.
    """
    if not isinstance(scheduler, AbstractLRScheduler):
        return
    configured = scheduler.state_dict()

    def compute_rates(_: Optimizer) -> None:
        """Compute the rates of the next step; the scheduler is restored before the optimizer."""
        saved = scheduler.state_dict()
        position = {"last_epoch": saved["last_epoch"] - 1, "_step_count": saved["_step_count"]}
        scheduler.load_state_dict({**configured, **position})
        scheduler.step()

    optimizer.register_load_state_dict_post_hook(compute_rates)


def set_masker(context: RecipeContext, model: AsrModule, section: MaskerSection | None) -> None:
    """Give the model the masker that the configuration names; without a section it keeps its own.

    :raises ComponentNotKnownError: there is no masker of that name.
    """
    if section is None:
        return
    manager = context.resolver.resolve(ComponentManager)
    create_masker = manager.create_component(MaskerFactory, section.name, section.config)
    model.masker = create_masker(adapt(model).encoder_dim)
    if model.masker is not None:
        model.masker.to(model_device(model))


def set_spectral_augment(model: AsrModule, augment: SpectralAugment) -> None:
    """Let the model's filter banks be warped and masked in training.

    :raises ConfigError: the model computes no filter banks.
    """
    if augment == SpectralAugment():
        return
    extractor = model.encoder_frontend.feature_extractor
    if not isinstance(extractor, MelExtractor):
        raise ConfigError(
            "`augment.spectral` changes filter banks, but this architecture reads raw waveforms;"
            " use `masker: {name: standard}` instead."
        )
    extractor.augment = augment


def copy_encoder(model: AsrModule, source: str) -> None:
    """Copy front end and encoder of a card's or run's model, or of a converted checkpoint file.

    :raises ConfigError: there is no such encoder, or it has another shape.
    :raises CheckpointError: the file cannot be read.
    """
    weights = _read_weights(source, model_device(model))
    for part in ("encoder_frontend", "encoder"):
        own = {
            name.removeprefix(f"{part}."): weight
            for name, weight in weights.items()
            if name.startswith(f"{part}.")
        }
        if not own:
            raise ConfigError(f"`encoder_from`: there is no `{part}` in {source}.")
        try:
            getattr(model, part).load_state_dict(own)
        except RuntimeError as ex:
            reason = str(ex).splitlines()[1].strip()
            raise ConfigError(
                f"`encoder_from`: the {part} of {source} does not fit this architecture: {reason}"
            ) from ex
    log.info("Encoder copied from {}.", source)


def _read_weights(source: str, device: Device) -> Mapping[str, object]:
    if Path(source).suffix in WRITERS:
        return from_eight_bits(open_checkpoint(Path(source)))
    return load_model(source, device=device).state_dict()


class Freezer:
    """Freezes encoder and decoder for the first steps of a run, lower layers for all of it.

    What is frozen when it is made, as by ``lora``, stays so.
    """

    def __init__(self, model: Module, section: FreezeSection) -> None:
        """:raises ConfigError: the encoder has fewer layers than are to be frozen."""
        self._section = section
        self._lower = _trainable(_lower_layers(model, section.encoder_layers))
        children = dict(model.named_children())
        self._encoder = _trainable(children[name] for name in children if name in ENCODER_PARTS)
        self._decoder = _trainable(children[name] for name in children if name not in ENCODER_PARTS)

    def start_step(self, step_nr: int) -> None:
        """Freeze or thaw what ``step_nr`` (the first one is 1) asks for."""
        _set_trainable(self._encoder, _is_over(self._section.encoder_steps, step_nr))
        _set_trainable(self._decoder, _is_over(self._section.decoder_steps, step_nr))
        _set_trainable(self._lower, False)


def _lower_layers(model: Module, num_layers: int) -> list[Module]:
    """Return the front end and the first layers of the encoder; nothing for 0 layers."""
    encoder = cast(StandardTransformerEncoder, model.encoder)
    layers = list(encoder.layers)
    if num_layers > len(layers):
        raise ConfigError(
            f"`freeze.encoder_layers` is {num_layers}, but the encoder has {len(layers)} layers."
        )
    return [cast(Module, model.encoder_frontend), *layers[:num_layers]] if num_layers else []


def _trainable(modules: Iterable[Module]) -> list[tuple[Module, str]]:
    """Return where the trainable parameters are; FSDP puts others in their place in each step."""
    inner = [module for outer in modules for module in outer.modules()]
    return [
        (module, name)
        for module in inner
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.requires_grad
    ]


def _is_over(num_steps: int, step_nr: int) -> bool:
    return 0 <= num_steps < step_nr


def _set_trainable(places: Iterable[tuple[Module, str]], trainable: bool) -> None:
    for module, name in places:
        module.get_parameter(name).requires_grad_(trainable)
