"""Choices from products of switches: every pair of values stands in a row, and the whole product on request."""

import itertools

from tests.helpers import pairwise

SWITCHES = (("a", "b", "c"), (True, False), (1, 3), (7, None))


def pairs(rows):
    return {pair for row in rows for pair in itertools.combinations(enumerate(row), 2)}


def test_every_pair_stands_in_a_row():
    rows = pairwise.pairwise(*SWITCHES)
    assert pairs(rows) == pairs(itertools.product(*SWITCHES))
    assert len(rows) <= 8


def test_rows_that_may_not_be_are_left_out():
    rows = pairwise.pairwise(*SWITCHES, where=lambda name, _, __, time: name != "b" or time is not None)
    assert ("b", None) not in {(name, time) for name, _, _, time in rows}
    assert pairs(rows) == pairs(row for row in itertools.product(*SWITCHES) if row[0] != "b" or row[3] is not None)


def test_all_rows_on_request(monkeypatch):
    monkeypatch.setattr(pairwise, "ALL", True)
    assert pairwise.pairwise(*SWITCHES) == list(itertools.product(*SWITCHES))
