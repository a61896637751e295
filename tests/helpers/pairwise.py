"""Choices from products of switches that do not interact."""

import itertools
import os
from collections.abc import Callable, Iterable
from typing import Any

ALL = int(os.environ.get("LSTM_TOOLKIT_EXAMPLES", "15")) >= 100
"""Whether the whole products are tested."""


def pairwise(*switches: Iterable[Any], where: Callable[..., bool] = lambda *_: True) -> list[tuple[Any, ...]]:
    """Rows in which every pair of two switches' values stands at least once; all rows with `LSTM_TOOLKIT_EXAMPLES`=100.

    Args:
        switches: the values of each switch.
        where: whether a row may be.
    """
    rows = [row for row in itertools.product(*switches) if where(*row)]
    if ALL:
        return rows
    left = set().union(*map(_pairs, rows))
    chosen = []
    while left:
        chosen.append(max(rows, key=lambda row: len(_pairs(row) & left)))
        left -= _pairs(chosen[-1])
    return chosen


def _pairs(row: tuple[Any, ...]) -> set[Any]:
    return set(itertools.combinations(enumerate(row), 2))
