"""`inspect`: on our files, on the stock converter's, and on damaged ones."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import lstm_toolkit
from lstm_toolkit import GateWeights
from lstm_toolkit import tflite_file as tf_file
from lstm_toolkit.conversion import run_converter
from lstm_toolkit.errors import InvalidModelError

from .keras_models import randomized


@pytest.fixture(scope="module")
def model():
    lstms = [keras.layers.LSTM(6, return_sequences=True, name="first"), keras.layers.LSTM(4, name="second")]
    return randomized(keras.Sequential([keras.Input((7, 5), name="x"), *lstms]))


@pytest.fixture(scope="module")
def tflite(model):
    return lstm_toolkit.convert(model, batch_size=2).tflite


def test_nodes_have_their_weights_by_gate(model, tflite):
    summary = lstm_toolkit.inspect(tflite)
    assert summary.size == len(tflite)
    assert [node.name for node in summary.lstm_nodes] == ["first", "second"]
    for node, layer in zip(summary.lstm_nodes, model.layers, strict=True):
        for name, array in GateWeights.from_keras(layer).operands():
            np.testing.assert_array_equal(getattr(node.weights, name), array)


def test_bytes_paths_and_conversions_give_the_same(tflite, tmp_path):
    (tmp_path / "m.tflite").write_bytes(tflite)
    assert lstm_toolkit.inspect(tmp_path / "m.tflite").to_dict() == lstm_toolkit.inspect(tflite).to_dict()


def test_forms(tflite):
    summary = lstm_toolkit.inspect(tflite)
    text = str(summary)
    for part in ("UNIDIRECTIONAL_SEQUENCE_LSTM", "batch_major", "first", "[2, 7, 5]", "reset"):
        assert part in text
    assert json.loads(json.dumps(summary.to_dict()))["lstm_nodes"][1]["units"] == 4
    assert "<table>" in summary._repr_html_()


def test_a_state_that_is_not_reset_is_said_to_carry(tflite):
    model = tf_file.read_model(tflite)
    graph = model.subgraphs[0]
    graph.operators = [op for op in graph.operators if tf_file.operator_name(model, op) != "ZEROS_LIKE"]
    assert [node.state for node in lstm_toolkit.inspect(tf_file.write_model(model)).lstm_nodes] == ["carry", "carry"]


@pytest.mark.parametrize("half", [False, True])
def test_stored_dtypes_are_dequantized(model, tflite, half):
    """Weights as int8 with one scale a row, or as float16 behind a DEQUANTIZE, come back as float32."""
    from ai_edge_litert import schema_py_generated as schema

    parsed = tf_file.read_model(tflite)
    graph = parsed.subgraphs[0]
    op = next(op for op in graph.operators if tf_file.operator_name(parsed, op) == "UNIDIRECTIONAL_SEQUENCE_LSTM")
    values = tf_file.constant(parsed, graph.tensors[op.inputs[2]])
    if half:
        stored = tf_file.add_constant(parsed, graph, "half", values.astype(np.float16))
        dequantize = schema.OperatorT()
        dequantize.opcodeIndex = tf_file.operator_code(parsed, schema.BuiltinOperator.DEQUANTIZE)
        dequantize.inputs = [stored]
        dequantize.outputs = [tf_file.add_tensor(graph, "float", values.shape)]
        graph.operators.insert(0, dequantize)
        op.inputs[2] = dequantize.outputs[0]
    else:
        scale = np.abs(values).max(axis=1) / 127
        stored = tf_file.add_constant(parsed, graph, "int8", np.round(values / scale[:, None]).astype(np.int8))
        graph.tensors[stored].quantization = schema.QuantizationParametersT()
        graph.tensors[stored].quantization.scale = scale.tolist()
        graph.tensors[stored].quantization.zeroPoint = [0] * len(scale)
        op.inputs[2] = stored
    node = lstm_toolkit.inspect(tf_file.write_model(parsed)).lstm_nodes[0]
    tolerance = 2e-3 if half else np.abs(values).max() / 127
    np.testing.assert_allclose(node.weights.input_to_forget_weights, values, atol=tolerance)
    assert (node.weights.input_to_forget_weights != values).any()


def test_a_stock_file_has_no_lstm_node(model):
    fixed = keras.Sequential([keras.Input((7, 5), batch_size=1), *model.layers])
    summary = lstm_toolkit.inspect(run_converter(tf.lite.TFLiteConverter.from_keras_model(fixed)))
    assert summary.lstm_nodes == ()
    assert summary.ops["WHILE"] == 2
    assert "LSTM ops" not in str(summary)


def test_damaged_files_are_refused(tflite, tmp_path):
    with pytest.raises(InvalidModelError, match=r"is not a \.tflite file"):
        lstm_toolkit.inspect(b"")
    with pytest.raises(InvalidModelError, match="cannot read"):
        lstm_toolkit.inspect(tmp_path / "absent.tflite")
    for length in (8, 40, len(tflite) // 3):
        with pytest.raises(InvalidModelError, match="damaged"):
            lstm_toolkit.inspect(tflite[:length])


@pytest.mark.parametrize("where", ["tensor", "buffer", "opcode", "signature"])
def test_an_index_that_points_nowhere_is_refused(tflite, where):
    from ai_edge_litert.tools import flatbuffer_utils

    model = tf_file.read_model(tflite)
    graph = model.subgraphs[0]
    if where == "tensor":
        graph.operators[0].inputs = [999]
    elif where == "buffer":
        graph.tensors[0].buffer = 999
    elif where == "opcode":
        graph.operators[0].opcodeIndex = 999
    else:
        model.signatureDefs[0].inputs[0].tensorIndex = 999
    with pytest.raises(InvalidModelError, match=r"damaged"):
        lstm_toolkit.inspect(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
