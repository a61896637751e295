"""`RecurrentOp`: a recurrent op of a file by the names of its operands."""

import dataclasses

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite import edit
from lstm_toolkit.tflite.recurrent import RecurrentOp, recurrent_ops
from lstm_toolkit.weights.operands import ABSENT, OPERANDS, OPERANDS_OF, STATES
from tests.helpers.schema_models import empty_model

BATCH, TIME, INPUTS, UNITS = 3, 7, 5, 4


def lstm(*, absent=(), input_shape=(BATCH, TIME, INPUTS), name="UNIDIRECTIONAL_SEQUENCE_LSTM", **options):
    """A fused op with random constants, zeros as states, and some operands absent."""
    model = empty_model()
    (subgraph,) = model.subgraphs
    random, inputs = np.random.default_rng(0), []
    for operand in OPERANDS_OF[name]:
        width = INPUTS if "input_to_" in operand else UNITS
        if operand in absent or "projection" in operand:
            inputs.append(ABSENT)
        elif operand == "input":
            inputs.append(edit.add_tensor(subgraph, "x", input_shape))
        elif operand.endswith(STATES):
            inputs.append(edit.add_tensor(subgraph, f"mine/{operand}", (BATCH, UNITS), variable=True))
        else:
            values = random.normal(size=(UNITS, width) if "_to_" in operand else UNITS).astype(np.float32)
            inputs.append(edit.add_constant(model, subgraph, operand, values))
    output = edit.add_tensor(subgraph, "y", (*input_shape[:-1], UNITS))
    subgraph.operators.append(edit.new_operator(model, name, inputs, [output], **options))
    (op,) = recurrent_ops(model)
    return op


def test_operands_go_by_name():
    op = lstm(absent=("input_to_input_weights",))
    assert list(op.operands) == [
        name for name in OPERANDS if name != "input_to_input_weights" and "projection" not in name
    ]
    assert op.has("cell_state")
    assert not op.has("input_to_input_weights")
    assert op.tensor("input_to_cell_weights").name == b"input_to_cell_weights"
    assert [op.subgraph.tensors[index].name for index in op.states] == [b"mine/output_state", b"mine/cell_state"]
    assert (op.name, op.layer, op.units) == ("UNIDIRECTIONAL_SEQUENCE_LSTM", "mine", UNITS)


def test_the_operands_of_a_bidirectional_op_have_a_direction():
    op = lstm(name="BIDIRECTIONAL_SEQUENCE_LSTM")
    assert op.has("backward_input_to_cell_weights")
    assert not op.has("input_to_cell_weights")
    assert not op.is_coupled
    assert len(op.states) == 4


@pytest.mark.parametrize(
    ("shape", "time_major", "batch", "steps"),
    [((3, 7, 5), False, 3, 7), ((7, 3, 5), True, 3, 7), ((-1, 7, 5), False, -1, 7), ((-1, 3, 5), True, 3, -1)],
)
def test_batch_and_steps_follow_the_layout(shape, time_major, batch, steps):
    op = lstm(input_shape=shape, timeMajor=time_major)
    assert (op.batch, op.steps, op.is_time_major) == (batch, steps, time_major)
    assert op.time_axis == (0 if time_major else 1)


def test_an_op_over_one_step_has_no_axis_of_time():
    op = lstm(name="LSTM", input_shape=(BATCH, INPUTS))
    assert (op.batch, op.steps, op.is_time_major) == (BATCH, 1, False)


def test_it_tells_what_the_file_says_now():
    op = lstm(absent=[name for name in OPERANDS if "layer_norm" in name])
    assert (op.is_coupled, op.is_normalized, op.is_integer, op.shuts_gates) == (False, False, False, False)
    op.operator.inputs[OPERANDS.index("input_to_input_weights")] = ABSENT
    op.tensor("input").type = schema.TensorType.INT8
    shut = op.model.buffers[op.tensor("input_to_forget_weights").buffer]
    shut.data = np.full((UNITS, INPUTS), 1e4, np.float32).view(np.uint8).reshape(-1)
    assert (op.is_coupled, op.is_normalized, op.is_integer, op.shuts_gates) == (True, False, True, True)
    assert lstm().is_normalized


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        lstm().operator = None


def test_an_op_of_the_older_kind_is_none():
    op = lstm(name="LSTM", input_shape=(BATCH, INPUTS))
    op.operator.builtinOptions.kernelType = schema.LSTMKernelType.BASIC
    op.operator.inputs = op.operator.inputs[:5]
    assert not list(recurrent_ops(op.model))
    assert RecurrentOp(op.model, op.subgraph, op.operator).states == ()
