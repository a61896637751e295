"""int8 where the samples, or the weights, leave a tensor without a range: no scale of zero, no crash, right numbers."""

import numpy as np
import pytest

from tests.helpers.degenerate import CASES, results

TOLERANCE = 0.05
"""Largest difference from Keras, relative to the largest output where that is above 0.2."""


@pytest.mark.parametrize("name", CASES)
def test_it_converts_and_is_right(name):
    result = results()[name]
    assert result["error"] == ""
    scales = np.array(result["scales"])
    assert scales.size
    assert np.isfinite(scales).all()
    assert scales.min() > np.finfo(np.float32).tiny
    assert result["difference"] <= TOLERANCE * max(0.2, result["largest"])


@pytest.mark.parametrize(
    ("name", "value"), [("zeros", "x' is 0"), ("a constant", "x' is 0.7"), ("one input of two", "b' is 0")]
)
def test_an_input_of_one_value_is_a_doubt(name, value):
    doubts = [each for each in results()[name]["warnings"] if "tells nothing of other values" in each]
    assert len(doubts) == 1
    assert f"input '{value} in all samples" in doubts[0]


def test_what_can_be_checked_is_not_empty():
    assert results()["input weights of zeros"]["largest"] > 1
    assert results()["a Dense of zeros"]["largest"] == 0
