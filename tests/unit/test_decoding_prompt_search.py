"""CTC drafts, from a batch to hypotheses."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.fakes import LID, SMALL, Utterances, make_waveforms, merge, tiny_model
from wavellama import Wav2Vec2LlamaBeamSearchConfig, Wav2Vec2LlamaModel, generate
from wavellama.decoding import prompt_search
from wavellama.errors import BatchError, ConfigError
from wavellama.search.beam import Row
from wavellama.search.speculative import SpeculativeSearch

ROWS = Utterances(make_waveforms([5000, 3000, 900]), [[4]] * 3, ["eng_Latn", None, "deu_Latn"])
GREEDY = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=12)
DRAFT = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=12, ctc_draft=True)
STREAMING = {"n_special_tokens": 3, "streaming_config": {"is_streaming": True, "segment_secs": 0.1}}


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[SpeculativeSearch]:
    """The searches with drafts that were made."""
    made: list[SpeculativeSearch] = []

    def create(*args: object) -> SpeculativeSearch:
        made.append(SpeculativeSearch(*args))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(prompt_search, "SpeculativeSearch", create)
    return made


def model_with_head(**overrides: object) -> Wav2Vec2LlamaModel:
    return tiny_model(merge(merge(SMALL, LID), {"ctc_head": True, **overrides}), sharpness=8.0)


def test_the_heads_draft_changes_no_text(searches: list[SpeculativeSearch]) -> None:
    model, batch = model_with_head(), ROWS.batch()
    expected = generate(model, batch, GREEDY)
    assert not searches
    results = generate(model, batch, DRAFT)
    assert [row[0].tokens for row in results] == [row[0].tokens for row in expected]
    assert [row[0].stop_reason for row in results] == [row[0].stop_reason for row in expected]
    assert len(searches) == 1


def test_a_draft_from_elsewhere_saves_calls(searches: list[SpeculativeSearch]) -> None:
    model, batch = model_with_head(), ROWS.batch()
    expected = generate(model, batch, GREEDY)
    drafts = [row[0].tokens for row in expected]
    assert generate(model, batch, GREEDY, drafts=drafts)[1][0].tokens == drafts[1]
    counts = searches[0].counts
    assert counts.num_tokens == sum(len(row[0].token_logprobs) for row in expected)
    assert counts.num_calls < counts.num_tokens


def test_streaming_models_take_the_draft_of_each_segment(
    searches: list[SpeculativeSearch],
) -> None:
    model, batch = model_with_head(**STREAMING), ROWS.batch()
    expected = generate(model, batch, GREEDY)
    assert generate(model, batch, DRAFT)[0][0].tokens == expected[0][0].tokens
    assert len(searches) > 1


def test_a_model_without_a_head_decodes_plainly(searches: list[SpeculativeSearch]) -> None:
    model, batch = tiny_model(merge(SMALL, LID), sharpness=8.0), ROWS.batch()
    assert generate(model, batch, DRAFT) == generate(model, batch, GREEDY)
    assert not searches


def test_an_observer_sees_every_step(searches: list[SpeculativeSearch]) -> None:
    seen: list[int] = []

    def observer(rows: Sequence[Row]) -> None:
        seen.append(max(len(beam.tokens) for row in rows for beam in row.beams))

    generate(model_with_head(), ROWS.batch(), DRAFT, observer=observer)
    assert seen == list(range(1, len(seen) + 1))
    assert not searches


@pytest.mark.parametrize("overrides", [{"nbest": 2}, {"nbest": 1, "ctc_weight": 0.5}])
def test_drafts_need_a_greedy_search(overrides: dict[str, float]) -> None:
    config = Wav2Vec2LlamaBeamSearchConfig(**overrides)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="beam of 1"):
        generate(model_with_head(), ROWS.batch(), config, drafts=[[], [], []])


def test_drafts_from_elsewhere_do_not_stream() -> None:
    with pytest.raises(ConfigError, match="`drafts` needs a model that is not streaming"):
        generate(model_with_head(**STREAMING), ROWS.batch(), GREEDY, drafts=[[], [], []])


@pytest.mark.parametrize(
    ("drafts", "message"),
    [
        ([[4]], "There are 1 drafts for 3 rows"),
        ([[4]] * 4, "There are 4 drafts for 3 rows"),
        ([[4], [5, 12], []], "draft of row 1 has the token 12, but the vocabulary has 12 tokens"),
        ([[4], [], [-1]], "draft of row 2 has the token -1"),
    ],
    ids=str,
)
def test_drafts_must_fit_the_batch(drafts: list[list[int]], message: str) -> None:
    with pytest.raises(BatchError, match=message):
        generate(model_with_head(), ROWS.batch(), GREEDY, drafts=drafts)
