"""Edits of files, and the questions that they rest on."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.passes.loops.fuse import drop_subgraphs
from lstm_toolkit.tflite import edit, files, graph
from tests.helpers.schema_models import empty_model


def test_a_tensor_like_another_keeps_its_open_sizes():
    (subgraph,) = empty_model().subgraphs
    old = edit.add_tensor(subgraph, "x", (2, -1, 6), dtype=schema.TensorType.INT8)
    new = subgraph.tensors[edit.like(subgraph, old, "copy")]
    assert (new.name, new.type, new.shape, new.shapeSignature) == (
        b"x/copy",
        schema.TensorType.INT8,
        [2, 1, 6],
        [2, -1, 6],
    )
    half = subgraph.tensors[edit.like(subgraph, old, "half", shape=(2, -1, 3), dtype=schema.TensorType.FLOAT32)]
    assert (half.type, half.shape, half.shapeSignature) == (schema.TensorType.FLOAT32, [2, 1, 3], [2, -1, 3])
    assert graph.shape_of(subgraph.tensors[old]) == (2, -1, 6)
    fixed = subgraph.tensors[edit.like(subgraph, old, "fixed", shape=(2, 7, 6))]
    assert (fixed.shape, fixed.shapeSignature) == ([2, 7, 6], None)


def test_a_tensor_like_another_has_scales_of_its_own():
    (subgraph,) = empty_model().subgraphs
    old = edit.add_tensor(subgraph, "x", (2, 6), dtype=schema.TensorType.INT8)
    scales = schema.QuantizationParametersT()
    scales.scale, scales.zeroPoint = [0.5], [3]
    new = subgraph.tensors[edit.like(subgraph, old, "copy", quantization=scales)]
    scales.scale[0] = 2.0
    assert graph.scale_of(new) == (0.5, 3)
    assert subgraph.tensors[edit.like(subgraph, old, "bare")].quantization is None


LAST = {"begin": [0, -1, 0], "beginMask": 0b101, "endMask": 0b101, "shrinkAxisMask": 0b010}


@pytest.mark.parametrize(
    ("change", "whole", "expected"),
    [
        ({}, True, True),
        ({"begin": [0, 6, 0]}, True, True),
        ({"begin": [0, 5, 0]}, True, False),
        ({"begin": [0, 0, 0]}, True, False),
        ({"beginMask": 0b111}, True, False),
        ({"endMask": 0b001}, True, False),
        ({"endMask": 0b001}, False, True),
        ({"strides": [1, 1, 2]}, False, False),
        ({"shrinkAxisMask": 0b011}, False, False),
        ({"ellipsisMask": 0b001}, False, False),
        ({"newAxisMask": 0b001}, False, False),
        ({"begin": [0, -1], "beginMask": 0b01, "endMask": 0b01}, True, True),
    ],
)
def test_what_takes_the_last_step(change, whole, expected):
    model = empty_model()
    (subgraph,) = model.subgraphs
    fields = LAST | change
    begin, strides = fields.pop("begin"), fields.pop("strides", None)
    arrays = (begin, [0] * len(begin), strides or [1] * len(begin))
    bounds = [edit.add_constant(model, subgraph, "bound", np.array(each, np.int32)) for each in arrays]
    x, y = edit.add_tensor(subgraph, "x", (2, 7, 5)), edit.add_tensor(subgraph, "y", (2, 5))
    op = edit.new_operator(model, "STRIDED_SLICE", [x, *bounds], [y], **fields)
    assert graph.takes_last_step(model, subgraph, op, 1, steps=7, whole=whole) is expected
    assert graph.takes_last_step(model, subgraph, op, 1, whole=whole) is (expected and begin[1] == -1)
    assert not graph.takes_last_step(model, subgraph, edit.new_operator(model, "ADD", [x, x], [y]), 1)


def test_pruning_renumbers_what_refers_to_what_stays():
    model = empty_model()
    (subgraph,) = model.subgraphs
    edit.add_constant(model, subgraph, "unused", np.ones(3, np.float32))
    edit.operator_code(model, schema.BuiltinOperator.MUL)
    x, y = edit.add_tensor(subgraph, "x", (3,)), edit.add_tensor(subgraph, "y", (3,))
    ones = edit.add_constant(model, subgraph, "ones", np.ones(3, np.float32))
    subgraph.operators.append(edit.new_operator(model, "ADD", [x, ones], [y]))
    subgraph.inputs, subgraph.outputs = [x], [y]
    files.prune(model)
    (op,) = subgraph.operators
    assert [tensor.name for tensor in subgraph.tensors] == [b"x", b"y", b"ones"]
    assert (list(op.inputs), list(op.outputs), subgraph.inputs, subgraph.outputs) == ([0, 2], [1], [0], [1])
    assert (graph.operator_name(model, op), len(model.operatorCodes), len(model.buffers)) == ("ADD", 1, 2)
    np.testing.assert_array_equal(graph.constant(model, subgraph.tensors[2]), np.ones(3, np.float32))


def test_calls_follow_the_subgraphs_that_stay():
    model = empty_model(subgraphs=4)
    call = edit.new_operator(model, "CALL", [], [], subgraph=3)
    loop = edit.new_operator(model, "WHILE", [], [], condSubgraphIndex=3, bodySubgraphIndex=2)
    model.subgraphs[0].operators = [call, loop]
    assert graph.called_subgraphs(loop) == [3, 2]
    assert drop_subgraphs(model, {1, 2, 3}) == 1
    assert (call.builtinOptions.subgraph, graph.called_subgraphs(loop)) == (2, [2, 1])
