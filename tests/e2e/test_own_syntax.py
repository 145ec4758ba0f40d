"""A syntax of one's own is what CONTRIBUTING says: a declaration, and the keys that name it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes import (
    SMALL,
    arch_config,
    create_model,
    golden_tokenizer,
    loss_of,
    make_batch,
    make_waveforms,
    merge,
)
from wavellama import (
    ASRInferencePipeline,
    ContextExample,
    Wav2Vec2LlamaBeamSearchConfig,
    Wav2Vec2LlamaModel,
    generate,
)
from wavellama.audio.sources import AudioInput
from wavellama.errors import BatchError, ConfigError
from wavellama.pipeline.options import TranscribeOptions
from wavellama.yaml_files import read_yaml

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"
CONFIG = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=4)


def block(language: str) -> str:
    """Return the block of the section about syntaxes, without its indentation."""
    section = PAGE.read_text("utf-8").split("## How to add a syntax")[1].split("\n## ")[0]
    (text,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return re.sub("^   ", "", text, flags=re.MULTILINE)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wav2Vec2LlamaModel:
    """A small model that is configured as the page says."""
    (tmp_path / "my_syntaxes.py").write_text(block("python"))
    (tmp_path / "keys.yaml").write_text(block("yaml"))
    monkeypatch.syspath_prepend(str(tmp_path))
    keys = read_yaml(tmp_path / "keys.yaml")
    more = {
        "lang_embeddings_p": 1.0,
        "wav2vec2_asr_config": {"target_vocab_size": 32},
        "llama_config": {"vocab_size": 32},
    }
    overrides = merge(merge(SMALL, keys), more)
    return create_model(arch_config("tiny", overrides), sharpness=4.0)


def batch(lang: str | None, columns: bool = True) -> Any:
    lens = make_waveforms([3000, 2000], seed=1)
    padded = torch.nn.utils.rnn.pad_sequence(lens, batch_first=True)
    more = {
        "context_audio": [{"seqs": padded, "seq_lens": [3000, 2000]}],
        "context_text": [{"seqs": torch.tensor([[4, 5], [6, 1]]), "seq_lens": [2, 1]}],
    }
    langs = [lang] if columns else None
    return make_batch(make_waveforms([4000]), [[7, 8]], langs, more=more)


def test_the_page_counts_its_lines() -> None:
    python, yaml = (
        sum(bool(line.strip()) for line in block(language).splitlines())
        for language in ("python", "yaml")
    )
    assert f"{python + yaml} lines: {python} of Python, {yaml} of YAML" in PAGE.read_text("utf-8")


def test_it_trains_and_the_language_counts(model: Wav2Vec2LlamaModel) -> None:
    model.train()
    losses = [loss_of(model, batch(lang)) for lang in ("eng_Latn", "ita_Latn", None)]
    assert len({loss.item() for loss in losses}) == 3
    torch.autograd.backward(losses[0])
    assert model.lang_embeddings is not None
    weight = model.lang_embeddings.weight
    assert weight.grad is not None
    rows = weight.grad.abs().sum(1).nonzero()[:, 0].tolist()
    assert rows == [model.lang_mapping["eng_latn"]]
    with pytest.raises(BatchError, match="`lang` column"):
        loss_of(model, batch(None, columns=False))


def test_it_infers_after_the_language(model: Wav2Vec2LlamaModel) -> None:
    scores = [
        generate(model, batch(lang), CONFIG)[0][0].score for lang in ("eng_Latn", "ita_Latn", None)
    ]
    assert len(set(scores)) == 3
    assert generate(model, batch(None, columns=False), CONFIG)[0][0].score == scores[2]


def test_the_pipeline_tells_the_language_after_the_examples(model: Wav2Vec2LlamaModel) -> None:
    """Each clip by itself, several in a call, and with a detected language."""
    pipeline = ASRInferencePipeline(
        None, model=model, tokenizer=golden_tokenizer(), dtype=torch.float32
    )
    clips: list[AudioInput] = [
        {"waveform": clip.float(), "sample_rate": 16000} for clip in make_waveforms([9000, 7000])
    ]
    example = [ContextExample(clips[1], "ab")]
    options = TranscribeOptions(search=CONFIG, no_speech_threshold=1.0)

    def logprob(clip: AudioInput, lang: str) -> float | None:
        (transcript,) = pipeline.stream_results(clip, options, lang=lang, examples=example)
        return transcript.segments[0].avg_logprob

    alone = [logprob(clips[0], "eng_Latn"), logprob(clips[0], "ita_Latn")]
    assert alone[0] != alone[1]
    given: list[str | None] = ["ita_Latn", "eng_Latn"]
    both = pipeline.stream_results([clips[0]] * 2, options, lang=given, examples=example)
    assert [one.segments[0].avg_logprob for one in both] == pytest.approx(alone[::-1])
    detecting = TranscribeOptions(search=CONFIG, languages=("eng_Latn", "ita_Latn"))
    with pytest.raises(ConfigError, match="reads the language before the audio"):
        list(pipeline.stream_results(clips[0], detecting, examples=example))
