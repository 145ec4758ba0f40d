"""The architectures: one table (``assets/archs.yaml``) turned into configurations.

A row of the table says only what differs from the row it extends; this module resolves it and
registers a provider per row with fairseq2.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache, partial
from importlib.resources import as_file, files
from typing import Any, Final, TypeAlias, TypeVar

from fairseq2.models.wav2vec2 import Wav2Vec2Config
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrConfig
from fairseq2.runtime.config_registry import ConfigRegistrar, get_config
from fairseq2.runtime.dependency import DependencyContainer, DependencyResolver
from fairseq2.utils.structured import StandardValueConverter

from wavellama.model.config import Wav2Vec2LlamaConfig
from wavellama.yaml_files import read_yaml

Row: TypeAlias = dict[str, Any]
ConfigT = TypeVar("ConfigT")

_LINKS: Final = ("extends", "encoder", "asr", "template")
"""Keys of a row that name other rows instead of configuration fields."""


@lru_cache(maxsize=1)
def arch_table() -> Mapping[str, Mapping[str, Row]]:
    """Return the packaged table: family -> architecture -> row, as written."""
    with as_file(files("wavellama.assets") / "archs.yaml") as path:
        table: Mapping[str, Mapping[str, Row]] = read_yaml(path)
    return table


def register_archs(container: DependencyContainer) -> None:
    """Register every architecture of the table with fairseq2."""
    for name in arch_table()["wav2vec2"]:
        ConfigRegistrar(container, Wav2Vec2Config)(name, advanced=True)(partial(_ssl_config, name))
    for name in arch_table()["wav2vec2_asr"]:
        registrar = ConfigRegistrar(container, Wav2Vec2AsrConfig)
        registrar(name, advanced=True)(partial(_asr_config, name))
    for name in arch_table()["wav2vec2_llama"]:
        llama_registrar = ConfigRegistrar(container, Wav2Vec2LlamaConfig)
        llama_registrar(name, advanced=True)(partial(_llama_config, name))


def resolve_row(family: str, name: str) -> Row:
    """Return a row with the rows it extends merged under it."""
    rows = arch_table()[family]
    row = rows[name]
    base = str(row.get("extends"))
    return _merge(resolve_row(family, base), row) if base in rows else row


def _ssl_config(name: str, resolver: DependencyResolver) -> Wav2Vec2Config:
    row = resolve_row("wav2vec2", name)
    return _override(get_config(resolver, Wav2Vec2Config, row["extends"]), row)


def _asr_config(name: str, resolver: DependencyResolver) -> Wav2Vec2AsrConfig:
    row = resolve_row("wav2vec2_asr", name)
    config = Wav2Vec2AsrConfig()
    if "encoder" in row:
        config.encoder_config = get_config(resolver, Wav2Vec2Config, row["encoder"]).encoder_config
    if row.get("template") != "none":
        row = _merge(arch_table()["templates"]["wav2vec2_asr"], row)
    return _override(config, row)


def _llama_config(name: str, resolver: DependencyResolver) -> Wav2Vec2LlamaConfig:
    row = resolve_row("wav2vec2_llama", name)
    config = Wav2Vec2LlamaConfig()
    if "asr" in row:
        asr = get_config(resolver, Wav2Vec2AsrConfig, row["asr"])
        plain: Any = StandardValueConverter().unstructure(asr)
        config = _override(config, {"wav2vec2_asr_config": plain})
    if row.get("template") != "none":
        row = _merge(arch_table()["templates"]["wav2vec2_llama"], row)
    config = _override(config, row)
    config.llama_config.vocab_size = config.target_vocab_size
    return config


def _override(config: ConfigT, row: Row) -> ConfigT:
    converter = StandardValueConverter()
    fields = {key: value for key, value in row.items() if key not in _LINKS}
    unstructured: Any = converter.unstructure(config)
    result: ConfigT = converter.structure(_merge(unstructured, fields), type(config))
    return result


def _merge(base: Row, over: Row) -> Row:
    """Merge nested mappings; what is not a mapping is replaced."""
    merged = deepcopy(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = deepcopy(value)
    return merged
