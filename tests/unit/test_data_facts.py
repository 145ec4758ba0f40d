"""What is known of utterances in arrays is what each of them says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wavellama.data.facts import Names, facts_of, take
from wavellama.data.utterance import Utterance

NAMES = st.sampled_from([None, "a", "b", "c"])


@given(st.lists(st.tuples(st.floats(0.1, 30), NAMES, NAMES), max_size=20), st.data())
def test_facts_and_utterances_agree(
    rows: list[tuple[float, str | None, str | None]], data: st.DataObject
) -> None:
    utterances = [
        Utterance(Path("x"), "t", secs, lang=lang, corpus=corpus) for secs, lang, corpus in rows
    ]
    chosen = st.lists(st.integers(0, len(rows) - 1), unique=True) if rows else st.just([])
    places = np.array(sorted(data.draw(chosen)), np.int64)

    facts, some = facts_of(utterances)[places], take(utterances, places)

    assert facts.secs.tolist() == [one.duration for one in some]
    for names, of in ((facts.langs, "lang"), (facts.corpora, "corpus")):
        expected = [getattr(one, of) for one in some]
        assert [names.known[number] for number in names.numbers] == expected
        assert set(names.used()) == set(expected)
        for name, where in names.places().items():
            assert where.tolist() == [i for i, own in enumerate(expected) if own == name]
        assert names.are_in(["a", "c"]).tolist() == [own in ("a", "c") for own in expected]


def test_names_are_numbered_as_they_come() -> None:
    assert Names.of(["b", None, "b", "a"]).known == ["b", None, "a"]
