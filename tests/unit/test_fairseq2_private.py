"""The names beside fairseq2's public ones that are used: a version that changes one is told."""

from __future__ import annotations

import inspect
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from fairseq2.early_stopper import NOOP_EARLY_STOPPER
from fairseq2.error import InvalidOperationError
from fairseq2.models import ModelFamily
from fairseq2.runtime.dependency import DependencyContainer, get_dependency_resolver

from tests.fakes import SMALL, tiny_model
from wavellama.fairseq2_private import (
    has_attention_hooks,
    register_or_replace,
    set_early_stopper,
)

if TYPE_CHECKING:
    from fairseq2.early_stopper import EarlyStopper
    from fairseq2.trainer import Trainer


def test_a_registration_is_replaced() -> None:
    """DependencyContainer._registrations and the provider of one."""
    container = DependencyContainer()
    register_or_replace(container, str, "name", lambda resolver: "ours")
    register_or_replace(container, str, "other", lambda resolver: "its")
    register_or_replace(container, str, "name", lambda resolver: "theirs")
    assert [container.resolve(str, key=key) for key in container.iter_keys(str)] == [
        "theirs",
        "its",
    ]


def test_fairseq2s_speech_families_are_replaced() -> None:
    for name in ("wav2vec2_llama", "wav2vec2", "wav2vec2_asr"):
        family = get_dependency_resolver().resolve(ModelFamily, key=name)
        assert type(family).__module__.startswith("wavellama.")


def test_a_trainer_takes_one_stopper() -> None:
    """Trainer._early_stopper."""
    import_module("fairseq2.recipe")  # before the trainer, which imports it and is imported by it
    own = import_module("fairseq2.trainer").Trainer
    assert "_early_stopper" in own.__init__.__code__.co_names
    trainer = cast("Trainer", SimpleNamespace(_early_stopper=NOOP_EARLY_STOPPER))
    stopper = cast("EarlyStopper", object())
    set_early_stopper(trainer, stopper)
    assert trainer._early_stopper is stopper
    with pytest.raises(InvalidOperationError):
        set_early_stopper(trainer, stopper)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("fairseq2.recipe.cli", "def _handle_errors("),
        ("fairseq2.recipe.cli", "unexpected error"),
        ("fairseq2.recipe.internal.log", '"Environment Variables - '),
        ("fairseq2.io", "self, file: Path"),
    ],
)
def test_what_the_command_line_knows_of_fairseq2s(module: str, words: str) -> None:
    """Functions and texts by which ``cli.failure`` tells what fairseq2 logs."""
    import_module("fairseq2.recipe")
    assert words in inspect.getsource(import_module(module))


def test_hooks_on_attention_are_seen() -> None:
    """MultiheadAttention._attn_weight_hooks."""
    attention = cast("Any", tiny_model(SMALL).llama_decoder).layers[0].self_attn
    handle = attention.register_attn_weight_hook(lambda module, seqs, weights: None)
    assert has_attention_hooks(attention)
    handle.remove()
    assert not has_attention_hooks(attention)
