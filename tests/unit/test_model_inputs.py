"""How LLM_ASR_LID reads languages, and how often training shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.fakes import (
    LID,
    SMALL,
    arch_config,
    decoder_inputs_of,
    loss_of,
    make_batch,
    make_waveforms,
    merge,
    small_model,
    tiny_model,
)
from wavellama import Wav2Vec2LlamaBeamSearchConfig, Wav2Vec2LlamaModel, generate
from wavellama.checkpoints.interop import convert_state_dict
from wavellama.errors import BatchError, UnknownLanguageError
from wavellama.model.draws import Draws, keep_rows
from wavellama.text import languages as languages_module
from wavellama.text.languages import language_table, languages

ROWS = 24
WAVEFORMS = make_waveforms([500] * ROWS)


def _lid_model(keep_p: float = 0.5) -> Wav2Vec2LlamaModel:
    return tiny_model(merge(merge(SMALL, LID), {"lang_embeddings_p": keep_p}))


def _shown(model: Wav2Vec2LlamaModel, langs: Sequence[str | None]) -> Tensor:
    """Return what stands at each row's language position. (N, M)."""
    inputs = decoder_inputs_of(model, make_batch(WAVEFORMS[: len(langs)], None, langs))
    (context,), (lens,) = inputs.decoder_context_inputs, inputs.decoder_context_seq_lens
    return torch.stack([row[length - 2] for row, length in zip(context, lens, strict=True)])


def _kept(model: Wav2Vec2LlamaModel, rows: int = ROWS) -> list[bool]:
    """Return which rows show their language."""
    assert model.lang_embeddings is not None
    language = model.lang_embeddings.weight[language_table()["eng_Latn"]]
    no_language = model.lang_embeddings.weight[0]
    shown = _shown(model, ["eng_Latn"] * rows)
    kept = [torch.equal(row, language) for row in shown]
    assert [torch.equal(row, no_language) for row in shown] == [not k for k in kept]
    return kept


@torch.no_grad()
def test_in_eval_mode_every_row_shows_its_language() -> None:
    model = small_model(lid=True)
    assert model.lang_embeddings is not None
    rows = [language_table()[code] for code in ("eng_Latn", "deu_Latn")]
    expected = model.lang_embeddings.weight[[rows[0], 0, rows[1], rows[1]]]
    assert torch.equal(_shown(model, ["eng_Latn", None, "deu_Latn", "DEU_latn"]), expected)


@torch.no_grad()
def test_without_languages_row_0_is_shown() -> None:
    model = small_model(lid=True)
    assert model.lang_embeddings is not None
    assert torch.equal(_shown(model, [None]), model.lang_embeddings.weight[:1])
    batch = make_batch(WAVEFORMS[:1])
    with_none = make_batch(WAVEFORMS[:1], None, [None])
    assert torch.equal(loss_of(model, batch), loss_of(model, with_none))


@torch.no_grad()
@pytest.mark.parametrize("code", ["xxx_Xxxx", "eng_Latin"])
def test_an_unknown_language_is_an_error_everywhere(code: str) -> None:
    model = small_model(lid=True)
    batch = make_batch(WAVEFORMS[:2], None, ["eng_Latn", code])
    with pytest.raises(UnknownLanguageError, match=code):
        model(batch)
    with pytest.raises(UnknownLanguageError, match=code):
        generate(model, batch)


def test_training_without_languages_is_an_error() -> None:
    model = _lid_model().train()
    with pytest.raises(BatchError, match="`lang`"):
        model(make_batch(WAVEFORMS[:1]))


def test_decoding_a_model_in_training_needs_no_languages() -> None:
    model = _lid_model().train()
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=1)
    assert len(generate(model, make_batch(WAVEFORMS[:2]), config)) == 2


@torch.no_grad()
@pytest.mark.parametrize(("keep_p", "expected"), [(0.0, 0), (1.0, ROWS)])
def test_lang_embeddings_p_is_the_probability_to_keep(keep_p: float, expected: int) -> None:
    assert sum(_kept(_lid_model(keep_p).train())) == expected


@pytest.mark.parametrize("keep_p", [0.1, 0.5, 0.8])
def test_rows_are_kept_with_that_probability(keep_p: float) -> None:
    kept = keep_rows(20_000, keep_p, torch.Generator().manual_seed(3))
    assert sum(kept) / len(kept) == pytest.approx(keep_p, abs=0.02)


@torch.no_grad()
def test_a_resumed_step_repeats_its_draws() -> None:
    model = _lid_model().train()
    model.draws.start_step(7, rank=1)
    first, second = _kept(model), _kept(model)
    model.draws.start_step(8, rank=1)
    _kept(model)
    model.draws.start_step(7, rank=1)
    assert [_kept(model), _kept(model)] == [first, second]


@torch.no_grad()
def test_global_random_state_plays_no_part() -> None:
    model = _lid_model().train()
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model.draws.start_step(3, rank=0)
        results.append(_kept(model))
    assert results[0] == results[1]
    state = torch.get_rng_state()
    _kept(model)
    assert torch.equal(torch.get_rng_state(), state)


def _draw(seed: int, step_nr: int, rank: int, call: int) -> list[float]:
    draws = Draws(seed)
    draws.start_step(step_nr, rank)
    for _ in range(call):
        draws.next_generator()
    return torch.rand(8, generator=draws.next_generator()).tolist()


@pytest.mark.parametrize(
    "other", [(43, 1, 1, 1), (42, 2, 1, 1), (42, 1, 2, 1), (42, 1, 1, 2), (42, 11, 0, 1)], ids=str
)
def test_draws_differ_in_seed_step_rank_and_call(other: tuple[int, int, int, int]) -> None:
    assert _draw(42, 1, 1, 1) == _draw(42, 1, 1, 1)
    assert _draw(42, 1, 1, 1) != _draw(*other)


def test_row_i_uses_the_ith_draw() -> None:
    """A batch cut short draws the same for the rows that remain."""
    many = keep_rows(10, 0.5, torch.Generator().manual_seed(1))
    assert keep_rows(4, 0.5, torch.Generator().manual_seed(1)) == many[:4]


def test_llm_asr_takes_no_notice_of_languages() -> None:
    model = small_model()
    assert model.lang_embeddings is None
    batch = make_batch(WAVEFORMS[:1], None, ["xxx_Xxxx"])
    assert torch.equal(loss_of(model, batch), loss_of(model, make_batch(WAVEFORMS[:1])))


# A language that is appended to the packaged table


@pytest.fixture
def appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Append a row as CONTRIBUTING says; yields its row in the embedding."""
    index = len(languages())
    table = files("wavellama.assets") / "languages.tsv"
    text = f"{table.read_text(encoding='utf-8')}{index}\tqaa_Latn\t0\tElvish\n"
    (tmp_path / "languages.tsv").write_text(text, encoding="utf-8")
    monkeypatch.setattr(languages_module, "files", lambda package: tmp_path)
    _forget_the_table()
    yield index + 1
    monkeypatch.undo()
    _forget_the_table()


def _forget_the_table() -> None:
    languages.cache_clear()
    language_table.cache_clear()


def test_a_row_of_the_table_is_all_that_a_new_language_takes(appended: int) -> None:
    assert language_table().resolve("QAA") == "qaa_Latn"
    assert languages()["qaa_Latn"].label == "qaa_Latn (Elvish)"
    model = _lid_model(keep_p=1.0)
    assert model.lang_embeddings is not None
    loss = loss_of(model.train(), make_batch(WAVEFORMS[:1], [[4]], ["qaa_Latn"]))
    (grad,) = torch.autograd.grad(loss, [model.lang_embeddings.weight])
    assert grad.abs().sum(dim=1).nonzero().tolist() == [[appended]]
    batch = make_batch(WAVEFORMS[:1], None, ["qaa"])
    config = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=3)
    assert len(generate(model.eval(), batch, config)[0]) == 1


def test_a_checkpoint_from_before_the_row_loads(appended: int) -> None:
    model = _lid_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    known = before["lang_embeddings.weight"] = before["lang_embeddings.weight"][:appended]
    config = arch_config("tiny", merge(SMALL, LID))
    model.load_state_dict(convert_state_dict({"model": before}, config))
    assert model.lang_embeddings is not None
    assert torch.equal(model.lang_embeddings.weight[:appended], known)
