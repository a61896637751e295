"""Rows of a table in int16x8: stored in 8 bits, and the same bits on both runtimes. The oracle is NumPy."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import lstm_toolkit as lt
from lstm_toolkit.passes.int16.rewrite import to_int16
from lstm_toolkit.runtime import trial
from lstm_toolkit.tflite import files, graph
from tests.helpers.models import randomized

TOKENS, SIZE = 300, 6
LARGEST_ERROR = 0.51 / 127
"""Half a step of 8 bits, and half a step of 16, as a part of the largest number of the table."""


@pytest.fixture(scope="module")
def embedding():
    tokens = keras.Input((4,), batch_size=1, dtype="int32", name="tokens")
    model = randomized(
        keras.Model(tokens, keras.layers.LSTM(5)(keras.layers.Embedding(TOKENS, SIZE)(tokens))), scale=0.5
    )
    random = np.random.default_rng(3)
    few = random.integers(0, 20, (30, 1, 4)).astype(np.int32)
    options = {"lowering": "unrolled", "target": "micro"}
    float_file = lt.convert(model, **options).tflite
    return model, float_file, lt.convert(model, quantization="int16x8", representative_dataset=few, **options)


def rows_alone(model):
    """The ops of a file up to the rows that it takes out of its table."""
    (subgraph,) = model.subgraphs
    place = next(n for n, op in enumerate(subgraph.operators) if graph.operator_name(model, op) == "GATHER")
    subgraph.operators = subgraph.operators[: place + 1]
    subgraph.outputs = list(subgraph.operators[-1].outputs)
    model.signatureDefs = []
    return graph.text(subgraph.tensors[subgraph.outputs[0]].name)


def test_rows_are_those_of_the_table_whatever_the_samples_took(embedding):
    model, float_file, _ = embedding
    parsed = files.read_model(float_file)
    name = rows_alone(parsed)
    assert to_int16(parsed, {name: (-1e-3, 1e-3)}) == []
    tflite = files.write_model(parsed)
    (table,) = (np.asarray(each) for each in model.layers[1].get_weights())
    tokens = np.random.default_rng(4).integers(0, TOKENS, (3, 1, 4)).astype(np.int32)
    interpreter = Interpreter(model_content=tflite)
    interpreter.allocate_tensors()
    for each in tokens:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], each)
        interpreter.invoke()
        given = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        assert np.abs(given - table[each]).max() <= LARGEST_ERROR * np.abs(table).max()


def test_the_table_takes_a_quarter_and_the_file_stays_right(embedding):
    _, float_file, conversion = embedding
    assert not conversion.report.quantization.kept_float
    assert conversion.report.quantization.relative_error < 2e-2
    parsed = files.read_model(conversion.tflite)
    (gather,) = (op for op in parsed.subgraphs[0].operators if graph.operator_name(parsed, op) == "GATHER")
    tensors = parsed.subgraphs[0].tensors
    assert [graph.type_name(tensors[index]) for index in (*gather.inputs, *gather.outputs)] == ["int8", "int32", "int8"]
    sizes = [max(map(_size, files.read_model(each).buffers)) for each in (float_file, conversion.tflite)]
    assert sizes == [4 * TOKENS * SIZE, TOKENS * SIZE]


def _size(buffer):
    return 0 if buffer.data is None else len(buffer.data)


@pytest.mark.skipif(not trial.is_installed("micro"), reason="TensorFlow Lite Micro is not installed")
def test_both_runtimes_give_the_same_bits(embedding):
    calls = [{"tokens": each} for each in np.random.default_rng(5).integers(0, TOKENS, (3, 1, 4)).astype(np.int32)]
    runs = [trial.run_on(runtime, [(embedding[2].tflite, calls)])[0] for runtime in ("litert", "micro")]
    assert [run.refused for run in runs] == [None, None]
    for one, other in zip(*(run.outputs for run in runs), strict=True):
        np.testing.assert_array_equal(one["output_0"], other["output_0"])
