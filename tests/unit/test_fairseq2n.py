"""fairseq2 without its native package: the same texts, the same tokens, and what cannot be had."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from fairseq2.data.tokenizers import sentencepiece as native
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceTrainer

from wavellama import fairseq2n as ours
from wavellama.cli.main import main
from wavellama.errors import ConfigError

ROOT: Final = Path(__file__).parents[2]
TOKENIZERS: Final = sorted((ROOT / "assets/tokenizers").glob("*.model"))
AUDIO: Final = ROOT / "assets/corpora/mini/audio"

BLOCKED: Final = """
import sys
for name in ("fairseq2n", "editdistance", "sacrebleu"): sys.modules[name] = None
import wavellama
"""
"""What makes packages such that are not installed, in a process of its own."""


def _without(program: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKED + program, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of longer pieces and bytes, which normalises texts."""
    prefix = tmp_path_factory.mktemp("pieces") / "pieces"
    SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the mat", "the hat of the rat"] * 20),
        model_prefix=str(prefix),
        vocab_size=290,
        hard_vocab_limit=False,
        byte_fallback=True,
        minloglevel=2,
    )
    return prefix.with_suffix(".model")


def _outcome(call: Callable[[], Any]) -> object:
    """Return what a call gives, tensors as lists, or the kind of error that it raises."""
    try:
        result = call()
    except (ValueError, RuntimeError) as ex:
        return type(ex)
    return result.tolist() if isinstance(result, torch.Tensor) else result


def _everything(module: Any, path: Path, text: str, tokens: list[int]) -> list[object]:
    """Return all that the classes of a module tell of a text and of some tokens."""
    model = module.SentencePieceModel(path)
    raw = module.SentencePieceEncoder(model)
    framed = module.SentencePieceEncoder(model, prefix_tokens=["<s>"], suffix_tokens=["</s>", "a"])
    decoder = module.SentencePieceDecoder(model)
    return [
        native.get_sentencepiece_vocabulary_info(model),
        *(model.token_to_index(token) for token in ("a", "<unk>", "nothing of the kind")),
        *(_outcome(partial(model.index_to_token, i)) for i in (0, 5, -1, 10**6)),
        *(raw(text).tolist(), str(raw(text).dtype), raw.prefix_indices, raw.suffix_indices),
        *(framed(text).tolist(), framed.encode_as_tokens(text)),
        *(framed.prefix_indices.tolist(), framed.suffix_indices.tolist()),
        *(decoder(raw(text)), decoder(framed(text).int())),
        _outcome(lambda: decoder(torch.tensor(tokens, dtype=torch.int64))),
        decoder.decode_from_tokens(framed.encode_as_tokens(text)),
        _outcome(lambda: decoder(torch.zeros(2, 2, dtype=torch.int64))),
    ]


@given(st.text(max_size=20), st.lists(st.integers(-1, 40), max_size=8))
@pytest.mark.parametrize("path", TOKENIZERS, ids=lambda path: path.stem)
def test_tokens_and_texts_are_those_of_the_native_package(
    path: Path, text: str, tokens: list[int]
) -> None:
    assert _everything(ours, path, text, tokens) == _everything(native, path, text, tokens)


@given(st.text(max_size=20) | st.text("the cat sat\u3000\ufb01é", max_size=20))
def test_pieces_and_bytes_too(pieces: Path, text: str) -> None:
    tokens = [3, 70, 300, 271, 5]  # single bytes are no character
    assert _everything(ours, pieces, text, tokens) == _everything(native, pieces, text, tokens)


@pytest.mark.parametrize("content", [None, b"", b"no model"])
def test_a_file_that_is_no_tokenizer_is_told(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x.model").write_bytes(content)
    with pytest.raises(RuntimeError):  # what fairseq2 makes a TokenizerModelError of
        ours.SentencePieceModel(tmp_path / "x.model")


def test_control_symbols_need_the_native_package() -> None:
    with pytest.raises(ConfigError, match=r"^A tokenizer with control symbols is in .* torch 2\.9"):
        ours.SentencePieceModel(TOKENIZERS[0], ["<pad>@0"])


def test_without_the_native_package_texts_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    clip = AUDIO / "ita_Latn/asterisk-it/asterisk_tt-allbusy.ogg"
    words = ("transcribe", str(clip), "--format", "tsv", "--word-timestamps")
    blocked = _without("from wavellama.cli.main import main; main()", *words)
    with pytest.raises(SystemExit):
        main(words)
    assert blocked.returncode == 0, blocked.stderr
    assert len(blocked.stdout) > 100
    assert blocked.stdout == capsys.readouterr().out


def test_a_model_is_trained_without_it(tmp_path: Path) -> None:
    words = ("recipe", "asr", "train", "toy_train", "--output-dir", tmp_path / "run")
    steps = ("num_steps", "validate_every_n_steps", "checkpoint_every_n_steps")
    values = (f"regime.{name}=1" for name in steps)
    ended = _without("from wavellama.cli.main import main; main()", *words, "--config", *values)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "run/checkpoints/step_1/model").is_dir()


def test_all_that_fairseq2_imports_is_found_and_says_what_is_missing_when_called() -> None:
    spec = find_spec("fairseq2")
    assert spec is not None
    assert spec.origin is not None
    imports = re.compile(r"^ *from (fairseq2n[\w.]*) import", re.MULTILINE)
    files = Path(spec.origin).parent.rglob("*.py")
    modules = {name for file in files for name in imports.findall(file.read_text("utf-8"))}
    assert len(modules) > 8
    program = f"""
for name in {modules}: assert sys.modules[name].anything
import fairseq2.data.audio, fairseq2.data.image, fairseq2.data.text
from fairseq2.data.data_pipeline import DataPipelineError, read_sequence
from wavellama.errors import ConfigError
try: read_sequence([])
except DataPipelineError: pass
except ConfigError as ex: print(ex)
"""
    ended = _without(program)
    assert ended.stderr == ""
    assert ended.stdout.startswith("read_sequence is in fairseq2's native package fairseq2n, which")


def test_the_native_package_is_used_where_there_is_one() -> None:
    ours.ensure_fairseq2n()
    assert type(sys.modules["fairseq2n"]) is type(sys)


def test_the_extra_is_what_fairseq2_requires() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    listed = re.search(r"^without-fairseq2n = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert listed is not None
    theirs = {item for item in requires("fairseq2") or () if "extra ==" not in item}
    missing = theirs - {*re.findall(r'"(.*?)"', listed[1])}
    # Two are imported by fairseq2's metrics of texts alone; of psutil newer ones are taken, too.
    unlisted = {"fairseq2n==0.8.1", "editdistance~=0.8", "sacrebleu~=2.4", "psutil~=5.9"}
    assert missing == unlisted
