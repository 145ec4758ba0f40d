"""The recipe ``train``."""

from __future__ import annotations

from dataclasses import replace
from typing import final

from fairseq2.datasets import SyncMode
from fairseq2.recipe import Recipe, RecipeContext
from fairseq2.task import Task
from torch.nn import Module
from typing_extensions import override

from wavellama.data.dataset import AsrDataset
from wavellama.errors import ConfigError
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.tasks.config import FreezeSection, TrainConfig
from wavellama.tasks.setup import (
    Freezer,
    copy_encoder,
    set_masker,
    set_spectral_augment,
)
from wavellama.tasks.transcriber import check_vocabulary, create_transcriber
from wavellama.tasks.units import LossUnit, ValidationUnit


@final
class AsrTraining(Recipe):
    """Trains a Wav2Vec2-Llama model, new or loaded, and validates it by decoding."""

    _has_idle_parts = False
    """Whether the objective leaves decoder or CTC head without gradients."""

    @override
    def create_task(self, context: RecipeContext) -> Task:
        config = context.get_config_as(TrainConfig)
        section, tokenizer = config.dataset, context.get_tokenizer()
        dataset = context.get_dataset_as(AsrDataset)
        model = context.get_model_as(Wav2Vec2LlamaModel)
        check_vocabulary(model, tokenizer)
        gangs, dp_model = context.gangs, context.get_data_parallel_model()
        options = section.reader_options(context.output_dir, section.train_split)
        train_options = replace(
            options,
            shuffle=True,
            seed=config.common.seed,
            language_column=model.language_column_name,
            speeds=tuple(config.augment.speeds),
            concat_p=config.augment.concat_p,
            num_accumulate=config.trainer.grad_accumulation.num_batches,
            sync_mode=SyncMode.UNTIL_FIRST,
        )
        train_reader = dataset.create_reader(section.train_split, tokenizer, gangs, train_options)
        valid_options = replace(
            section.reader_options(context.output_dir, section.valid_split),
            language_column=model.language_column_name,
        )
        valid_reader = dataset.create_reader(section.valid_split, tokenizer, gangs, valid_options)
        freezer = Freezer(model, config.freeze)
        freezer.start_step(1)
        decode = config.objective.ctc_weight < 1.0
        return context.create_trainer(
            LossUnit(dp_model, model, config.objective, freezer, gangs.dp.rank),
            train_reader,
            [ValidationUnit(dp_model, config.objective, create_transcriber(context, decode))],
            [valid_reader],
        )

    @override
    def setup_model(self, context: RecipeContext, model: Module, newly_initialized: bool) -> Module:
        """Give the model what the configuration names, before it is wrapped."""
        if not isinstance(model, Wav2Vec2LlamaModel):
            raise ConfigError(f"Cannot train a {type(model).__name__}; need wav2vec2_llama.")
        config = context.get_config_as(TrainConfig)
        if config.objective.ctc_weight > 0.0 and model.ctc_head is None:
            raise ConfigError(
                f"`objective.ctc_weight` is {config.objective.ctc_weight:g}, but the model has no"
                " CTC head; set `model.config_overrides.ctc_head: true`."
            )
        if config.encoder_from is not None and newly_initialized:
            copy_encoder(model, config.encoder_from)
        weight = config.objective.ctc_weight
        self._has_idle_parts = weight == 1.0 or (weight == 0.0 and model.ctc_head is not None)
        model.reseed(config.common.seed)
        set_masker(context, model, config.masker)
        set_spectral_augment(model, config.augment.spectral)
        return model

    @override
    def has_static_autograd_graph(self, context: RecipeContext) -> bool:
        """Say whether every step trains the same parameters."""
        config = context.get_config_as(TrainConfig)
        return config.freeze == FreezeSection() and not self._has_idle_parts

    @property
    @override
    def config_kls(self) -> type[object]:
        return TrainConfig
