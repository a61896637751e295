"""The facts about the released wheels that the code relies on: a new release that changes one turns these red."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

import lstm_toolkit
from lstm_toolkit import lingvo
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes import graft
from lstm_toolkit.runtime import trial
from lstm_toolkit.sources.cells import MarkOptions, marked_cell
from lstm_toolkit.stock.converter import run_converter
from lstm_toolkit.tflite import edit, files, graph
from lstm_toolkit.weights.operands import LSTM_COMPOSITE
from tests.helpers import fault_corpus
from tests.helpers.calls import by_input, run_in_a_row
from tests.helpers.models import randomized
from tests.helpers.schema_models import empty_model

FUSED = "UNIDIRECTIONAL_SEQUENCE_LSTM"
NAME = 'a "quoted" näme\\b%20\\'


def model_of(time=7, batch=1):
    return randomized(keras.Sequential([keras.Input((time, 5), batch_size=batch), keras.layers.LSTM(6)]))


def stock(model):
    return run_converter(tf.lite.TFLiteConverter.from_keras_model(model))


def test_the_stock_converter_lowers_a_keras_3_lstm_to_a_loop():
    ops = lstm_toolkit.inspect(stock(model_of())).ops
    assert ops["WHILE"] == 1
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" not in ops


def test_the_stock_converter_fails_where_the_batch_is_open():
    with pytest.raises(ConversionError, match="TensorListReserve"):
        stock(model_of(batch=None))


def marked(own_variables):
    cell = model_of().layers[0].cell
    module = tf.Module()
    if own_variables:
        module.variables_of_model = [variable.value for variable in cell.weights]
    options = MarkOptions(NAME, "lstm", "tanh", "sigmoid", fused=True)

    @tf.function(input_signature=[tf.TensorSpec([1, 7, 5])], autograph=False)
    def call(x):
        return marked_cell(cell, x, [], options)[0]

    converter = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()], module)
    converter.allow_custom_ops = True
    return files.read_model(converter.convert())


def test_a_marked_function_reaches_the_file_as_one_custom_op_with_constant_weights():
    model = marked(own_variables=True)
    (op,) = [op for op in model.subgraphs[0].operators if graph.operator_name(model, op) == LSTM_COMPOSITE]
    assert len(op.inputs) == 4
    assert len(op.outputs) == 2
    constants = [graph.constant(model, model.subgraphs[0].tensors[index]) for index in op.inputs[1:]]
    assert [array.shape for array in constants] == [(5, 24), (6, 24), (24,)]
    assert graft.graft(model).ops == {NAME: FUSED}


def test_without_ownership_of_the_variables_the_marked_function_is_inlined():
    assert LSTM_COMPOSITE not in graph.count_operators(marked(own_variables=False))


def test_the_op_has_no_linear_activation():
    """With `NONE` the kernel computes with an unwritten buffer: neither linear nor any other activation comes out."""
    model = model_of()
    parsed = files.read_model(lstm_toolkit.convert(model).tflite)
    (op,) = [op for op in parsed.subgraphs[0].operators if graph.operator_name(parsed, op) == FUSED]
    op.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.NONE
    x = np.random.default_rng(1).normal(size=(1, 7, 5)).astype(np.float32)
    model.layers[0].cell.activation = keras.activations.linear
    assert np.abs(lstm_toolkit.Runner(files.write_model(parsed))(x) - np.asarray(model(x))).max() > 0.01


@functools.cache
def converted():
    model = model_of(batch=2)
    return model, lstm_toolkit.convert(model).tflite


def with_state_cleared_by(change):
    """Two calls of a fused LSTM whose states are cleared in another way; True if the second call starts from zero."""
    model, tflite = converted()
    parsed = files.read_model(tflite)
    change(parsed, parsed.subgraphs[0])
    tflite = files.write_model(parsed)
    x = np.ones((2, 7, 5), np.float32)
    results = [each["output_0"] for each in run_in_a_row(tflite, [by_input(tflite, [x])] * 2)]
    for first in results[::2]:
        np.testing.assert_allclose(first, model(x), atol=1e-6)
    return [np.allclose(first, second, atol=1e-6) for first, second in zip(results[::2], results[1::2], strict=True)]


def test_zeros_like_clears_the_state_at_every_call():
    assert with_state_cleared_by(lambda model, subgraph: None) == [True, True]


def test_without_a_reset_the_state_leaks_into_the_next_call():
    def drop_resets(model, subgraph):
        subgraph.operators = [op for op in subgraph.operators if graph.operator_name(model, op) != "ZEROS_LIKE"]

    assert with_state_cleared_by(drop_resets) == [False, False]


@pytest.mark.parametrize("op", fault_corpus.SET_ONCE)
def test_a_constant_copied_into_the_state_clears_it_only_once(op):
    def change(model, subgraph):
        del subgraph.operators[:2]
        fault_corpus.set_once_by(op)(model)

    assert with_state_cleared_by(change)[1] is False


def computed(*steps):
    """A change that computes zeros for each state from a constant by some ops: name, dtype taken, other operands."""

    def change(model, subgraph):
        resets, subgraph.operators = subgraph.operators[:2], subgraph.operators[2:]
        for reset in resets:
            (state,), new = reset.outputs, []
            source = edit.add_constant(model, subgraph, "zeros", np.zeros((2, 6), steps[0][1]))
            for number, (name, _, *others) in enumerate(steps):
                target = edit.like(subgraph, state, "step") if number < len(steps) - 1 else state
                operands = [edit.add_constant(model, subgraph, "operand", np.array(each, np.int32)) for each in others]
                new.append(edit.new_operator(model, name, [source, *operands], [target]))
                source = target
            subgraph.operators = new + subgraph.operators

    return change


DEQUANTIZE, TRANSPOSE, RESHAPE = (
    ("DEQUANTIZE", np.float16),
    ("TRANSPOSE", np.float32, [0, 1]),
    ("RESHAPE", "f4", [2, 6]),
)
GATHER, NEGATE = ("GATHER", np.float32, [0, 1]), ("NEG", np.float32)


@pytest.mark.parametrize(
    ("steps", "at_each_call"),
    [
        ([DEQUANTIZE], False),
        ([TRANSPOSE], True),
        ([NEGATE], True),
        ([RESHAPE, GATHER], False),
        ([DEQUANTIZE, GATHER], True),
        ([RESHAPE, NEGATE], True),
    ],
)
def test_what_is_computed_from_constants_clears_the_state_once_or_at_each_call(steps, at_each_call):
    assert with_state_cleared_by(computed(*steps))[1] is at_each_call


def test_what_reads_a_state_may_run_before_the_op_that_writes_it():
    """With a delegate, ops without a tensor between them change their order; so `graft` puts one there."""
    cell = lingvo.LSTMCellSimple(num_input_nodes=5, num_output_nodes=4, name="cell", seed=1)
    signature = [tf.TensorSpec([2, 7, 5]), tf.TensorSpec([2, 7])]
    conversion = lstm_toolkit.convert(lingvo.RNN(cell), input_signature=signature, state="explicit")
    parsed = files.read_model(conversion.tflite)
    subgraph = parsed.subgraphs[0]
    (reader,) = [
        op
        for op in subgraph.operators
        if graph.operator_name(parsed, op) == "ADD_N" and subgraph.tensors[op.inputs[0]].isVariable
    ]
    reader.inputs = [reader.inputs[0], edit.add_constant(parsed, subgraph, "zeros", np.zeros((2, 4), np.float32))]
    random = np.random.default_rng(0)
    x, h, c = (random.normal(size=shape).astype(np.float32) for shape in ((2, 7, 5), (2, 4), (2, 4)))
    *_, last_c = lingvo.RNN(cell)(x, initial_state=(h, c), return_state=True)
    errors = []
    for xnnpack in (True, False):
        runner = lstm_toolkit.Runner(files.write_model(parsed), xnnpack=xnnpack)
        result = runner(inputs=x, padding=np.zeros((2, 7)), cell_h=h, cell_c=c)
        errors.append(np.abs(result["cell_c"] - last_c.numpy()).max())
    assert errors[0] > 0.01
    assert errors[1] < 1e-5


@pytest.mark.skipif(not trial.is_installed("micro"), reason="tflite-micro has no wheel for this platform")
def test_micro_takes_rows_of_int8_and_not_of_int16():
    """So `passes.int16` stores a table in 8 bits, and rescales what is taken out of it."""
    runs = {}
    for dtype, code in ((np.int8, schema.TensorType.INT8), (np.int16, schema.TensorType.INT16)):
        parsed = empty_model()
        (subgraph,) = parsed.subgraphs
        table = edit.add_constant(parsed, subgraph, "table", np.arange(21, dtype=dtype).reshape(7, 3))
        rows = edit.add_tensor(subgraph, "rows", (2,), dtype=schema.TensorType.INT32)
        output = edit.add_tensor(subgraph, "output", (2, 3), dtype=code)
        for index in (table, output):
            subgraph.tensors[index].quantization = edit.scaled(0.5)
        subgraph.operators.append(edit.new_operator(parsed, "GATHER", [table, rows], [output]))
        subgraph.inputs, subgraph.outputs = [rows], [output]
        call = {"rows": np.int32([4, 1])}
        runs[dtype] = [trial.run_on(each, [(files.write_model(parsed), [call])])[0] for each in ("litert", "micro")]
    for run in (*runs[np.int8], runs[np.int16][0]):
        assert run.outputs[0]["output"].tolist() == [[12, 13, 14], [3, 4, 5]]
    assert "INT16" in runs[np.int16][1].refused
