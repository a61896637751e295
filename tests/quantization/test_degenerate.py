"""int8 where the samples, or the weights, leave a tensor without a range: no scale of zero, no crash, right numbers."""

import dataclasses

import numpy as np
import pytest

import lstm_toolkit as lt
from lstm_toolkit.weights.operands import LAYER_NORM_COEFFICIENTS
from tests.helpers.degenerate import CASES, results
from tests.helpers.weights import random_operands

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


@pytest.mark.parametrize("variant", ["projection", "layer_norm"])
def test_biases_beside_factors_of_zero(variant):
    variants = dict.fromkeys(("cifg", "peephole", "projection", "layer_norm"), False) | {variant: True}
    weights = lt.GateWeights.from_operands(random_operands(np.random.default_rng(4), **variants))
    if variant == "projection":
        zeros = {"projection_weights": 0 * weights.projection_weights, "projection_bias": np.array([1, -0.5, 0.25, 2])}
    else:
        zeros = {name: 0 * getattr(weights, name) for name in LAYER_NORM_COEFFICIENTS}
    samples = np.random.default_rng(1).standard_normal((20, 7, 5)).astype(np.float32)
    options = {"quantization": "int8", "representative_dataset": samples, "time_steps": 7, "verify": False}
    conversion = lt.convert(dataclasses.replace(weights, **zeros), **options)
    assert conversion.report.quantization.outputs[0].largest > 0.1
    assert conversion.report.quantization.relative_error < TOLERANCE


def test_what_can_be_checked_is_not_empty():
    assert results()["input weights of zeros"]["largest"] > 1
    assert results()["a Dense of zeros"]["largest"] == 0
