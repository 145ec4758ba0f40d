"""Cards: golden checkpoints through fairseq2's ``load_model``, and the published models' sizes.

Everything runs in one process of its own, which has its own asset directory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import yaml

from tests.fakes import GOLDEN, golden_case

CASES = ["llm_asr", "gqa", "llm_asr_lid"]

SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
import wavellama
import torch
from fairseq2.models import load_model
torch.set_num_threads(1)

def load(name):
    model = load_model(name, device=torch.device("cpu"), dtype=torch.float32)
    return {
        "class": type(model).__name__,
        "devices": sorted({str(t.device) for t in [*model.parameters(), *model.buffers()]}),
        "shapes": {name: list(t.shape) for name, t in model.state_dict().items()},
        "sum": sum(t.double().sum().item() for t in model.state_dict().values()),
        "tokens": decode(model),
    }

def decode(model):
    from safetensors.torch import load_file
    from fairseq2.datasets import Seq2SeqBatch
    facts = json.load(open(sys.argv[1]))[model_case]
    case = json.load(open(facts["case"]))
    tensors = load_file(facts["tensors"])
    batch = Seq2SeqBatch(
        tensors["source_seqs"], case["source_seq_lens"],
        tensors["target_seqs"], case["target_seq_lens"], example={"lang": case["langs"]},
    )
    config = wavellama.Wav2Vec2LlamaBeamSearchConfig(nbest=5)
    return [row[0].tokens for row in wavellama.generate(model, batch, config)]

def size(name):
    hub = wavellama.get_wav2vec2_llama_model_hub()
    config = hub.get_model_config(name)
    model = hub.create_new_model(config, meta=True)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    appended = model.lang_embeddings.weight[1 + 1693:]  # behind the published languages
    return [sum(p.numel() for p in model.parameters()) - appended.numel(), len(model.state_dict())]

def attempt(function, name):
    try:
        return function(name)
    except Exception as ex:
        chain = []
        while ex is not None:
            chain.append(f"{type(ex).__name__}: {ex}")
            ex = ex.__cause__ or ex.__context__
        return {"error": chain}

answers = {}
for kind, name in json.load(open(sys.argv[1]))["ask"]:
    model_case = name
    answers[name] = attempt({"load": load, "size": size}[kind], name)
print("ANSWERS", json.dumps(answers))
"""


class Size(NamedTuple):
    """What the facts say about a published model."""

    parameters: int
    keys: int


SIZES = {
    "omniASR_LLM_300M": Size(1_627_603_584, 535),
    "omniASR_LLM_1B": Size(2_275_710_592, 919),
    "omniASR_LLM_3B": Size(4_376_679_040, 1111),
    "omniASR_LLM_7B": Size(7_801_090_688, 2199),
    "omniASR_LLM_300M_v2": Size(1_631_502_976, 535),
    "omniASR_LLM_1B_v2": Size(2_279_609_984, 919),
    "omniASR_LLM_3B_v2": Size(4_380_578_432, 1111),
    "omniASR_LLM_7B_v2": Size(7_804_940_928, 2199),
}


def _card(case: str, **changes: object) -> dict[str, object]:
    return {
        "name": f"golden_{case}",
        "model_family": "wav2vec2_llama",
        "model_arch": "tiny",
        "model_config": golden_case(case).facts["config"],
        "checkpoint": f"{case}.pt",
        **changes,
    }


def _bad_cards() -> list[dict[str, object]]:
    config: Any = golden_case("llm_asr").facts["config"]
    wider = {**config, "llama_config": {**config["llama_config"], "model_dim": 56}}
    unknown = {**config, "frozen_encoder": True}
    mismatch = {**config, "n_special_tokens": 1}
    return [
        _card("llm_asr", name="does_not_fit", model_config=wider),
        _card("llm_asr", name="unknown_key", model_config=unknown),
        _card("llm_asr", name="contradiction", model_config=mismatch),
        _card("llm_asr", name="wrong_names", checkpoint="llm_asr_lid.pt"),
        _card("llm_asr", name="half_downloaded", checkpoint="half.pt"),
    ]


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Run the script once, and return what it says about each card."""
    folder = tmp_path_factory.mktemp("assets")
    questions: dict[str, Any] = {"ask": [["size", name] for name in SIZES]}
    cards = [_card(case) for case in CASES] + _bad_cards()
    for case in CASES:
        data = (GOLDEN / case / "model.pt").read_bytes()
        (folder / f"{case}.pt").write_bytes(data)
        (folder / "half.pt").write_bytes(data[: len(data) // 2])
        files = {"case": "case.json", "tensors": "tensors.safetensors"}
        questions[f"golden_{case}"] = {k: str(GOLDEN / case / v) for k, v in files.items()}
    questions["ask"] += [["load", card["name"]] for card in cards]
    with (folder / "cards.yaml").open("w", encoding="utf-8") as file:
        yaml.safe_dump_all(cards, file)
    (folder / "questions.json").write_text(json.dumps(questions), "utf-8")
    environment = {
        **os.environ,
        "FAIRSEQ2_USER_ASSET_DIR": str(folder),
        "FAIRSEQ2_EXTENSION_TRACE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", SCRIPT, str(folder / "questions.json")]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("ANSWERS ")]
    read: Mapping[str, Any] = json.loads(line.removeprefix("ANSWERS "))
    return read


# One worker of pytest-xdist runs all of these: the fixture is worth sharing.
pytestmark = pytest.mark.xdist_group("cards")


@pytest.mark.parametrize("case", CASES)
def test_a_golden_checkpoint_loads_by_its_card(answers: Mapping[str, Any], case: str) -> None:
    answer, facts = answers[f"golden_{case}"], golden_case(case).facts
    assert "error" not in answer, answer
    assert answer["class"] == "Wav2Vec2LlamaModel"
    assert answer["devices"] == ["cpu"]
    assert answer["shapes"] == facts["state_dict_shapes"]
    total = sum(t.double().sum().item() for t in golden_case(case).state_dict.values())
    assert answer["sum"] == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_a_model_loaded_by_its_card_decodes_the_golden_rows(
    answers: Mapping[str, Any], case: str
) -> None:
    """Buffers that no checkpoint holds are in place, too: rotary tables, for one."""
    expected = golden_case(case).facts["hypotheses"]["nbest5_ln0"]
    assert answers[f"golden_{case}"]["tokens"] == expected


@pytest.mark.parametrize("name", SIZES)
def test_a_published_model_has_the_published_size(answers: Mapping[str, Any], name: str) -> None:
    assert answers[name] == list(SIZES[name])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("does_not_fit", ["56", "48"]),
        ("unknown_key", ["frozen_encoder"]),
        ("contradiction", ["n_special_tokens", "1", "0"]),
        ("wrong_names", ["lang_embeddings.weight"]),
        ("half_downloaded", ["half.pt"]),
    ],
)
def test_a_bad_card_is_an_error_that_names_the_value(
    answers: Mapping[str, Any], name: str, words: list[str]
) -> None:
    assert "error" in answers[name]
    message = "\n".join(answers[name]["error"])
    for word in words:
        assert word in message
