"""Unrolled GRUs become loops, and unrolled simple RNNs the fused op, whatever the spelling of their steps.

The oracles are the file as it was, on LiteRT, and a loop in NumPy.
"""

import dataclasses
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_toolkit.passes.unrolled.fuse import fuse_unrolled, unrolled_outcomes
from lstm_toolkit.tflite import files, graph
from lstm_toolkit.tflite.builder import OpBuilder
from tests.helpers.schema_models import empty_model
from tests.helpers.unrolled_cells import (
    CELL_SIZES,
    GATES_OF,
    cell_layers_for,
    cell_spellings,
    computed_cells,
    unrolled_cells,
)
from tests.helpers.unrolled_files import Sizes, assert_both_compute

OPS = {"after": "WHILE", "before": "WHILE", "rnn": "UNIDIRECTIONAL_SEQUENCE_RNN"}
TOLERANCE = 1e-5
"""The hidden state is at most 1 or, with relu, some tens; each is a sum of a dozen float32 products."""


def calls_for(spelling, sizes):
    random = np.random.default_rng(7)
    shapes = [(sizes.batch, sizes.steps, sizes.inputs)]
    if spelling.start == "given":
        shapes += [(sizes.batch, sizes.units + number) for number in range(spelling.layers)]
    return [[random.normal(0, 1, shape).astype(np.float32) for shape in shapes] for _ in range(3)]


@settings(max_examples=int(os.environ.get("LSTM_TOOLKIT_EXAMPLES", 25)), deadline=None, derandomize=True)
@given(spelling=cell_spellings(), sizes=CELL_SIZES, seed=st.integers(0, 9))
def test_every_spelling_becomes_one_op(spelling, sizes, seed):
    layers = cell_layers_for(spelling, sizes, seed)
    file = unrolled_cells(spelling, sizes, layers)
    model = files.read_model(file)
    outcomes = fuse_unrolled(model)
    assert [each.reason for each in outcomes] == [None] * spelling.layers
    assert {each.steps for each in outcomes} == {sizes.steps}
    counts = graph.count_operators(model, model.subgraphs[0])
    assert counts[OPS[spelling.cell]] >= spelling.layers
    assert not {"LOGISTIC", "TANH", "RELU6", "BATCH_MATMUL", "SUB"} & set(counts)
    # The product of all inputs is one op a layer, before its loop.
    assert counts["FULLY_CONNECTED"] == (0 if spelling.cell == "rnn" else spelling.layers)
    joined = files.write_model(model)
    calls = calls_for(spelling, sizes)
    wanted = [computed_cells(spelling, layers, call[0], call[1:]) for call in calls]
    assert_both_compute(file, joined, calls, wanted, TOLERANCE)


def changed_weight(spelling, random):
    """A step, and what changes one weight of a copy of its layer; None where no number of the file depends on it."""
    step, gate = int(random.integers(5)), str(random.choice(GATES_OF[spelling.cell]))
    has_recurrent_bias = spelling.cell == "after" and spelling.has_recurrent_bias
    kind = str(random.choice(["w", "r", "b", *(["rb"] if has_recurrent_bias else [])]))
    starts_from_zero = step == (4 if spelling.backwards else 0) and spelling.start != "given"
    if starts_from_zero and kind == "r":
        return None
    # The reset gate of a state of zeros has nothing to shut; but for the recurrent bias behind it.
    if starts_from_zero and gate == "reset" and not has_recurrent_bias:
        return None
    if spelling.product == "hoisted" and (kind == "w" or (kind == "b" and spelling.bias == "x")):
        return None
    factor = 1 + (1e-4 if kind in ("b", "rb") else 2.0**-22) * float(random.choice([-1, 1]))
    factor = float(random.choice([factor, -1.0, 1.01, 0.0]))

    def change(layer, t, own):
        if layer != spelling.layers - 1 or t != step:
            return own
        copy = dataclasses.replace(own, **{kind: {each: array.copy() for each, array in getattr(own, kind).items()}})
        array = getattr(copy, kind)[gate]
        place = np.abs(array).argmax() if kind in ("b", "rb") else random.integers(array.size)
        array.reshape(-1)[place] *= factor
        return copy

    return change


@settings(max_examples=int(os.environ.get("LSTM_TOOLKIT_EXAMPLES", 25)), deadline=None, derandomize=True)
@given(spelling=cell_spellings(), seed=st.integers(0, 10_000))
def test_one_weight_that_differs_in_one_step_is_never_joined(spelling, seed):
    spelling = dataclasses.replace(spelling, copies=True)
    random, sizes = np.random.default_rng(seed), Sizes(steps=5)
    change = changed_weight(spelling, random)
    if change is None:
        return
    layers = cell_layers_for(spelling, sizes, seed)
    outcomes = unrolled_outcomes(files.read_model(unrolled_cells(spelling, sizes, layers, change)))
    reasons = [each.reason for each in outcomes if each.op is None]
    assert len(reasons) == 1, outcomes
    assert "differ" in reasons[0]
    assert sum(each.op is not None for each in outcomes) == spelling.layers - 1


@pytest.mark.parametrize("activation", ["TANH", "RELU"])
def test_dense_layers_are_no_steps(activation):
    random, model = np.random.default_rng(5), empty_model()
    ops = OpBuilder(model, model.subgraphs[0], "net")
    x = ops.tensor("x", (2, 4))
    model.subgraphs[0].inputs, weights = [x], random.normal(0, 0.5, (4, 4)).astype(np.float32)
    for each in (weights, weights, random.normal(0, 0.5, (4, 4)).astype(np.float32)):
        x = ops.unary(activation, ops.fully_connected(x, each))
    model.subgraphs[0].operators, model.subgraphs[0].outputs = ops.operators, [x]
    assert [each.op for each in unrolled_outcomes(model)] == []
