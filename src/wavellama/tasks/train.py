"""The recipe ``train``."""

from __future__ import annotations

from dataclasses import replace
from typing import final

from fairseq2.datasets import SyncMode
from fairseq2.models.wav2vec2 import Wav2Vec2Masker
from fairseq2.recipe import Recipe, RecipeContext
from fairseq2.recipe.component import ComponentManager
from fairseq2.task import Task
from torch.nn import Module
from typing_extensions import override

from wavellama.data.dataset import AsrDataset
from wavellama.errors import ConfigError
from wavellama.model.masking import MaskerTarget
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.tasks.config import TrainConfig
from wavellama.tasks.transcriber import check_vocabulary, create_transcriber
from wavellama.tasks.units import LossUnit, ValidationUnit


@final
class AsrTraining(Recipe):
    """Trains a Wav2Vec2-Llama model, new or loaded, and validates it by decoding."""

    @override
    def create_task(self, context: RecipeContext) -> Task:
        config = context.get_config_as(TrainConfig)
        section, tokenizer = config.dataset, context.get_tokenizer()
        dataset = context.get_dataset_as(AsrDataset)
        model = context.get_model_as(Wav2Vec2LlamaModel)
        check_vocabulary(model, tokenizer)
        options = section.reader_options()
        train_options = replace(
            options,
            shuffle=True,
            seed=config.common.seed,
            num_accumulate=config.trainer.grad_accumulation.num_batches,
            sync_mode=SyncMode.UNTIL_FIRST,
        )
        gangs = context.gangs
        train_reader = dataset.create_reader(section.train_split, tokenizer, gangs, train_options)
        valid_reader = dataset.create_reader(section.valid_split, tokenizer, gangs, options)
        dp_model = context.get_data_parallel_model()
        return context.create_trainer(
            LossUnit(dp_model, model, gangs.dp.rank),
            train_reader,
            [ValidationUnit(dp_model, create_transcriber(context))],
            [valid_reader],
        )

    @override
    def setup_model(self, context: RecipeContext, model: Module, newly_initialized: bool) -> Module:
        """Give the model the masker that the configuration names."""
        if not isinstance(model, Wav2Vec2LlamaModel):
            raise ConfigError(f"Cannot train a {type(model).__name__}; need wav2vec2_llama.")
        section = context.get_config_as(TrainConfig).masker
        if section is not None:
            encoder_dim = model.encoder_proj.input_dim // model.encoder_stacking
            context.resolver.resolve(MaskerTarget).model_dim = encoder_dim
            manager = context.resolver.resolve(ComponentManager)
            model.masker = manager.create_component(
                Wav2Vec2Masker,
                section.name,
                section.config,
            )
            if model.masker is not None:
                model.masker.to(model.encoder_proj.weight.device)
        return model

    @property
    @override
    def config_kls(self) -> type[object]:
        return TrainConfig
