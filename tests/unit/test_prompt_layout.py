"""From parts to positions."""

from __future__ import annotations

from wavellama.prompt.assemble import (
    AudioSpan,
    Item,
    LanguageSpan,
    Prompt,
    PromptRow,
    TokenSpan,
    assemble,
)
from wavellama.prompt.layout import NO_LABEL, PromptLayout, lay_out
from wavellama.prompt.syntaxes import LLM_ASR, LLM_ASR_LID

N = NO_LABEL
IDS = LLM_ASR_LID.token_ids(0, 2, 32)


def _lid_rows(*targets: list[int]) -> list[Prompt]:
    rows = [PromptRow(Item(i, target), 10 + i) for i, target in enumerate(targets)]
    return assemble(LLM_ASR_LID.parts, IDS, rows)


def _lay_out_lid() -> PromptLayout:
    return lay_out(_lid_rows([7, 8, 9], [5]), clip_lens=[2, 3])


def test_assemble_follows_the_parts() -> None:
    assert _lid_rows([7, 8]) == [
        (
            AudioSpan(0),
            TokenSpan((32,)),
            LanguageSpan(10),
            TokenSpan((0,)),
            TokenSpan((7, 8), (7, 8)),
            TokenSpan((2,), (2,)),
        )
    ]


def test_assemble_of_the_prompt_stops_before_the_text() -> None:
    (prompt,) = assemble(LLM_ASR.prompt, LLM_ASR.token_ids(0, 2, 32), [PromptRow(Item(4))])
    assert prompt == (AudioSpan(4), TokenSpan((0,)))


def test_positions_point_into_the_pool() -> None:
    """The pool: 2 + 3 frames, tokens [32 0 7 8 9 2 | 32 0 5 2], languages [10 11], zeros."""
    layout = _lay_out_lid()
    assert layout.token_ids.tolist() == [32, 0, 7, 8, 9, 2, 32, 0, 5, 2]
    assert layout.languages.tolist() == [10, 11]
    assert layout.index.tolist() == [
        [0, 1, 5, 15, 6, 7, 8, 9, 10],
        [2, 3, 4, 11, 16, 12, 13, 14, 17],
    ]


def test_lengths() -> None:
    layout = _lay_out_lid()
    assert layout.seq_lens == [9, 8]
    assert layout.context_lens == [[5, 6]]


def test_each_label_stands_one_position_before_its_token() -> None:
    assert _lay_out_lid().labels.tolist() == [
        [N, N, N, N, 7, 8, 9, 2, N],
        [N, N, N, N, N, 5, 2, N, N],
    ]


def test_an_empty_text_leaves_eos_to_predict() -> None:
    layout = lay_out(_lid_rows([]), clip_lens=[1])
    assert layout.labels.tolist() == [[N, N, N, 2, N]]
    assert layout.context_lens == [[4]]
    assert layout.seq_lens == [5]


def test_without_covered_parts_the_context_is_everything() -> None:
    prompts = assemble(LLM_ASR_LID.prompt, IDS, [PromptRow(Item(0)), PromptRow(Item(1))])
    layout = lay_out(prompts, clip_lens=[3, 1])
    assert layout.context_lens == [layout.seq_lens] == [[6, 4]]
    assert (layout.labels == N).all()


def test_several_clips_and_texts_in_one_row() -> None:
    """As streaming needs it: an uncovered token between two covered texts is no label."""
    prompt: Prompt = (
        AudioSpan(1),
        TokenSpan((0,)),
        TokenSpan((7,), (7,)),
        AudioSpan(0),
        TokenSpan((0,)),
        TokenSpan((8, 2), (8, 2)),
    )
    layout = lay_out([prompt], clip_lens=[1, 2])
    assert layout.index.tolist() == [[1, 2, 3, 4, 0, 5, 6, 7]]
    assert layout.labels.tolist() == [[N, N, 7, N, N, 8, 2, N]]
    assert layout.context_lens == [[3], [2]]


def test_token_noise_changes_what_is_read_and_not_what_is_predicted() -> None:
    (prompt,) = assemble(LLM_ASR.parts, IDS, [PromptRow(Item(0, target=[7, 8], shown=[7, 30]))])
    layout = lay_out([prompt], clip_lens=[1])
    assert layout.token_ids.tolist() == [0, 7, 30, 2]
    assert layout.labels.tolist() == [[N, 7, 8, 2, N]]
