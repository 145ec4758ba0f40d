"""Random orders of rows: each row once, groups near each other, windows as if there were none."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from wavellama.data.shuffle import WINDOW, shuffle


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 3 * WINDOW), st.integers(1, 700), st.integers(0, 99))
def test_every_row_comes_once(num_rows: int, group_size: int, seed: int) -> None:
    rows = torch.arange(num_rows)
    groups = np.arange(num_rows) // group_size

    order = shuffle(rows, groups, _generator(seed))

    assert torch.equal(order.sort().values, rows)


def test_no_more_groups_are_read_in_a_window_than_fill_it() -> None:
    rows, groups = torch.arange(20 * WINDOW), np.arange(20 * WINDOW) // 100

    order = shuffle(rows, groups, _generator())

    for window in torch.split(order, WINDOW):
        assert len(np.unique(groups[window.numpy()])) <= WINDOW // 100 + 2
    neighbours = (order[1:] - order[:-1]).abs()
    assert float((neighbours == 1).double().mean()) < 0.01
    firsts = [int(groups[int(window[0])]) for window in torch.split(order, WINDOW)]
    assert firsts != sorted(firsts)


def test_a_single_window_is_shuffled_as_if_there_were_no_groups() -> None:
    rows, groups = torch.arange(WINDOW), np.arange(WINDOW) // 100

    assert torch.equal(shuffle(rows, groups, _generator()), shuffle(rows, None, _generator()))


def test_rows_of_one_part_keep_to_the_groups_of_all() -> None:
    groups = np.arange(40 * WINDOW) // 100
    rows = torch.arange(0, 40 * WINDOW, 2)

    order = shuffle(rows, groups, _generator(1))

    assert torch.equal(order.sort().values, rows)
    for window in torch.split(order, WINDOW):
        assert len(np.unique(groups[window.numpy()])) <= WINDOW // 50 + 3
