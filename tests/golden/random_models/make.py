"""Makes ``cases.jsonl``: 200 random models, and what the published implementation writes with them.

It runs in an interpreter of its own, in which the published implementation can be imported::

    pip install omnilingual-asr==0.2.0 torch==2.8.0 torchaudio==2.8.0 pyarrow==20.0.0
    python -m tests.golden.random_models.make

Models, weights and audio come from ``models.py``. Each utterance is recognised alone, in float32,
on a CPU. The published search returns the best hypothesis only; one line more hands out all of
them. It never looks for repetitions here, which it does at every 250th position only. Models with
which scores all but tie are left out.

Where its search has a fault, a row says so in ``faults``, and its hypotheses are those of the
published search with the faulty lines replaced (``MENDS``). What it writes without is kept beside
them as ``published``, or null where it raises.
"""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import omnilingual_asr.models.wav2vec2_llama.factory as published  # type: ignore[import-not-found]
import torch
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.models.llama import LLaMAConfig
from fairseq2.models.transformer import TransformerNormOrder
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrConfig
from fairseq2.nn import StandardEmbedding
from omnilingual_asr.models.wav2vec2_llama import (
    beamsearch,
)
from omnilingual_asr.models.wav2vec2_llama.config import (  # type: ignore[import-not-found]
    ModelType,
    Wav2Vec2LlamaBeamSearchConfig,
    Wav2Vec2LlamaConfig,
)
from tests.golden.random_models.models import (
    EOS,
    LANGUAGES,
    LAYERS,
    Row,
    config_overrides,
    example_columns,
    random_rows,
    random_weights,
)
from torch import Tensor

NUM_CASES = 200

Search = beamsearch.Wav2Vec2LlamaBeamSearchSeq2SeqGenerator

Results = list[list[Any]]
"""Per hypothesis, best first: its tokens, its score, and whether it ended with EOS."""

WATCH = {
    "    out_tokens = out_tokens[::nbest]\n": (
        "    self.watch(out_tokens, scores, eos_mask)\n    out_tokens = out_tokens[::nbest]\n"
    ),
    "        top_scores, top_idx = candidate_scores": (
        "        self.compare(candidate_scores)\n        top_scores, top_idx = candidate_scores"
    ),
}
"""The lines that hand out all hypotheses, and what the search chooses from."""

SMALLEST_DIFFERENCE = 1e-5
"""Of two scores of which one is chosen; below it, rounding may decide, and with it the machine."""

MENDS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    # The mean of log-probabilities is taken from the second token on, whatever beam 0 holds.
    "norm_skipped_while_the_best_is_empty": (
        "length_norm",
        {"if n_tokens[0, 0] > 0:": "if t > context_lengths.min() - 1:"},
    ),
    # A padding token that was emitted counts as a token.
    "padding_not_counted": (
        "length_norm",
        {
            "out_tokens[:, :t] != self.pad_idx, out_tokens": (
                "torch.arange(int(t)) >= context_lengths.unsqueeze(1) - 1, out_tokens"
            )
        },
    ),
    # No context is none, instead of all segments.
    "no_context_is_all": (
        "streaming",
        {
            f"{name}[-n_max_segments:]": f"{name}[::-1][:n_max_segments][::-1]"
            for name in ("previous_audio_embeddings", "previous_text_tokens")
        },
    ),
    # Past segments that leave no room for a text are left out.
    "context_leaves_no_room": (
        "streaming",
        {
            "    # Add to previous segments\n": (
                "    past = (previous_audio_embeddings, previous_text_tokens)\n"
                "    num_left_out = self.num_too_many(*past, new_audio_embeddings)\n"
                "    previous_audio_embeddings, previous_text_tokens = ("
                "segments[num_left_out:] for segments in past)\n"
                "    n_total_segments = n_total_segments - num_left_out\n"
            )
        },
    ),
}
"""The option that a fault needs, and what to replace in the source of the published search."""


# Cases


def draw_case(seed: int) -> dict[str, Any]:
    """Draw a configuration, what it is given, and how it is searched."""
    draw = np.random.RandomState(seed + 2_000_000)

    def choose(*values: Any) -> Any:
        return values[draw.randint(len(values))]

    kind = ("LLM_ASR", "LLM_ASR_LID", "ZERO_SHOT", "streaming", "streaming")[seed % 5]
    heads = choose(2, 4)
    segment = choose(1600, 2400, 4000)
    case: dict[str, Any] = {
        "seed": seed,
        "model_type": "LLM_ASR_LID" if kind == "streaming" else kind,
        "vocab_size": int(draw.randint(10, 40)),
        "feature_dim": choose(4, 8),
        "stacking": choose(1, 1, 2, 3),
        "num_examples": choose(1, 2, 3) if kind == "ZERO_SHOT" else 0,
        "sharpness": choose(1.0, 2.0, 4.0),
        "eos_bonus": choose(1.0, 4.0, 7.0) * (2.0 if kind == "streaming" else 1.0),
        "nbest": choose(1, 2, 3, 4, 5, 5),
        "length_norm": choose(False, True),
        "encoder": {
            "model_dim": choose(8, 16),
            "num_encoder_layers": choose(1, 2),
            "num_encoder_attn_heads": 2,
            "ffn_inner_dim": choose(16, 24),
            "pos_conv_kernel_size": choose(3, 4, 8),
            "num_pos_conv_groups": choose(1, 2),
            "norm_order": choose("PRE", "PRE", "POST"),
            "layer_norm_features": choose(False, True),
            "feature_extractor_bias": choose(False, True),
        },
        "decoder": {
            "model_dim": heads * choose(4, 8, 12),
            "num_layers": choose(1, 2, 3),
            "num_attn_heads": heads,
            "num_key_value_heads": choose(1, 2, heads),
            "ffn_inner_dim": choose(16, 48),
            "ffn_inner_dim_multiple_of": 8,
            "rope_theta": choose(100.0, 10_000.0),
        },
        "streaming": {},
    }
    if kind == "streaming":
        case["streaming"] = {
            "segment_secs": segment / 16_000,
            "n_context_segments": choose(0, 1, 1, 2),
            "min_audio_ms": 25,
        }
    case["rows"] = [draw_row(case, draw) for _ in range(2)]
    case["decoder"]["max_seq_len"] = max(map(context_room, [case] * 2, case["rows"])) + int(
        draw.randint(3, 30)
    )
    return case


def draw_row(case: Mapping[str, Any], draw: Any) -> dict[str, Any]:
    """Draw the lengths and the language of an utterance."""
    samples = int(draw.randint(500, 6000))
    if case["streaming"]:  # tails around the shortest one that is kept, too
        tail = (0, 1, 399, 400, 401, 1000, 1599)[draw.randint(7)]
        samples = int(case["streaming"]["segment_secs"] * 16_000) * draw.randint(1, 4) + tail
    examples = range(case["num_examples"])
    sizes = [(int(draw.randint(500, 4000)), int(draw.randint(1, 7))) for _ in examples]
    knows = case["model_type"] == "LLM_ASR_LID"
    lang = LANGUAGES[draw.randint(len(LANGUAGES))] if knows else None
    return {"samples": samples, "lang": lang, "examples": sizes}


def context_room(case: Mapping[str, Any], row: Mapping[str, Any]) -> int:
    """Return about how many positions what stands before a text takes."""

    stacking: int = case["stacking"]

    def frames(samples: int) -> int:
        for kernel, stride in LAYERS:
            samples = (samples - kernel) // stride + 1
        return -(-samples // stacking)

    if not case["streaming"]:
        own_len = 8 + frames(row["samples"])
        return own_len + sum(frames(n) + int(text) + 4 for n, text in row["examples"])
    past: int = (case["streaming"]["n_context_segments"] or 3) + 1
    return past * (frames(int(case["streaming"]["segment_secs"] * 16_000)) + 12)


# The published implementation


def create_model(case: Mapping[str, Any]) -> Any:
    """Create the published model of a case."""
    overrides = config_overrides(case)
    asr, llama = Wav2Vec2AsrConfig(), LLaMAConfig()
    order = TransformerNormOrder[case["encoder"]["norm_order"]]
    asr_values = dict(overrides.pop("wav2vec2_asr_config"))
    encoder_values = asr_values.pop("encoder_config") | {"norm_order": order}
    assign(asr, asr_values)
    assign(asr.encoder_config, encoder_values)
    assign(llama, overrides.pop("llama_config"))
    config = Wav2Vec2LlamaConfig(wav2vec2_asr_config=asr, llama_config=llama)
    assign(config.streaming_config, overrides.pop("streaming_config"))
    config.model_type = ModelType[overrides.pop("model_type")]
    assign(config, overrides)
    published.load_tokenizer = NoTokenizer
    model = published.create_wav2vec2_llama_model(config).eval()
    if model.lang_embeddings is not None:  # a small table instead of the whole one
        dim = llama.model_dim
        model.lang_embeddings = StandardEmbedding(len(LANGUAGES) + 1, dim)
        model.lang_mapping = {code.lower(): i for i, code in enumerate(LANGUAGES, 1)}
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    model.load_state_dict(random_weights(shapes, case), strict=True)
    return model


class NoTokenizer:
    """Stands for the tokenizer of a streaming model, which encodes texts that are empty here."""

    def __init__(self, name: str) -> None:
        pass

    def create_encoder(self) -> Callable[[str], Tensor]:
        """Return a function that gives a text's two sentinels."""
        return lambda text: torch.tensor([4] * len(text))


def assign(config: object, values: Mapping[str, Any]) -> None:
    """Set fields that must exist."""
    for name, value in values.items():
        assert hasattr(config, name), name
        setattr(config, name, value)


def search_with(mends: Sequence[str]) -> type:
    """Return the published search, with some of its faults mended."""
    replacements = WATCH | {old: new for name in mends for old, new in MENDS[name][1].items()}
    names = ("generate_hypotheses_one_segment", "generate_hypotheses_one_segment_streaming")
    sources = [textwrap.dedent(inspect.getsource(getattr(Search, name))) for name in names]
    for old, new in replacements.items():
        assert sum(old in source for source in sources) == 1, old
        sources = [source.replace(old, new) for source in sources]
    space = dict(vars(beamsearch))
    for source in sources:
        exec(source, space)
    return type("Mended", (), dict(vars(Search)) | {name: space[name] for name in names})


def recognise(model: Any, case: Mapping[str, Any], row: Row, mends: Sequence[str]) -> Results:
    """Return the hypotheses of an utterance; of a stream, one: the best of its segments, joined."""
    seen: list[Results] = []
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=case["nbest"], length_norm=case["length_norm"])
    search = search_with(mends)(model, config, model.streaming_config)
    search.watch = lambda tokens, scores, ended: seen.append(to_results(tokens, scores, ended))
    search.compare = refuse_ties
    search.num_too_many = lambda *segments: num_too_many(model.max_generation_length, *segments)
    batch = make_batch(case, row)
    with torch.no_grad():
        contexts, lens, audio = model(batch, return_decoder_inputs=True)
        best, (length,) = search.generate_hypotheses(contexts, lens, audio, batch)
    if not case["streaming"]:
        (results,) = seen
    else:
        parts = [segment[0] for segment in seen]
        tokens = [token for part in parts for token in part[0]]
        results = [[tokens, sum(part[1] for part in parts), all(part[2] for part in parts)]]
    assert best[0, :length].tolist() == results[0][0]
    return [[tokens, round(score, 5), ended] for tokens, score, ended in results]


class AllButTieError(Exception):
    """Scores are so close that another machine may choose another one."""


def refuse_ties(scores: Tensor) -> None:
    """Compare the best candidates, of which there is one more than the search keeps.

    :raises AllButTieError: two of them are all but equal.
    """
    best = scores.flatten().topk(len(scores) + 1).values
    if (best[:-1] - best[1:]).min() < SMALLEST_DIFFERENCE:
        raise AllButTieError


def try_to_recognise(*args: Any) -> Results | None:
    """Return what ``recognise`` does, or None where a context is too long for the decoder."""
    try:
        return recognise(*args)
    except (IndexError, RuntimeError, ValueError):
        return None


def num_too_many(limit: int, past_audio: Any, past_texts: Any, audio: Tensor) -> int:
    """Return how many of the past segments, oldest first, are too many.

    A quarter of the sequence, and the two positions that no text reaches, stay free. Around a
    segment's audio and text stand its marker, BOS and EOS; before all segments the language and its
    marker.
    """
    sizes = [a.seq_lens[0] + t.seq_lens[0] + 3 for a, t in zip(past_audio, past_texts, strict=True)]
    room = limit - limit // 4 - 2 - (2 + audio.size(1) + 2)
    return next(n for n in range(len(sizes) + 1) if sum(sizes[n:]) <= max(room, 0))


def make_batch(case: Mapping[str, Any], row: Row) -> Seq2SeqBatch:
    """Return an utterance alone, as the published model reads it."""
    example: dict[str, Any] = {name: [value] for name, value in example_columns(row).items()}
    if row.lang is not None:
        example["lang"] = [row.lang]
    if case["streaming"]:
        example |= {"text_words_merged": [np.array([])], "word_duration": [np.array([])]}
    audio = row.waveform.unsqueeze(0)
    return Seq2SeqBatch(audio, [audio.size(1)], torch.tensor([[4]]), [1], example=example)


def to_results(tokens: Tensor, scores: Tensor, ended: Tensor) -> Results:
    """Return what stands in the beam, without control tokens."""
    rows = [[token for token in row if token > EOS] for row in tokens.tolist()]
    return [list(each) for each in zip(rows, scores.tolist(), ended.tolist(), strict=True)]


def complete(case: dict[str, Any]) -> dict[str, Any]:
    """Add what the published implementation writes, and where it goes wrong."""
    model = create_model(case)
    mends = [name for name, (option, _) in MENDS.items() if case[option]]
    for given, row in zip(case["rows"], random_rows(case), strict=True):
        results = [try_to_recognise(model, case, row, mends[:n]) for n in range(len(mends) + 1)]
        changes = zip(mends, results, results[1:], strict=False)
        given["faults"] = [name for name, before, after in changes if before != after]
        given["hypotheses"] = results[-1]
        if results[0] == results[-1]:  # nothing is wrong, or two faults cancel out
            given["faults"] = []
        else:
            given["published"] = results[0]
        assert results[-1] is not None
    return case


def main() -> None:
    torch.set_num_threads(1)
    lines: list[str] = []
    for seed in count():
        try:
            lines.append(json.dumps(complete(draw_case(seed)), separators=(",", ":")))
        except AllButTieError:
            print(f"seed {seed} is left out: scores all but tie", flush=True)
        if len(lines) == NUM_CASES:
            break
    Path(__file__).with_name("cases.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
