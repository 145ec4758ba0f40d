"""The generator component: fairseq2's four-tensor call, metadata, and step hooks."""

from __future__ import annotations

import pytest
import torch
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.nn import BatchLayout
from torch import Tensor

from tests.fakes import LID, SMALL, merge, tiny_model
from wavellama.decoding.component import Wav2Vec2LlamaGenerator
from wavellama.decoding.generate import generate
from wavellama.errors import BatchError, ConfigError
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig

CONFIG = Wav2Vec2LlamaBeamSearchConfig(nbest=3, max_new_tokens=6)


@pytest.fixture
def generator() -> Wav2Vec2LlamaGenerator:
    return Wav2Vec2LlamaGenerator(tiny_model(arch="tiny_lid", sharpness=8.0), CONFIG)


def audio_batch(langs: list[str | None] | None = None) -> Seq2SeqBatch:
    seqs = torch.randn(2, 9000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets = torch.full((2, 1), 4)
    example = None if langs is None else {"lang": langs}
    return Seq2SeqBatch(seqs, [9000, 6000], targets, [1, 1], example=example)


def test_the_four_tensor_call_is_audio_without_language(generator: Wav2Vec2LlamaGenerator) -> None:
    batch, prompt = audio_batch(), torch.zeros(2, 1, dtype=torch.int64)
    layout = BatchLayout.of(batch.source_seqs, list(batch.source_seq_lens))
    output = generator(batch.source_seqs, layout, prompt, BatchLayout.of(prompt))
    expected = generator.generate_batch(audio_batch([None, None]))
    tokens = [[h.seq.tolist() for h in row] for row in output.hypotheses]
    assert tokens == [[h.tokens for h in row] for row in expected]
    assert output.counters.num_generated_elements > 0


def test_a_text_prompt_is_refused(generator: Wav2Vec2LlamaGenerator) -> None:
    batch, prompt = audio_batch(), torch.zeros(2, 2, dtype=torch.int64)
    layout = BatchLayout.of(batch.source_seqs, list(batch.source_seq_lens))
    with pytest.raises(BatchError, match="2 tokens"):
        generator(batch.source_seqs, layout, prompt, BatchLayout.of(prompt))


def test_generate_batch_uses_the_languages(generator: Wav2Vec2LlamaGenerator) -> None:
    plain = generator.generate_batch(audio_batch())
    german = generator.generate_batch(audio_batch(["deu_Latn", "deu_Latn"]))
    assert [row[0].score for row in plain] != [row[0].score for row in german]


def test_step_hooks_see_every_step_until_removed(generator: Wav2Vec2LlamaGenerator) -> None:
    seen: list[tuple[int, ...]] = []

    def hook(
        prompt_indices: Tensor, seqs: Tensor, step_scores: Tensor | None, prefill: bool
    ) -> None:
        assert step_scores is not None
        assert seqs.shape == step_scores.shape
        assert prefill == (seqs.size(1) == 1)
        seen.append((len(prompt_indices), seqs.size(1)))

    handle = generator.register_step_hook(hook)
    generator.generate_batch(audio_batch())
    assert [length for _, length in seen] == list(range(1, len(seen) + 1))
    handle.remove()
    before = len(seen)
    generator.generate_batch(audio_batch())
    assert len(seen) == before


def test_streaming_models_take_no_step_hooks() -> None:
    streaming = {
        "n_special_tokens": 3,
        "streaming_config": {"is_streaming": True, "segment_secs": 0.5},
    }
    generator = Wav2Vec2LlamaGenerator(tiny_model(merge(merge(SMALL, LID), streaming)), CONFIG)
    with pytest.raises(ConfigError, match="not streaming"):
        generator.register_step_hook(lambda prompt_indices, seqs, step_scores, prefill: None)


def test_hooks_do_not_change_the_result(generator: Wav2Vec2LlamaGenerator) -> None:
    plain = generate(tiny_model(arch="tiny_lid", sharpness=8.0), audio_batch(), CONFIG)
    generator.register_step_hook(lambda prompt_indices, seqs, step_scores, prefill: None)
    hooked = generator.generate_batch(audio_batch())
    assert [[h.tokens for h in row] for row in hooked] == [[h.tokens for h in row] for row in plain]
