"""Every published card: what it says, and the size of the model that it builds."""

from __future__ import annotations

from argparse import Namespace
from typing import NamedTuple

import pytest
import yaml
from fairseq2.assets import AssetCard, get_asset_store
from fairseq2.gang import create_fake_gangs
from fairseq2.models import ModelFamily
from fairseq2.runtime.dependency import get_dependency_resolver
from torch import device, float32
from torch.nn import Module

from wavellama.checkpoints.interop import describe_kind
from wavellama.cli.asset import show_asset

FILES = "https://dl.fbaipublicfiles.com/mms/"
V1, VARIANT7, WRITTEN = (
    f"omniASR_tokenizer_{name}" for name in ("v1", "v1_variant7", "written_v2")
)


class Facts(NamedTuple):
    """What is published about a model."""

    family: str
    arch: str
    file: str
    tokenizer: str | None
    parameters: int
    keys: int


def _w2v(size: str, arch: str, parameters: int, keys: int) -> Facts:
    return Facts("wav2vec2", arch, f"omniASR-W2V-{size}.pt", None, parameters, keys)


def _ctc(file: str, arch: str, parameters: int, keys: int) -> Facts:
    tokenizer = WRITTEN if arch.endswith("_v2") else V1
    return Facts("wav2vec2_asr", arch, f"omniASR-CTC-{file}.pt", tokenizer, parameters, keys)


def _llm(file: str, arch: str, tokenizer: str, parameters: int, keys: int) -> Facts:
    return Facts("wav2vec2_llama", arch, f"omniASR-LLM-{file}.pt", tokenizer, parameters, keys)


CARDS = {
    "omniASR_W2V_300M": _w2v("300M", "large_lv60k", 317_390_592, 430),
    "omniASR_W2V_1B": _w2v("1B", "1b", 965_514_752, 814),
    "omniASR_W2V_3B": _w2v("3B", "3b", 3_064_124_672, 1006),
    "omniASR_W2V_7B": _w2v("7B", "7b", 6_488_487_168, 2094),
    "omniASR_CTC_300M": _ctc("300M", "300m", 325_494_996, 423),
    "omniASR_CTC_1B": _ctc("1B", "1b", 975_065_300, 807),
    "omniASR_CTC_3B": _ctc("3B", "3b", 3_080_423_636, 999),
    "omniASR_CTC_7B": _ctc("7B", "7b", 6_504_786_132, 2087),
    "omniASR_CTC_300M_v2": _ctc("300M-v2", "300m_v2", 325_982_896, 423),
    "omniASR_CTC_1B_v2": _ctc("1B-v2", "1b_v2", 975_675_056, 807),
    "omniASR_CTC_3B_v2": _ctc("3B-v2", "3b_v2", 3_081_398_960, 999),
    "omniASR_CTC_7B_v2": _ctc("7B-v2", "7b_v2", 6_505_761_456, 2087),
    "omniASR_LLM_300M": _llm("300M", "300m", V1, 1_627_603_584, 535),
    "omniASR_LLM_1B": _llm("1B", "1b", V1, 2_275_710_592, 919),
    "omniASR_LLM_3B": _llm("3B", "3b", V1, 4_376_679_040, 1111),
    "omniASR_LLM_7B": _llm("7B", "7b_v1_variant7", VARIANT7, 7_801_090_688, 2199),
    "omniASR_LLM_7B_ZS": _llm("7B-ZS", "7b_zs", V1, 7_810_900_608, 2198),
    "omniASR_LLM_300M_v2": _llm("300M-v2", "300m_v2", WRITTEN, 1_631_502_976, 535),
    "omniASR_LLM_1B_v2": _llm("1B-v2", "1b_v2", WRITTEN, 2_279_609_984, 919),
    "omniASR_LLM_3B_v2": _llm("3B-v2", "3b_v2", WRITTEN, 4_380_578_432, 1111),
    "omniASR_LLM_7B_v2": _llm("7B-v2", "7b_v2", WRITTEN, 7_804_940_928, 2199),
    **{
        f"omniASR_LLM_{name}": _llm(
            f"Unlimited-{size}-v2", f"{size.lower()}_unlimited_v2", WRITTEN, parameters, keys
        )
        for name, size, parameters, keys in (
            ("Unlimited_300M_v2", "300M", 1_631_511_168, 535),
            ("Unlimited_1B_v2", "1B", 2_279_618_176, 919),
            ("Unlimited_3B_v2", "3B", 4_380_586_624, 1111),
            ("Unlimited_7B_v2", "7B", 7_804_949_120, 2199),
            ("7B_Unlimited", "7B", 7_804_949_120, 2199),
        )
    },
}

TOKENIZERS = {
    V1: "omniASR_tokenizer.model",
    VARIANT7: "omniASR_tokenizer_v7.model",
    WRITTEN: "omniASR_tokenizer_written_v2.model",
}

KINDS = {
    "wav2vec2": "a self-supervised encoder (wav2vec2)",
    "wav2vec2_asr": "a CTC model (wav2vec2_asr)",
    "wav2vec2_llama": "a decoder model (wav2vec2_llama)",
}


def _card(name: str) -> AssetCard:
    return get_asset_store().retrieve_card(name)


@pytest.mark.parametrize("name", CARDS)
def test_a_card_names_what_is_published(name: str) -> None:
    card, facts = _card(name), CARDS[name]
    assert card.field("model_family").as_(str) == facts.family
    assert card.field("model_arch").as_(str) == facts.arch
    assert card.field("checkpoint").as_(str) == FILES + facts.file
    tokenizer = card.maybe_get_field("tokenizer_ref")
    assert (tokenizer and tokenizer.as_(str)) == facts.tokenizer


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_card_names_what_is_published(name: str) -> None:
    card = _card(name)
    assert card.field("tokenizer_family").as_(str) == "char_tokenizer"
    assert card.field("tokenizer").as_(str) == FILES + TOKENIZERS[name]


def test_no_card_of_the_published_names_is_left_out() -> None:
    names = {name.rstrip("@") for name in get_asset_store().asset_names}
    published = {name for name in names if name.startswith("omniASR")}
    assert published == {*CARDS, *TOKENIZERS}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_shown_with_its_resolved_configuration(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show_asset(Namespace(name=name)) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown[name]
    resolved = shown["resolved"]
    encoder = resolved.get("wav2vec2_asr_config", resolved)["encoder_config"]
    layers = {"300M": 24, "1B": 48, "3B": 60, "7B": 128}
    assert encoder["num_encoder_layers"] == next(layers[s] for s in layers if f"_{s}" in name)


@pytest.mark.parametrize("name", CARDS)
def test_a_card_builds_a_model_of_the_published_size(name: str) -> None:
    """Built on the meta device; the 7B models have 2,000 parameters, none of them in memory."""
    facts = CARDS[name]
    family = get_dependency_resolver().resolve(ModelFamily, key=facts.family)
    gangs = create_fake_gangs(device("cpu"))
    config = family.get_model_config(_card(name))
    model = family.create_new_model(config, gangs, float32, True, True)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert num_parameters - _num_appended(model) == facts.parameters
    assert len(model.state_dict()) == facts.keys
    assert describe_kind(model.state_dict()) == KINDS[facts.family]


def _num_appended(model: Module) -> int:
    """Return the parameters of languages that were appended to the published table."""
    embeddings = getattr(model, "lang_embeddings", None)
    return 0 if embeddings is None else int(embeddings.weight[1 + 1693 :].numel())
