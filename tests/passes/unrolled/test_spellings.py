"""Unrolled LSTMs in every spelling become fused ops.

The oracles are the file as it was, on LiteRT, and a loop in NumPy.
"""

import dataclasses
import os

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_toolkit.passes.unrolled.fuse import fuse_unrolled, unrolled_outcomes
from lstm_toolkit.tflite import files, graph
from tests.helpers.unrolled_files import (
    GATES,
    SPELLINGS,
    Sizes,
    Spelling,
    assert_both_compute,
    computed,
    layers_for,
    run,
    unrolled_file,
)

FUSED = "UNIDIRECTIONAL_SEQUENCE_LSTM"
TOLERANCE = 1e-5
"""The hidden state is at most 1 or, with relu, 6 or so; each is a sum of a dozen float32 products."""

SIZES = st.builds(
    Sizes, batch=st.integers(1, 3), steps=st.integers(2, 6), inputs=st.integers(1, 4), units=st.integers(1, 5)
)


def calls_for(spelling, sizes, layers):
    random = np.random.default_rng(7)
    shapes = [(sizes.batch, sizes.steps, sizes.inputs)]
    if spelling.start == "given":
        for layer in layers:
            shapes += [(sizes.batch, len(layer.p if layer.p is not None else layer.b["cell"]))]
            shapes += [(sizes.batch, len(layer.b["cell"]))]
    return [[random.normal(0, 1, shape).astype(np.float32) for shape in shapes] for _ in range(3)]


@settings(max_examples=int(os.environ.get("LSTM_TOOLKIT_EXAMPLES", 60)), deadline=None, derandomize=True)
@given(spelling=SPELLINGS, sizes=SIZES, seed=st.integers(0, 9))
def test_every_spelling_becomes_the_op(spelling, sizes, seed):
    layers = layers_for(spelling, sizes, seed)
    file = unrolled_file(spelling, sizes, layers)
    model = files.read_model(file)
    outcomes = fuse_unrolled(model)
    assert [each.reason for each in outcomes] == [None] * spelling.layers
    assert {each.steps for each in outcomes} == {sizes.steps}
    counts = graph.count_operators(model)
    assert counts[FUSED] == spelling.layers
    assert not {"LOGISTIC", "MUL", "TANH", "RELU", "FULLY_CONNECTED", "BATCH_MATMUL"} & set(counts) - {"MUL"}
    fused = files.write_model(model)
    calls = calls_for(spelling, sizes, layers)
    wanted = [computed(spelling, layers, call[0], call[1:]) for call in calls]
    assert_both_compute(file, fused, calls, wanted, TOLERANCE)


def changed_weight(spelling, random):
    """A step, and what changes one weight of a copy of its layer; None where no number of the file depends on it."""
    step, gate = int(random.integers(4)), GATES[random.integers(4)]
    kind = str(random.choice(["w", "r", "b", *("p" if spelling.projection else "")]))
    starts_from_zero = step == (3 if spelling.backwards else 0) and spelling.start != "given"
    if (starts_from_zero and (kind == "r" or gate == "forget")) or (spelling.product == "hoisted" and kind == "w"):
        return None
    # A bias that is a part of the product of all steps is the same for all of them.
    if kind == "b" and spelling.product == "hoisted" and spelling.bias in ("x", "both"):
        return None
    factor = 1 + (1e-4 if kind == "b" else 2.0**-22) * float(random.choice([-1, 1]))
    factor = float(random.choice([factor, -1.0, 1.01, 0.0]))

    def change(layer, t, own):
        if layer != spelling.layers - 1 or t != step:
            return own
        copy = dataclasses.replace(
            own, **{kind: {k: v.copy() for k, v in getattr(own, kind).items()} if kind != "p" else own.p.copy()}
        )
        array = getattr(copy, kind) if kind == "p" else getattr(copy, kind)[gate]
        place = (
            np.unravel_index(np.abs(array).argmax(), array.shape)
            if kind == "b"
            else tuple(random.integers(array.shape))
        )
        array[place] *= factor
        return copy

    return change


@settings(max_examples=int(os.environ.get("LSTM_TOOLKIT_EXAMPLES", 60)), deadline=None, derandomize=True)
@given(spelling=SPELLINGS, seed=st.integers(0, 10_000))
def test_one_weight_that_differs_in_one_step_is_never_fused(spelling, seed):
    spelling = dataclasses.replace(spelling, copies=True)
    random, sizes = np.random.default_rng(seed), Sizes()
    change = changed_weight(spelling, random)
    if change is None:
        return
    layers = layers_for(spelling, sizes, seed)
    outcomes = unrolled_outcomes(files.read_model(unrolled_file(spelling, sizes, layers, change)))
    reasons = [each.reason for each in outcomes if each.op is None]
    assert len(reasons) == 1, outcomes
    assert any(word in reasons[0] for word in ("differ", "projection with the weights"))
    assert sum(each.op is not None for each in outcomes) == spelling.layers - 1


def test_a_cell_state_in_the_middle_keeps_the_steps():
    spelling, sizes = Spelling(), Sizes()
    layers = layers_for(spelling, sizes, 1)
    model = files.read_model(unrolled_file(spelling, sizes, layers))
    subgraph = model.subgraphs[0]
    adds = [op for op in subgraph.operators if graph.operator_name(model, op) == "ADD"]
    products = graph.producers(subgraph)
    names = [[graph.operator_name(model, products[i]) for i in op.inputs if i in products] for op in adds]
    cells = [op.outputs[0] for op, made in zip(adds, names, strict=True) if made == ["MUL", "MUL"]]
    assert len(cells) == 3
    subgraph.outputs = [*subgraph.outputs, cells[1]]
    (outcome,) = unrolled_outcomes(model)
    assert outcome.reason == "a cell state before its last one is used behind it"
    subgraph.outputs = [*subgraph.outputs[:-1], cells[2]]
    (outcome,) = unrolled_outcomes(model)
    assert outcome.op == FUSED


def test_outputs_of_single_steps_come_out_of_the_op():
    spelling, sizes = Spelling(backwards=True), Sizes()
    layers = layers_for(spelling, sizes, 2)
    model = files.read_model(unrolled_file(spelling, sizes, layers))
    subgraph = model.subgraphs[0]
    (pack,) = (op for op in subgraph.operators if graph.operator_name(model, op) == "PACK")
    subgraph.outputs = [pack.inputs[2], pack.inputs[0], pack.outputs[0], pack.inputs[2]]
    before = files.write_model(model)
    assert [each.op for each in fuse_unrolled(model)] == [FUSED]
    calls = calls_for(spelling, sizes, layers)
    for old, new in zip(run(before, calls), run(files.write_model(model), calls), strict=True):
        for one, other in zip(old, new, strict=True):
            np.testing.assert_allclose(other, one, atol=TOLERANCE)


def test_a_file_with_an_open_batch_stays():
    spelling, sizes = Spelling(), Sizes()
    model = files.read_model(unrolled_file(spelling, sizes, layers_for(spelling, sizes, 3)))
    model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].shapeSignature = [-1, sizes.steps, sizes.inputs]
    (outcome,) = fuse_unrolled(model)
    assert outcome.reason == "an input has an open size, and the op needs a fixed batch"
