"""A folder that Hugging Face Transformers (5.24 on) loads: weights, configuration, processor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrConfig
from safetensors.torch import save_file

from wavellama.checkpoints.hub import ModelSource
from wavellama.checkpoints.transformers_folder import LANGUAGE_TOKEN, NO_LANGUAGE
from wavellama.checkpoints.transformers_layout import (
    check_expressible,
    theirs_of,
    to_theirs,
)
from wavellama.errors import ConfigError
from wavellama.export.vocabulary import SPECIAL, read_vocabulary
from wavellama.files import replacing, write_text
from wavellama.model.config import Wav2Vec2LlamaConfig
from wavellama.units import SAMPLE_RATE

_MARKER, _AUDIO = "<extra_id_0>", "<extra_id_1>"

_CHAT_TEMPLATE: Final = (
    "{%- set said = namespace(language='auto') -%}"
    "{%- for message in messages if message['role'] == 'user' -%}"
    "{%- for item in message['content'] -%}"
    "{%- if item['type'] == 'audio' -%}" + _AUDIO + "{%- endif -%}"
    "{%- if item['type'] == 'language' -%}{%- set said.language = item['language'] -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- endfor -%}" + _MARKER + "<|lang:{{ said.language | lower }}|><s>"
    "{%- for message in messages if message['role'] == 'assistant' -%}"
    "{%- for item in message['content'] if item['type'] == 'text' -%}{{ item['text'] }}"
    "{%- endfor -%}</s>"
    "{%- endfor -%}"
)
"""Audio, marker, language, beginning; and in training the text and its end."""

_NORMALIZER: Final = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    ],
}
_FEATURES: Final = {
    "feature_extractor_type": "OmniASRFeatureExtractor",
    "do_normalize": True,
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0,
    "return_attention_mask": True,
    "sampling_rate": SAMPLE_RATE,
}


def write_transformers(source: ModelSource, folder: Path) -> list[Path]:
    """Write a model into a folder, and return the files; weights keep their data types.

    :raises ConfigError: Transformers has no such model, or its tokenizer does not fit.
    :raises CheckpointError: the checkpoint cannot be read.
    """
    config = source.load_config()
    if not isinstance(config, Wav2Vec2LlamaConfig | Wav2Vec2AsrConfig):
        raise ConfigError("Transformers reads models that recognise speech, and this one does not.")
    check_expressible(config)
    is_llm = isinstance(config, Wav2Vec2LlamaConfig)
    size = config.target_vocab_size
    texts, added = read_vocabulary(source.load_tokenizer(), size), list(SPECIAL[:3])
    extra: list[str] = []  # what follows the vocabulary: marker, audio, no language, languages
    if isinstance(config, Wav2Vec2LlamaConfig):
        codes = [LANGUAGE_TOKEN.format(code.lower()) for code in config.language_table]
        extra = [_MARKER, _AUDIO, NO_LANGUAGE, *codes]
    weights = source.read_weights()
    content = theirs_of(config, weights)
    theirs = to_theirs(weights, config)
    content["dtype"] = str(next(iter(theirs.values())).dtype).removeprefix("torch.")
    kind = "OmniASR" if is_llm else "OmniASRCTC"
    content["architectures"] = ["OmniASRForConditionalGeneration" if is_llm else "OmniASRForCTC"]
    files: dict[str, Mapping[str, Any]] = {
        "config.json": content,
        "tokenizer.json": _tokenizer(texts, [*enumerate(added), *enumerate(extra, size)]),
        "tokenizer_config.json": _tokenizer_config(extra, kind),
        "processor_config.json": _processor(content, kind),
        "generation_config.json": _generation(size, extra),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        write_text(folder / name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    if is_llm:
        write_text(folder / "chat_template.jinja", _CHAT_TEMPLATE)
    with replacing(folder / "model.safetensors") as part:
        save_file(
            {name: weight.contiguous() for name, weight in theirs.items()}, part, {"format": "pt"}
        )
    return sorted(folder.iterdir())


def _tokenizer(texts: list[str], added: list[tuple[int, str]]) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token, "content": text, **flags, "special": True} for token, text in added
        ],
        "normalizer": _NORMALIZER,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithNext",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "Unigram",
            "unk_id": SPECIAL.index("<unk>"),
            # Equal scores: where a text can be cut in several ways, the fewest pieces win.
            "vocab": [[text, 0.0 if text in SPECIAL else -1.0] for text in texts],
            "byte_fallback": False,
        },
    }


def _tokenizer_config(extra: list[str], kind: str) -> dict[str, Any]:
    names = ("bos_token", "pad_token", "eos_token", "unk_token")
    return {
        "backend": "tokenizers",
        "tokenizer_class": "TokenizersBackend" if extra else "ParakeetTokenizer",
        "processor_class": f"{kind}Processor",
        "padding_side": "left" if extra else "right",
        "clean_up_tokenization_spaces": False,
        **dict(zip(names, SPECIAL, strict=True)),
        **({"extra_special_tokens": extra} if extra else {}),
    }


def _processor(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    processor: dict[str, Any] = {
        "processor_class": f"{kind}Processor",
        "feature_extractor": _FEATURES,
    }
    if kind == "OmniASR":
        audio = config["audio_config"]
        processor |= {key: audio[key] for key in ("conv_kernel", "conv_stride")}
        processor["audio_token"] = _AUDIO
    return processor


def _generation(size: int, extra: list[str]) -> dict[str, Any]:
    """Return the settings of Transformers' search, which never writes what opens a prompt."""
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    return {**ids, "suppress_tokens": list(range(size, size + len(extra)))} if extra else ids
