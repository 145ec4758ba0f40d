"""From a batch to hypotheses."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Module

from tests.fakes import (
    LID,
    SMALL,
    make_batch,
    make_waveforms,
    merge,
    small_model,
    tiny_model,
)
from wavellama import Wav2Vec2LlamaBeamSearchConfig, generate
from wavellama.batch import AsrBatch, to_asr_batch
from wavellama.decoding.generate import best_tokens
from wavellama.decoding.step_decoder import ModuleStepDecoder
from wavellama.errors import ConfigError, ContextTooLongError, DecodingError
from wavellama.model.outputs import SharedPrefix

WAVEFORMS = make_waveforms([3000, 5000, 900])
CONFIG = Wav2Vec2LlamaBeamSearchConfig(nbest=3, max_new_tokens=6)


def test_at_most_nbest_hypotheses_best_first() -> None:
    results = generate(small_model(), make_batch(WAVEFORMS), CONFIG)
    assert [len(row) for row in results] == [3, 3, 3]
    for row in results:
        assert [h.score for h in row] == sorted((h.score for h in row), reverse=True)
    assert best_tokens(results) == [row[0].tokens for row in results]


def test_a_prompt_needs_room_for_one_token() -> None:
    model, batch = small_model(), make_batch(WAVEFORMS)
    prompt = model.embed_prompt(model.read_batch(batch))
    longest = prompt.prefix_len + max(prompt.layout.seq_lens)
    model = tiny_model(merge(SMALL, {"llama_config": {"max_seq_len": longest + 3}}))
    assert [len(row) for row in generate(model, batch, CONFIG)] == [3, 3, 3]
    model = tiny_model(merge(SMALL, {"llama_config": {"max_seq_len": longest + 2}}))
    with pytest.raises(ContextTooLongError, match=f"{longest} .*{longest + 2}"):
        generate(model, batch, CONFIG)


def test_targets_play_no_part() -> None:
    model = small_model()
    expected = generate(model, make_batch(WAVEFORMS), CONFIG)
    assert generate(model, make_batch(WAVEFORMS, [[5, 6, 7], [8], [9, 4]]), CONFIG) == expected


def test_a_typed_batch_without_targets_is_enough() -> None:
    model, batch = small_model(lid=True), make_batch(WAVEFORMS, None, ["eng_Latn", None, None])
    typed = to_asr_batch(batch)
    bare = AsrBatch(typed.audio, typed.audio_lens, targets=[], langs=typed.langs)
    assert generate(model, bare, CONFIG) == generate(model, batch, CONFIG)


def test_the_language_makes_a_difference() -> None:
    model, (waveform, *_) = small_model(lid=True), WAVEFORMS
    scores = {
        generate(model, make_batch([waveform], None, [lang]), CONFIG)[0][0].score
        for lang in ("eng_Latn", "deu_Latn", None)
    }
    assert len(scores) == 3


def test_streaming_models_refuse_what_they_cannot_use() -> None:
    streaming = {
        "n_special_tokens": 3,
        "streaming_config": {"is_streaming": True, "segment_secs": 0.5},
    }
    model = tiny_model(merge(merge(SMALL, LID), streaming))
    for extras in ({"observer": lambda rows: None}, {"prefix": SharedPrefix(torch.zeros(3, 16))}):
        with pytest.raises(ConfigError, match=f"`{next(iter(extras))}` needs a model that is not"):
            generate(model, make_batch(WAVEFORMS), CONFIG, **extras)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_in_its_mode(training: bool) -> None:
    model = tiny_model(merge(SMALL, {"llama_config": {"dropout_p": 0.5}}))
    model.train(training)
    first = generate(model, make_batch(WAVEFORMS), CONFIG)
    assert model.training == training
    assert generate(model, make_batch(WAVEFORMS), CONFIG) == first


def test_the_model_is_left_in_its_mode_after_an_error() -> None:
    model = tiny_model(SMALL).train()
    with pytest.raises(DecodingError):
        generate(model, make_batch([torch.full((900,), float("nan"), dtype=torch.float64)]))
    assert model.training


def test_each_part_is_left_in_its_mode() -> None:
    """A recipe may keep a frozen encoder in eval mode while the rest trains."""
    model = tiny_model(SMALL).train()
    model.encoder.eval()
    generate(model, make_batch(WAVEFORMS), CONFIG)
    assert not model.encoder.training
    assert model.llama_decoder.training


def test_no_gradients_are_kept() -> None:
    model = tiny_model(SMALL)
    seen: list[bool] = []
    model.final_proj.register_forward_hook(lambda m, i, o: seen.append(o.requires_grad))
    generate(model, make_batch(WAVEFORMS), CONFIG)
    assert seen
    assert not any(seen)


def test_control_tokens_are_taken_out() -> None:
    """A random model also emits BOS and padding."""
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=12, max_new_tokens=2)
    hypotheses = generate(small_model(), make_batch(WAVEFORMS[:1]), config)[0]
    assert len(hypotheses) == 12
    assert not {0, 1, 2} & {token for h in hypotheses for token in h.tokens}


def test_every_emitted_token_has_its_log_probability() -> None:
    """Also a BOS or padding token, which `tokens` leaves out: the score is the sum of all."""
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=12, max_new_tokens=2)
    for h in generate(small_model(), make_batch(WAVEFORMS[:1]), config)[0]:
        assert len(h.token_logprobs) >= len(h.tokens) + h.finished
        assert sum(h.token_logprobs) == pytest.approx(h.score)


@pytest.mark.parametrize(
    "config",
    [Wav2Vec2LlamaBeamSearchConfig(nbest=0), Wav2Vec2LlamaBeamSearchConfig(max_new_tokens=0)],
    ids=["nbest", "max_new_tokens"],
)
def test_a_wrong_config_is_an_error(config: Wav2Vec2LlamaBeamSearchConfig) -> None:
    with pytest.raises(Exception, match="must be at least 1"):
        generate(small_model(), make_batch(WAVEFORMS[:1]), config)


def test_generate_uses_the_repetition_guard() -> None:
    """A model that always says the same is stopped, unless told otherwise."""
    model = tiny_model(SMALL)

    def parrot(module: Module, inputs: object, logits: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.full(logits.shape[:-1], 5), 12).double() * 50

    model.final_proj.register_forward_hook(parrot)
    batch = make_batch(WAVEFORMS[:1])
    for nbest in (1, 2):
        config = Wav2Vec2LlamaBeamSearchConfig(
            nbest=nbest, compression_window=20, compression_threshold=2.0, max_new_tokens=40
        )
        best = generate(model, batch, config)[0][0]
        assert (best.tokens, best.stop_reason) == ([5], "repetition")
        config.repetition_guard = False
        best = generate(model, batch, config)[0][0]
        assert (len(best.tokens), best.stop_reason) == (40, "length")
        config.repetition_guard, config.compression_window = True, 41
        assert generate(model, batch, config)[0][0].stop_reason == "length"
        config.compression_window, config.compression_threshold = 20, 50.0
        assert generate(model, batch, config)[0][0].stop_reason == "length"


# The step decoder


def _step_decoder(lid: bool = False) -> ModuleStepDecoder:
    model = small_model(lid=lid)
    contexts = [torch.randn(n, model.model_dim, dtype=torch.float64) for n in (3, 7, 5)]
    return ModuleStepDecoder(model, contexts)


@torch.no_grad()
def test_step_decoder_gives_log_probabilities() -> None:
    decoder = _step_decoder()
    first = decoder.prefill()
    decoder.reorder([0, 0, 1, 2])
    second = decoder.step([4, 5, 6, 7])
    assert first.shape == (3, 12)
    assert second.shape == (4, 12)
    for log_probs in (first, second):
        total = log_probs.exp().sum(-1)
        torch.testing.assert_close(total, torch.ones_like(total))


@torch.no_grad()
def test_step_decoder_continues_the_right_hypotheses() -> None:
    """Swapped, doubled and dropped, against the same tokens alone."""
    decoder = _step_decoder()
    decoder.prefill()
    decoder.reorder([0, 0, 1, 2, 2])
    decoder.step([4, 5, 6, 7, 8])
    decoder.reorder([1, 0, 2, 4, 3])  # swapped
    decoder.step([4, 4, 4, 4, 4])
    decoder.reorder([1, 0, 0, 4])  # row 1 is dropped
    together = decoder.step([9, 10, 11, 9])
    paths = [(0, [4, 4, 9]), (0, [5, 4, 10]), (0, [5, 4, 11]), (2, [7, 4, 9])]
    for place, (row, tokens) in enumerate(paths):
        torch.manual_seed(0)
        alone = _step_decoder_of_row(row)
        log_probs = alone.prefill()
        for token in tokens:
            alone.reorder([0])
            log_probs = alone.step([token])
        torch.testing.assert_close(together[place], log_probs[0], atol=1e-9, rtol=0)


def _step_decoder_of_row(row: int) -> ModuleStepDecoder:
    model = small_model()
    contexts = [torch.randn(n, model.model_dim, dtype=torch.float64) for n in (3, 7, 5)]
    return ModuleStepDecoder(model, contexts[row : row + 1])


def test_a_small_lid_model_is_like_any_other() -> None:
    model = tiny_model(merge(SMALL, LID))
    assert len(generate(model, make_batch(WAVEFORMS), CONFIG)) == 3
