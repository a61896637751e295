"""Unrolled layers whose weights are stored in fewer bits than 32. The oracle is the file as it was, on LiteRT."""

import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit.passes import small_weights
from lstm_toolkit.passes.unrolled.fuse import fuse_unrolled
from lstm_toolkit.tflite import edit, files, graph
from tests.helpers.unrolled_cells import CellSpelling, cell_layers_for, unrolled_cells
from tests.helpers.unrolled_files import Sizes, Spelling, layers_for, run, unrolled_file

SIZES = Sizes(batch=2, steps=5, inputs=14, units=20)
TOLERANCE = 1e-5


def lstm():
    return files.read_model(unrolled_file(Spelling(), SIZES, layers_for(Spelling(), SIZES, 1)))


def gru():
    spelling = CellSpelling(has_recurrent_bias=False)
    return files.read_model(unrolled_cells(spelling, SIZES, cell_layers_for(spelling, SIZES, 2)))


def assert_same(before, after):
    calls = [[np.random.default_rng(seed).normal(0, 1, (2, 5, 14)).astype(np.float32)] for seed in range(3)]
    for old, new in zip(run(before, calls), run(after, calls), strict=True):
        np.testing.assert_allclose(new[0], old[0], atol=TOLERANCE)


def in_float16(model):
    """How many numbers of a file are constants of float16, and how many matrices of float32 are left."""
    tensors = [tensor for subgraph in model.subgraphs for tensor in subgraph.tensors]
    constants = [values for each in tensors if (values := graph.constant(model, each)) is not None]
    halves = sum(each.size for each in constants if each.dtype == np.float16)
    return halves, sum(each.ndim > 1 and bool(each.any()) for each in constants if each.dtype == np.float32)


@pytest.mark.parametrize(
    ("made", "op", "count"),
    [(lstm, "UNIDIRECTIONAL_SEQUENCE_LSTM", 4 * 20 * (14 + 20)), (gru, "WHILE", 3 * 20 * (14 + 20))],
)
def test_float16_stays_float16(made, op, count):
    model = made()
    small_weights.to_float16(model)
    before = files.write_model(model)
    repaired = lstm_toolkit.repair(before)
    assert f"({SIZES.steps} steps, {op} with float16 weights)" in repaired.changes[0].what
    model = files.read_model(repaired.tflite)
    assert graph.count_operators(model)[op] == 1
    halves, matrices = in_float16(model)
    assert (halves, matrices) == (count, 0)
    assert_same(before, repaired.tflite)


def test_a_file_of_float32_gets_no_float16():
    model = lstm()
    fuse_unrolled(model)
    assert in_float16(model)[0] == 0


def test_int8_weights_of_float_products_become_float32():
    model = lstm()
    subgraph, new = model.subgraphs[0], {}
    for operator in list(subgraph.operators):
        if graph.operator_name(model, operator) != "FULLY_CONNECTED":
            continue
        if operator.inputs[1] not in new:
            values = graph.float_constant(model, subgraph.tensors[operator.inputs[1]])
            scales = np.abs(values).max(axis=1) / 127
            stored = np.rint(values / scales[:, None]).astype(np.int8)
            source = edit.add_constant(model, subgraph, "stored", stored)
            subgraph.tensors[source].quantization = edit.scaled(scales)
            target = edit.add_tensor(subgraph, "weights", values.shape)
            dequantize = edit.new_operator(model, "DEQUANTIZE", [source], [target], version=5)
            subgraph.operators.insert(0, dequantize)
            new[operator.inputs[1]] = target
        operator.inputs[1] = new[operator.inputs[1]]
    before = files.write_model(model)
    (outcome,) = fuse_unrolled(model)
    assert outcome.reason is None
    assert (outcome.op, outcome.weights) == ("UNIDIRECTIONAL_SEQUENCE_LSTM", "float32")
    assert_same(before, files.write_model(model))


@pytest.mark.parametrize("made", [lstm, gru])
def test_products_that_round_their_inputs_stay(made):
    model = made()
    small_weights.to_int8(model)
    outcomes = fuse_unrolled(model)
    assert outcomes
    for outcome in outcomes:
        assert outcome.op is None
        assert "it has what a FULLY_CONNECTED that rounds its inputs to 8 bits computes" in outcome.reason
