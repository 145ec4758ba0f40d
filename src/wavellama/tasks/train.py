"""The recipe ``train``."""

from __future__ import annotations

from dataclasses import replace

from fairseq2.checkpoint import CheckpointManager
from fairseq2.datasets import DataReader, Seq2SeqBatch, SyncMode
from fairseq2.device import CPU
from fairseq2.metrics import MetricBag
from fairseq2.metrics.recorders import MetricRecorder
from fairseq2.recipe import Recipe, RecipeContext
from fairseq2.runtime.dependency import DependencyContainer
from fairseq2.task import Task
from torch.nn import Module
from typing_extensions import override

from wavellama.checkpoints.trained_run import write_lengths
from wavellama.data.coverage import check_texts
from wavellama.data.dataset import AsrDataset
from wavellama.data.facts import facts_of
from wavellama.errors import ConfigError
from wavellama.fairseq2_private import register_or_replace, set_early_stopper
from wavellama.model.cpu_training import speed_up
from wavellama.tasks.adapters import adapt
from wavellama.tasks.config import FreezeSection, TrainConfig
from wavellama.tasks.curves import CurveRecorder
from wavellama.tasks.lora import set_lora
from wavellama.tasks.setup import (
    AsrModule,
    Freezer,
    copy_encoder,
    keep_schedule,
    set_masker,
    set_spectral_augment,
)
from wavellama.tasks.stopping import create_stopper
from wavellama.tasks.transcriber import create_transcriber
from wavellama.tasks.units import LossUnit, ValidationUnit
from wavellama.tasks.worlds import create_checkpoint_manager


class AsrTraining(Recipe):
    """Trains a Wav2Vec2-Llama or CTC model, new or loaded, and validates it by decoding."""

    config_kls = TrainConfig

    _has_idle_parts = False
    """Whether the objective leaves decoder or CTC head without gradients."""

    @override
    def register(self, container: DependencyContainer) -> None:
        """Add the curves, which are drawn of what others recorded; let any world go on."""
        container.collection.register_type(MetricRecorder, CurveRecorder)
        register_or_replace(container, CheckpointManager, None, create_checkpoint_manager)

    @override
    def create_task(self, context: RecipeContext) -> Task:
        config = context.get_config_as(TrainConfig)
        stopper = create_stopper(context, config.early_stopping)
        adapt(context.get_model()).use_tokenizer(context.get_tokenizer())
        train_reader, valid_reader = _open_splits(context, config)
        train_unit, valid_unit = _create_units(context, config)
        _check_score_metric(config.regime.score_metric, valid_unit)
        trainer = context.create_trainer(train_unit, train_reader, [valid_unit], [valid_reader])
        keep_schedule(context.get_optimizer(), context.get_lr_scheduler())
        if stopper is not None:
            set_early_stopper(trainer, stopper)
        return trainer

    @override
    def setup_model(self, context: RecipeContext, model: Module, newly_initialized: bool) -> Module:
        """Give the model what the configuration names, before it is wrapped."""
        config, adapter = context.get_config_as(TrainConfig), adapt(model)
        set_lora(context, model, config.model, config.lora)
        assert isinstance(model, AsrModule), "adapt knows no others"
        adapter.check_objective(config.objective)
        if config.encoder_from is not None and newly_initialized:
            copy_encoder(model, config.encoder_from)
        self._has_idle_parts = adapter.has_idle_parts(config.objective)
        adapter.reseed(config.common.seed)
        set_masker(context, model, config.masker)
        set_spectral_augment(model, config.augment.spectral)
        if context.gangs.device.type == "cpu":
            for part in ("encoder_frontend", "encoder"):
                speed_up(model.get_submodule(part))
        return model

    @override
    def has_static_autograd_graph(self, context: RecipeContext) -> bool:
        """Say whether every step trains the same parameters."""
        config = context.get_config_as(TrainConfig)
        return config.freeze == FreezeSection() and not self._has_idle_parts


def _open_splits(
    context: RecipeContext, config: TrainConfig
) -> tuple[DataReader[Seq2SeqBatch], DataReader[Seq2SeqBatch]]:
    section, tokenizer, gangs = config.dataset, context.get_tokenizer(), context.gangs
    dataset = context.get_dataset_as(AsrDataset)
    adapter = adapt(context.get_model())
    utterances = dataset.utterances(section.train_split)
    check_texts(utterances, tokenizer, section.max_unwritable_share)
    train_options, valid_options = (
        replace(section.reader_options(context.output_dir, split, adapter), skip_bad_texts=True)
        for split in (section.train_split, section.valid_split)
    )
    train_options = replace(
        train_options,
        shuffle=True,
        seed=config.common.seed,
        betas=section.betas,
        short_first=section.short_first,
        speeds=tuple(config.augment.speeds),
        concat_p=config.augment.concat_p,
        num_accumulate=config.trainer.grad_accumulation.num_batches,
        sync_mode=SyncMode.UNTIL_FIRST,
    )
    readers = (
        dataset.create_reader(section.train_split, tokenizer, gangs, train_options),
        dataset.create_reader(section.valid_split, tokenizer, gangs, valid_options),
    )
    if gangs.root.rank == 0:
        facts = facts_of(utterances)
        write_lengths(context.output_dir, facts.secs[train_options.find_kept(facts)].tolist())
    return readers


def _create_units(context: RecipeContext, config: TrainConfig) -> tuple[LossUnit, ValidationUnit]:
    model, objective = context.get_model(), config.objective
    adapter = adapt(model)
    dp_model = context.get_data_parallel_model()
    freezer = Freezer(model, config.freeze)
    freezer.start_step(1)
    transcriber = create_transcriber(
        context, config.dataset.valid_split, decode=objective.ctc_weight < 1.0
    )
    return (
        LossUnit(dp_model, adapter, objective, freezer, context.gangs.dp.rank),
        ValidationUnit(dp_model, adapter, objective, transcriber),
    )


def _check_score_metric(name: str | None, unit: ValidationUnit) -> None:
    """Check that validation measures the score; fairseq2 would find out after the first one."""
    measured = MetricBag(device=CPU)
    unit.prepare_metric_bag(measured)
    if name is not None and name not in measured.metrics:
        raise ConfigError(
            f"`regime.score_metric` is {name}, which the validation of this model and objective"
            f" does not measure; choose one of {', '.join(measured.metrics)}."
        )
